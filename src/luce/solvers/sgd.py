"""Stochastic gradient descent: the source text's ``W += -learning_rate * grad``, on minibatches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.utils import check_random_state

from luce.errors import InputError
from luce.loss.inputs import Array
from luce.objective import Objective
from luce.solvers.driver import State

_SCHEDULES = {
    "constant": lambda done: 1.0,
    "cosine": lambda done: 0.5 * (1.0 + np.cos(np.pi * min(done, 1.0))),
    "inverse": lambda done: 1.0 / (1.0 + 9.0 * done),
}


@dataclass(frozen=True)
class SGD:
    """Gradient descent, from the full batch to small ones, with momentum.

    Every step is ``velocity = momentum * velocity - rate * gradient; theta += velocity``; one iteration of the fit
    is one epoch, in which each sample is used once.

    Parameters
    ----------
    learning_rate : float or "auto"
        "auto" gives each feature its own rate, from its mean square, so that the scale of the features does
        not matter: the rate at which a step cannot overshoot, by the softmax's curvature of at most 1/2.
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
    It makes no claim to be exact: the fit ends after its epochs, and `gap_` says how far it is.
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
            "learning_rate": (self.learning_rate == "auto" or _positive(self.learning_rate), "> 0, or 'auto'"),
            "batch_size": (self.batch_size is None or self.batch_size >= 1, "a positive integer, or None"),
            "momentum": (0 <= self.momentum < 1, "from 0 to below 1"),
            "schedule": (self.schedule in _SCHEDULES, f"one of {', '.join(_SCHEDULES)}"),
            "epochs": (self.epochs >= 1, "a positive integer"),
            "validation_fraction": (0 <= self.validation_fraction < 1, "from 0 to below 1"),
            "patience": (self.patience >= 1, "a positive integer"),
        }
        for name, (fine, want) in wanted.items():
            if not fine:
                raise InputError(f"{name} = {getattr(self, name)!r}: pass {want}")

    def init(self, objective: Objective, theta: Array) -> State:
        """Return the state at theta, samples shuffled and some held out if asked for."""
        rng = check_random_state(self.random_state)
        rows = rng.permutation(objective.data.n_samples)
        held = int(self.validation_fraction * len(rows))
        memory = {
            "rng": rng,
            "rows": rows[held:],
            "held_out": objective.take(rows[:held]).with_penalty(0.0) if held else None,
            "rates": self._rates(objective),
            "velocity": np.zeros(objective.shape),
            "epochs": 0,
            "best": (np.inf, theta, 0),
        }
        return State(theta, objective.value(theta), memory=memory)

    def step(self, objective: Objective, state: State) -> State:
        """Go once through the samples."""
        memory = state.memory
        rows = memory["rng"].permutation(memory["rows"])
        size = len(rows) if self.batch_size is None else min(self.batch_size, len(rows))
        theta, values = state.theta, []
        for start in range(0, len(rows), size):
            batch = objective if size == objective.data.n_samples else objective.take(rows[start : start + size])
            done = (memory["epochs"] + start / len(rows)) / self.epochs
            theta, value = self._descend(batch, theta, memory, done)
            values.append(value)
        memory["epochs"] += 1
        new = State(theta, float(np.mean(values)), memory=memory, ended=memory["epochs"] >= self.epochs)
        if memory["held_out"] is not None:
            self._watch(memory["held_out"], new)
        return new

    def begin(self, objective: Objective, theta: Array) -> State:
        """Return the state from which to learn on a stream whose first samples these are (partial_fit)."""
        return State(
            theta, np.inf, memory={"velocity": np.zeros(objective.shape), "rates": self._rates(objective)}
        )

    def learn(self, objective: Objective, state: State) -> State:
        """Take one step on each batch of these samples, in their order.

        The rate does not fall, since nobody knows how many samples are still to come.
        """
        n = objective.data.n_samples
        size = n if self.batch_size is None else min(self.batch_size, n)
        value = state.value
        for start in range(0, n, size):
            batch = objective.take(slice(start, start + size))
            state.theta, value = self._descend(batch, state.theta, state.memory, 0.0)
        state.value = value
        return state

    def _descend(
        self, batch: Objective, theta: Array, memory: dict[str, Any], done: float
    ) -> tuple[Array, float]:
        """One step, ``W += -learning_rate * grad`` with momentum; return the new point, the loss at the old."""
        value, gradient = batch.value_and_gradient(theta)
        rate = memory["rates"] * _SCHEDULES[self.schedule](done)
        memory["velocity"] = self.momentum * memory["velocity"] - rate * gradient
        return theta + memory["velocity"], value

    def _rates(self, objective: Objective) -> Array:
        if self.learning_rate != "auto":
            return np.full((objective.shape[0], 1), float(self.learning_rate))
        square = objective.moments()[1]
        square = square + 1e-2 * square.mean() if square.any() else square + 1.0  # rare features: no leaps
        if objective.fit_intercept:
            square = np.append(square, 1.0)
        # with the features divided by their root mean square, ||x||^2 is D on average
        curvature = 0.5 * len(square) + objective.reg
        return ((1.0 - self.momentum) * 16.0 / (curvature * square))[:, None]

    def _watch(self, held_out: Objective, state: State) -> None:
        loss, (best, _, since) = held_out.value(state.theta), state.memory["best"]
        state.memory["best"] = (loss, state.theta, 0) if loss < best else (*state.memory["best"][:2], since + 1)
        if state.memory["best"][2] >= self.patience or state.ended:
            state.theta, state.ended = state.memory["best"][1], True


def _positive(value: Any) -> bool:
    return isinstance(value, (int, float)) and 0 < value < np.inf
