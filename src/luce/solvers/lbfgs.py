"""L-BFGS that starts from the curvature of the problem instead of a multiple of the identity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from luce.loss.inputs import Array
from luce.objective import Objective
from luce.solvers.certificate import Inverse
from luce.solvers.driver import State
from luce.solvers.linesearch import Point, search

class Curvature:
    """The inverse of A (x) S + reg I: classes by classes times features by features.

    The Hessian is the mean over samples of (diag(p) - p p^T) (x) x x^T; the product of the two means, A and
    the covariance S of the features, is near it, and its inverse takes two small eigendecompositions: that of
    S serves all classes, all strengths of the penalty and every A. With an intercept the features are
    centred, which makes the intercept a block of its own. Where D is large against the work of a pass, only
    the diagonal of S is used.
    """

    def __init__(self, objective: Objective) -> None:
        self.objective = objective
        self.e, self.Q, self.mean = objective.shared("features", lambda: _features(objective))

    def preconditioner(self, A: Array) -> Inverse:
        """Return theta-shaped gradients' map to descent directions, for a mean class curvature A."""
        a, R = np.linalg.eigh(A)
        seen = a > 1e-8 * a[-1]  # not the flat direction: one vector added to all classes
        a = np.where(seen, a, a[-1] if a[-1] > 0 else 1.0)
        width = np.multiply.outer(self.e, a) + self.objective.reg
        width = np.maximum(width, 1e-10 * width.max(initial=1e-300))
        Q, mean, has_intercept = self.Q, self.mean, self.objective.fit_intercept

        def apply(gradient: Array) -> Array:
            G = self.objective.weights(gradient)
            if has_intercept:
                G = G - np.outer(mean, gradient[-1])
            W = G @ R if Q is None else Q.T @ G @ R
            W = (W / width) @ R.T
            if Q is not None:
                W = Q @ W
            if not has_intercept:
                return W
            intercept = ((gradient[-1] @ R) / a) @ R.T - mean @ W
            return np.vstack([W, intercept])

        return apply


def _features(objective: Objective) -> tuple[Array, Array | None, Array]:
    """Return eigenvalues and eigenvectors of the features' covariance, or its diagonal, and their mean."""
    D, C = objective.data.n_features, objective.data.n_classes
    N = objective.data.n_samples
    if D <= 4096 and D * D <= 30 * N * C:
        every = max(1, N // (20 * D + 1000))
        sample = objective.take(slice(None, None, every)) if every > 1 else objective
        if D <= 256:
            sample = sample.in_dtype(np.float64)
        S, mean = sample.gram()
        if objective.fit_intercept:
            S = S - np.outer(mean, mean)
        e, Q = np.linalg.eigh(S)
        return np.maximum(e, 0.0), Q, mean
    mean, second = objective.moments()
    e = second - np.square(mean) if objective.fit_intercept else second
    return np.maximum(e, 0.0), None, mean


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
        curvature = Curvature(objective)
        point = Point(theta, *objective.value_and_gradient(theta))
        memory: dict[str, Any] = {"gradient": point.gradient, "pairs": [], "curvature": curvature, "count": 0}
        state = State(theta, point.value, inverse=_inverse(memory), memory=memory)
        _refresh(objective, state)
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
        s, y = point.theta - start.theta, point.gradient - start.gradient
        if np.vdot(s, y) > np.finfo(objective.dtype).eps * np.linalg.norm(s) * np.linalg.norm(y):
            pairs.append((s, y))
            del pairs[: -_room(self.history, s.size)]
        count = memory["count"] = memory["count"] + 1
        memory["gradient"] = point.gradient
        state = State(point.theta, point.value, inverse=_inverse(memory), memory=memory)
        if _due(count):
            _refresh(objective, state)
        if count % 5 == 0 or len(pairs) * point.theta.size < 1_000_000:
            _estimate_gap(objective, state)
        return state


def _room(history: int, size: int) -> int:
    """Return how many pairs to keep: fewer where each is large."""
    return int(np.clip(100_000_000 // size, 3, history))


def _due(count: int) -> bool:
    """Whether to look at the curvature again: after 2, 5, 10, 20, 40, 80, ... steps."""
    return count in (2, 5) or (count % 10 == 0 and (count // 10).bit_count() == 1)


def _refresh(objective: Objective, state: State) -> None:
    curvature = state.memory["curvature"]
    every = max(1, objective.data.n_samples // (5000 + 50 * objective.data.n_classes))
    sample = objective.take(slice(None, None, every)) if every > 1 else objective
    state.memory["preconditioner"] = curvature.preconditioner(sample.class_curvature(state.theta))


def _inverse(memory: dict[str, Any]) -> Inverse:
    pairs = list(memory["pairs"])
    return lambda gradient: _two_loops(pairs, memory["preconditioner"], gradient)


def _two_loops(pairs: list[tuple[Array, Array]], inverse: Inverse, gradient: Array) -> Array:
    q = gradient.copy()
    shares = []
    for s, y in reversed(pairs):
        share = float(np.vdot(s, q)) / float(np.vdot(s, y))
        shares.append(share)
        q -= share * y
    r = inverse(q)
    for (s, y), share in zip(pairs, reversed(shares), strict=True):
        r += (share - float(np.vdot(y, r)) / float(np.vdot(s, y))) * s
    return r


def _estimate_gap(objective: Objective, state: State) -> None:
    """Set the direction, among those spanned by the pairs, whose certificate is best, and what it would prove.

    With d = sum_j mu_j s_j and the loss's part of the curvature, H0 d = sum_j mu_j (y_j - reg s_j), the bound
    of :mod:`luce.solvers.certificate` is, to second order, ``d.H0 d / 2 + ||g + H0 d||^2 / (2 reg)`` over the
    weights: a quadratic in mu, without a pass over the data.
    """
    reg, pairs = objective.reg, state.memory["pairs"]
    gradient = state.memory["gradient"]
    simple = float(np.square(objective.weights(gradient)).sum()) / (2 * reg) if reg > 0 else np.inf
    state.gap, state.direction = simple, None
    if not pairs or reg == 0:
        return
    n = objective.weights(gradient).size  # the intercept, if any, comes after the weights
    S = np.stack([s.ravel() for s, _ in pairs])
    Y = np.stack([y.ravel() for _, y in pairs])
    Y[:, :n] -= reg * S[:, :n]
    inner = S @ Y.T
    inner = (inner + inner.T) / 2
    square = Y[:, :n] @ Y[:, :n].T / reg
    slope = -(Y[:, :n] @ gradient.ravel()[:n]) / reg
    values, vectors = np.linalg.eigh(inner + square)
    used = values > 1e-10 * values[-1]
    vectors = vectors[:, used]
    mu = vectors @ ((vectors.T @ slope) / values[used])
    residual = gradient.ravel()[:n] + mu @ Y[:, :n]
    bound = 0.5 * float(mu @ inner @ mu) + float(residual @ residual) / (2 * reg)
    if 0 < bound < simple:
        state.gap, state.direction = bound, (mu @ S).reshape(objective.shape)
