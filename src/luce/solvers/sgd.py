"""Stochastic gradient descent: the source text's ``W += -learning_rate * grad``, on minibatches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.utils import check_random_state

from luce.errors import InputError
from luce.loss.inputs import Array
from luce.objective import Objective
from luce.solvers.driver import State

_SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda done: 1.0,
    "cosine": lambda done: 0.5 * (1.0 + float(np.cos(np.pi * done))),
    "inverse": lambda done: 1.0 / (1.0 + 9.0 * done),
}
_DECAY = 3  # of the average over a stream: the power of the weight by which its points count
_CURVATURE = 0.5  # of the loss in the scores, at most (Böhning, 1992)


@dataclass(frozen=True)
class SGD:
    """Gradient descent on minibatches or on the full batch, with momentum.

    A step is ``velocity = momentum * velocity - rate * gradient; theta += velocity``, the heavy ball of
    Polyak (1964). One iteration of the fit is one epoch: each sample is used once.

    Parameters
    ----------
    learning_rate : float or "auto"
        "auto" takes the steps that plain gradient descent would take on standardised features, at a rate
        that the curvature of the loss allows: neither the scale of the features nor their zero matters.
        The rate counts momentum in: what a gradient moves theta by in the end does not depend on it.
    batch_size : int or None
        None for the full batch.
    momentum : float
        From 0 to below 1.
    schedule : {"cosine", "constant", "inverse"}
        How the rate falls over the epochs: to zero along half a cosine, not at all, or to a tenth as 1 / t.
    epochs : int
        At most this many, fewer if the fit's max_iter or early stopping says so.
    validation_fraction : float
        Share of the samples held out to watch, from 0 (none: no early stopping) to below 1.
    patience : int
        The fit ends after so many epochs without a better held-out loss, and keeps the best.
    random_state : int, RandomState instance or None
        Of the order of the samples and of those held out.

    Notes
    -----
    The loss of an epoch is the mean over its steps, each before it was taken. Nothing is claimed to be exact:
    the fit ends after its epochs, and `gap_` says how far from the optimum that is.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from luce import SoftmaxClassifier
    >>> from luce.solvers import SGD
    >>> X, y = load_digits(return_X_y=True)
    >>> model = SoftmaxClassifier(solver=SGD(epochs=5, random_state=0)).fit(X, y)
    >>> bool(model.score(X, y) > 0.95)
    True
    """

    learning_rate: float | str = "auto"
    batch_size: int | None = 32
    momentum: float = 0.9
    schedule: str = "cosine"
    epochs: int = 20
    validation_fraction: float = 0.0
    patience: int = 5
    random_state: Any = None

    def __post_init__(self) -> None:
        wanted = {
            "learning_rate": (
                self.learning_rate == "auto" or _positive(self.learning_rate),
                "a number > 0, or 'auto'",
            ),
            "batch_size": (self.batch_size is None or _count(self.batch_size), "a positive integer, or None"),
            "momentum": (0 <= self.momentum < 1, "a number from 0 to below 1"),
            "schedule": (self.schedule in _SCHEDULES, f"one of {', '.join(_SCHEDULES)}"),
            "epochs": (_count(self.epochs), "a positive integer"),
            "validation_fraction": (0 <= self.validation_fraction < 1, "a number from 0 to below 1"),
            "patience": (_count(self.patience), "a positive integer"),
        }
        for name, (fine, want) in wanted.items():
            if not fine:
                raise InputError(f"{name} = {getattr(self, name)!r}: pass {want}")

    def init(self, objective: Objective, theta: Array) -> State:
        """Return the state at theta, some samples held out if asked for."""
        if objective.l1 > 0:
            raise InputError(
                "solver=SGD cannot do an l1_ratio above 0: the absolute penalty has no gradient; "
                "pass solver='proximal' or 'auto'"
            )
        rng = check_random_state(self.random_state)
        memory = {
            **self._rows(objective, rng),
            "best": (np.inf, theta, 0),  # held-out loss, where, and how many epochs ago
            "epochs": 0,
            "velocity": np.zeros_like(theta),
            **self._rates(objective, *objective.moments()),
        }
        return State(theta, objective.value(theta), memory=memory)

    def pack(self, state: State) -> dict[str, Any]:
        """Return what the state remembers, but for what :meth:`unpack` finds out again from the data."""
        memory = state.memory
        loss, where, ago = memory["best"]
        drawn = {"dealt": memory["dealt"], "next": memory["rng"].get_state()}
        return {
            "velocity": memory["velocity"],
            "best": where,
            "best_loss": loss,
            "ago": ago,
            "epochs": memory["epochs"],
            "ended": state.ended,
            **{f"{when}_keys": rng[1] for when, rng in drawn.items()},
            **{f"{when}_position": int(rng[2]) for when, rng in drawn.items()},
        }

    def unpack(self, objective: Objective, theta: Array, value: float, packed: dict[str, Any]) -> State:
        """Return the state that was packed: the fit goes on as if it had never stopped."""
        rng = np.random.RandomState()
        rng.set_state(("MT19937", packed["dealt_keys"], packed["dealt_position"], 0, 0.0))
        memory = {
            **self._rows(objective, rng),
            "best": (packed["best_loss"], packed["best"], packed["ago"]),
            "epochs": packed["epochs"],
            "velocity": packed["velocity"],
            **self._rates(objective, *objective.moments()),
        }
        rng.set_state(("MT19937", packed["next_keys"], packed["next_position"], 0, 0.0))
        return State(theta, value, memory=memory, ended=packed["ended"])

    def _rows(self, objective: Objective, rng: np.random.RandomState) -> dict[str, Any]:
        """Deal the samples to those that are learned from and those that are held out."""
        dealt = rng.get_state()
        rows = rng.permutation(objective.data.n_samples)
        n_held = int(self.validation_fraction * len(rows))
        held_out = objective.take(rows[:n_held]).with_penalty(0.0)
        return {
            "rng": rng,
            "dealt": dealt,
            "rows": rows[n_held:],
            "held_out": held_out if held_out.data.total_weight > 0 else None,
        }

    def step(self, objective: Objective, state: State) -> State:
        """Go once through the samples, in an order drawn anew."""
        memory = state.memory
        rows = memory["rng"].permutation(memory["rows"])
        size = min(self.batch_size or len(rows), len(rows))
        N, theta, total = objective.data.n_samples, state.theta, 0.0
        for start in range(0, len(rows), size):
            batch = objective.take(rows[start : start + size])
            n = batch.data.n_samples
            weight = (batch.data.total_weight / n) / (objective.data.total_weight / N)
            done = (memory["epochs"] + start / len(rows)) / self.epochs
            theta, value = self._descend(batch, weight, theta, memory, done)
            total += n * value
        objective.count_passes(len(rows) / N)
        memory["epochs"] += 1
        new = State(theta, total / len(rows), memory=memory, ended=memory["epochs"] >= self.epochs)
        if memory["held_out"] is not None:
            self._watch(memory["held_out"], new)
        return new

    def begin(self, objective: Objective, theta: Array) -> State:
        """Return the state from which :meth:`learn` goes on."""
        D = objective.data.n_features
        memory = {
            "velocity": np.zeros_like(theta),
            "average": theta,
            "weight": 0.0,
            "first": np.zeros(D),
            "second": np.zeros(D),
        }
        return State(theta, np.inf, memory=memory)

    def learn(self, objective: Objective, state: State) -> State:
        """Go once through these samples, in their order.

        They are some of a stream that may never end, so the rate does not fall; what it knows of the features
        comes from all samples so far. `value` is the objective at the last batch before its step. The steps
        swing about the optimum; memory["average"] does not: it is the mean of the points so far, which count
        as the cube of the weight seen before them (polynomial-decay averaging; Shamir & Zhang, 2013).
        """
        memory, data = dict(state.memory), objective.data
        seen = memory["weight"]
        memory["weight"] += data.total_weight
        for name, here in zip(("first", "second"), objective.moments(), strict=True):
            memory[name] = memory[name] + (here - memory[name]) * (data.total_weight / memory["weight"])
        memory.update(self._rates(objective, memory["first"], memory["second"]))
        size = min(self.batch_size or data.n_samples, data.n_samples)
        theta, value = state.theta, state.value
        for start in range(0, data.n_samples, size):
            batch = objective.take(slice(start, start + size))
            weight = (batch.data.total_weight / batch.data.n_samples) / (data.total_weight / data.n_samples)
            theta, value = self._descend(batch, weight, theta, memory, 0.0)
            if batch.data.total_weight > 0:
                seen += batch.data.total_weight
                share = 1.0 - (1.0 - batch.data.total_weight / seen) ** (_DECAY + 1)
                memory["average"] = memory["average"] + share * (theta - memory["average"])
        return State(theta, value, memory=memory)

    def _descend(
        self, batch: Objective, weight: float, theta: Array, memory: dict[str, Any], done: float
    ) -> tuple[Array, float]:
        """Take one step; return the new point, and the objective at the old one as this batch has it.

        `weight` is what its samples weigh on average: their loss counts that much against the penalty.
        """
        if weight == 0.0:
            return theta, 0.0
        value, gradient = batch.with_penalty(batch.reg / weight).value_and_gradient(theta)
        move = _scaled(batch, weight * gradient, memory["rates"], memory["mean"])
        memory["velocity"] = self.momentum * memory["velocity"] - _SCHEDULES[self.schedule](done) * move
        return theta + memory["velocity"], weight * value

    def _rates(self, objective: Objective, mean: Array, square: Array) -> dict[str, Array]:
        """Return the rate of each row of theta (D', 1) and the mean at which features are centred (D,).

        With B standardised samples in a batch, steps of one rate shrink the error on average while that is
        below about 1 / (c (lambda + D / B)): c is the curvature of the loss in the scores, lambda the largest
        eigenvalue of the features' correlations, and D the mean of ||x||^2.
        """
        if not isinstance(self.learning_rate, str):
            return {
                "rates": np.full((objective.shape[0], 1), self.learning_rate),
                "mean": np.zeros_like(mean),
            }
        if not objective.fit_intercept:
            mean = np.zeros_like(mean)
        spread = np.maximum(square - np.square(mean), 1e-4 * square)  # a constant feature is not blown up
        spread = np.where(spread > 0, spread, 1.0)
        size = min(self.batch_size or np.inf, objective.data.n_samples)
        curvature = _CURVATURE * (_correlation(objective, mean, spread) + len(mean) / size)
        rates = 1.0 / (curvature * spread + objective.reg)
        if objective.fit_intercept:
            rates = np.append(rates, 1.0 / curvature)
        return {"rates": (1.0 - self.momentum) * rates[:, None], "mean": mean}

    def _watch(self, held_out: Objective, state: State) -> None:
        """Remember the best point on the held-out samples, and end the fit there."""
        best, where, ago = state.memory["best"]
        loss = held_out.value(state.theta)
        best, where, ago = (loss, state.theta, 0) if loss < best else (best, where, ago + 1)
        state.memory["best"] = best, where, ago
        if state.ended or ago >= self.patience:
            state.theta, state.ended = where, True


def _scaled(objective: Objective, gradient: Array, rates: Array, mean: Array) -> Array:
    """Return the step that the gradient times `rates` would be if the features were centred at `mean`."""
    if not objective.fit_intercept:
        return rates * gradient
    centred = gradient.copy()
    centred[:-1] -= np.outer(mean, gradient[-1])
    step = rates * centred
    step[-1] -= mean @ step[:-1]
    return step


def _correlation(objective: Objective, mean: Array, spread: Array) -> float:
    """Return the largest eigenvalue of the features' correlations, by power iteration on a few samples.

    It is that of the scaled Hessian at zero, where the curvature in the scores is (I - 1/C) / C.
    """
    every = max(1, objective.data.n_samples // 2000)
    sample = objective.take(slice(None, None, every)).with_penalty(0.0)
    if not sample.data.total_weight > 0:
        return float(len(mean))
    rates = 1.0 / np.append(spread, 1.0)[: objective.shape[0], None]
    zero = np.zeros(objective.shape)
    _, slope = sample.value_and_gradient(zero)
    growths = []  # of vectors of length 1 (but the first): below the eigenvalue, and nearing it
    for _ in range(8):
        step = _scaled(sample, slope, rates, mean)
        growth = np.sqrt(float(np.vdot(step, slope)))
        if not growth > 0:
            break
        growths.append(growth)
        slope = sample.hessian_product(zero, step / growth)
    return max(1.0, objective.shape[1] * max(growths[1:], default=0.0))


def _positive(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and 0 < float(value) < np.inf


def _count(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= 1
