"""L-BFGS that starts from the curvature of the problem instead of a multiple of the identity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from luce.loss.inputs import Array
from luce.objective import Objective
from luce.solvers.certificate import Inverse, settled
from luce.solvers.curvature import Blocks, Product
from luce.solvers.driver import State
from luce.solvers.linesearch import Point, search

Pair: TypeAlias = tuple[Array, Array]  # a step and the difference that it made to the gradient


@dataclass(frozen=True)
class LBFGS:
    """L-BFGS on the curvature of the problem, with a free estimate of the gap from its own pairs.

    Parameters
    ----------
    history : int
        How many pairs of steps and gradient differences are kept, at most.
    """

    history: int = 30

    def init(self, objective: Objective, theta: Array) -> State:
        """Return the state at theta: one gradient, one Gram matrix."""
        if objective.reg > 0:
            theta = theta - theta.mean(axis=1, keepdims=True)  # what all classes share only costs penalty
        point = Point(theta, *objective.value_and_gradient(theta))
        memory: dict[str, Any] = {"gradient": point.gradient, "reg": objective.reg, "pairs": [], "count": 0}
        state = State(theta, point.value, memory=memory)
        _refresh(objective, state)
        return state

    def resume(self, objective: Objective, state: State, theta: Array | None = None) -> State:
        """Return a state under another penalty, at the same theta, which costs no gradient, or at another.

        A penalty changes the gradient by a multiple of the weights and a pair's difference by one of its
        step, so all that was learnt stays true.
        """
        more = objective.reg - state.memory["reg"]
        weights = objective.weights(state.theta)
        gradient = state.memory["gradient"].copy()
        objective.weights(gradient)[...] += more * weights
        memory = {**state.memory, "gradient": gradient, "reg": objective.reg}
        memory["pairs"] = _under(objective, state.memory["pairs"], more, state.value)
        value = state.value + 0.5 * more * float(np.vdot(weights, weights))
        if theta is not None:
            point = Point(theta, *objective.value_and_gradient(theta))
            self._learn(objective, memory, point.theta - state.theta, point.gradient - gradient)
            memory["gradient"] = point.gradient
        else:
            point = Point(state.theta, value, gradient)
        state = State(point.theta, point.value, memory=memory)
        if memory["blocks"]:
            memory["due"] = min(memory["due"], memory["count"] + max(10.0, Blocks.cost(objective)))
            state.inverse = _inverse(memory)
        else:
            _refresh(objective, state)
        if theta is not None:
            _estimate_gap(objective, state)
        return state

    def step(self, objective: Objective, state: State) -> State:
        """Go along the quasi-Newton direction; now and then, look at the curvature again."""
        memory, pairs = state.memory, state.memory["pairs"]
        start = Point(state.theta, state.value, memory["gradient"])
        assert state.inverse is not None
        direction = -state.inverse(start.gradient)
        point = search(objective, start, direction)
        if point is None:
            if not pairs:
                state.stalled = True
                return state
            pairs.clear()  # what they say may be rounding by now
            state.inverse = _inverse(memory)
            return state
        self._learn(objective, memory, point.theta - start.theta, point.gradient - start.gradient)
        count = memory["count"] = memory["count"] + 1
        memory["gradient"] = point.gradient
        state = State(point.theta, point.value, memory=memory)
        if count >= memory["due"]:
            _refresh(objective, state)
        state.inverse = _inverse(memory)
        if count % 5 == 0 or len(pairs) * point.theta.size < 1_000_000:
            _estimate_gap(objective, state)
        return state

    def move(self, objective: Objective, state: State, theta: Array) -> State:
        """Return the state at another point, having learnt from the way, or the same if it is no better."""
        point = Point(theta, *objective.value_and_gradient(theta))
        if not point.value < state.value:
            return state
        memory = {**state.memory, "pairs": list(state.memory["pairs"]), "gradient": point.gradient}
        self._learn(objective, memory, theta - state.theta, point.gradient - state.memory["gradient"])
        moved = State(theta, point.value, memory=memory)
        moved.inverse = _inverse(memory)
        _estimate_gap(objective, moved)
        return moved

    def _learn(self, objective: Objective, memory: dict[str, Any], s: Array, y: Array) -> None:
        """Keep a step and the difference that it made to the gradient."""
        if np.vdot(s, y) > np.finfo(objective.dtype).eps * np.linalg.norm(s) * np.linalg.norm(y):
            memory["pairs"].append((s, y))
            del memory["pairs"][: -_room(self.history, s.size)]


def _room(history: int, size: int) -> int:
    """Return how many pairs to keep: fewer where each is large."""
    return int(np.clip(100_000_000 // size, 3, history))


def _under(objective: Objective, pairs: list[Pair], more: float, loss: float) -> list[Pair]:
    """Return the pairs under a penalty stronger by `more`, but for those that are mostly rounding.

    The loss's part of y is a difference of two means of x (p - y), whose terms are about as large as it.
    """
    size = float(np.sqrt(objective.moments()[1].sum() + objective.fit_intercept))
    noise = 10 * float(np.finfo(objective.dtype).eps) * loss * size
    moved = []
    for s, y in pairs:
        weights = objective.weights(s)
        y = y.copy()
        objective.weights(y)[...] += more * weights
        curvature = float(np.vdot(s, y)) - objective.reg * float(np.vdot(weights, weights))
        if curvature > noise * float(np.linalg.norm(s)):
            moved.append((s, y))
    return moved


def _refresh(objective: Objective, state: State) -> None:
    """Look at the curvature at this point, and say after which iteration to look again."""
    memory, count = state.memory, state.memory["count"]
    every = max(1, objective.data.n_samples // (5000 + 50 * objective.data.n_classes))
    sample = objective.take(slice(None, None, every)) if every > 1 else objective
    A = sample.class_curvature(state.theta)
    if "start" in memory and A.max() < 1e-12:  # all samples are settled: there is hardly any curvature left
        memory["due"] = np.inf
        return
    worth = max(10.0, Blocks.cost(objective))  # iterations before blocks pay for themselves
    memory["blocks"] = count >= worth
    if memory["blocks"]:
        memory["start"] = Blocks(objective, state.theta, A).inverse
    else:
        memory["start"] = Product.of(objective).inverse(objective, A)
    memory["due"] = min(max(2 * count, 3), worth) if count < worth else count + max(worth, 0.25 * count)
    state.inverse = _inverse(memory)


def _inverse(memory: dict[str, Any]) -> Inverse:
    pairs = list(memory["pairs"])
    start = memory["start"]
    return lambda gradient: _two_loops(pairs, start, gradient)


def _two_loops(pairs: list[tuple[Array, Array]], start: Inverse, gradient: Array) -> Array:
    q = gradient.copy()
    shares = []
    for s, y in reversed(pairs):
        share = float(np.vdot(s, q)) / float(np.vdot(s, y))
        shares.append(share)
        q -= share * y
    r = start(q)
    for (s, y), share in zip(pairs, reversed(shares), strict=True):
        r += (share - float(np.vdot(y, r)) / float(np.vdot(s, y))) * s
    return r


def _estimate_gap(objective: Objective, state: State) -> None:
    """Set the direction, among those spanned by the pairs, whose certificate is best, and what it proves.

    With d = sum_j mu_j s_j and the loss's part of the curvature, H0 d = sum_j mu_j (y_j - reg s_j), the bound
    of :mod:`luce.solvers.certificate` is, to second order, ``d.H0 d / 2 + ||g + H0 d||^2 / (2 reg)``: a
    quadratic in mu, without a pass over the data.
    """
    reg, pairs = objective.reg, state.memory["pairs"]
    left = settled(objective, state.memory["gradient"]).ravel()
    simple = float(left @ left) / (2 * reg) if reg > 0 else np.inf
    state.gap, state.direction = simple, None
    if not pairs or reg == 0:
        return
    S = np.stack([s.ravel() for s, _ in pairs])
    H = np.stack([y.ravel() for _, y in pairs])
    n = objective.weights(state.theta).size  # the intercept, if any, comes after the weights
    H[:, :n] -= reg * S[:, :n]
    R = settled(objective, H.reshape(-1, *objective.shape)).reshape(len(H), -1)
    inner = S @ H.T
    inner = (inner + inner.T) / 2
    square = R @ R.T / reg
    slope = -(R @ left) / reg
    values, vectors = np.linalg.eigh(inner + square)
    used = values > 1e-10 * values[-1]
    vectors = vectors[:, used]
    mu = vectors @ ((vectors.T @ slope) / values[used])
    residual = left + mu @ R
    bound = 0.5 * float(mu @ inner @ mu) + float(residual @ residual) / (2 * reg)
    if 0 < bound < simple:
        state.gap, state.direction = bound, (mu @ S).reshape(objective.shape)
