"""What L-BFGS remembers: its last steps, and the difference that each made to the gradient."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from luce.arrays import add_times, astype, dot, namespace, norm, on_host
from luce.loss.inputs import Array
from luce.objective import Objective
from luce.solvers.certificate import Inverse, settled

_RECENT = 5  # pairs that say how far the curvature is from where the start was made
_CHUNK = 1 << 20  # numbers that an estimate takes at a time


@dataclass
class Pair:
    """A step s, the difference y that it made to the gradient, s . y, and that over y . H0 y once known."""

    s: Array
    y: Array
    product: float
    ratio: float | None = None


class History:
    """The last pairs, and the inverse Hessian that they make of a start H0 once it has one.

    H0 is scaled by the geometric mean of ``s.y / y.H0 y`` over the last few pairs: by how much the curvature
    has changed from where H0 was made.

    Parameters
    ----------
    room : int
        How many pairs are kept, at most.
    dtype : dtype
        Of the pairs: they need no more digits than the gradients have.

    Attributes
    ----------
    dtype : dtype
    """

    def __init__(self, room: int, dtype: Any) -> None:
        self._room = room
        self.dtype = np.dtype(dtype)
        self._start: Inverse = lambda gradient: gradient
        self._pairs: list[Pair] = []

    def __len__(self) -> int:
        return len(self._pairs)

    def __iter__(self) -> Iterator[Pair]:
        return iter(self._pairs)

    def clear(self) -> None:
        """Forget all pairs."""
        self._pairs = []

    def empty(self) -> History:
        """Return a history of the same kind, with the same start and no pairs."""
        other = History(self._room, self.dtype)
        other._start = self._start
        return other

    def add(self, s: Array, y: Array) -> None:
        """Keep a pair, in place of the oldest where there is no room, unless it is mostly rounding."""
        product = dot(s, y)
        if product > np.finfo(self.dtype).eps * norm(s) * norm(y):
            self._pairs = [*self._pairs[-self._room + 1 :], Pair(s, y, product)]

    def restart(self, start: Inverse) -> None:
        """Take another H0."""
        self._start = start
        self._pairs = [Pair(pair.s, pair.y, pair.product) for pair in self._pairs]

    def _scale(self) -> float:
        logs = []
        for pair in self._pairs[-_RECENT:]:
            if pair.ratio is None:
                against = dot(pair.y, astype(self._start(pair.y), self.dtype))
                pair.ratio = pair.product / against if against > 0 else 1.0  # negative by rounding alone
            logs.append(np.log(pair.ratio))
        return float(np.exp(np.mean(logs)))

    def inverse(self, gradient: Array) -> Array:
        """Return the inverse Hessian times a gradient, by the two loops."""
        if not self._pairs:
            return self._start(gradient)
        xp = namespace(gradient)
        q = xp.astype(gradient, getattr(xp, self.dtype.name))  # a copy
        shares = []
        for pair in reversed(self._pairs):
            shares.append(dot(pair.s, q) / pair.product)
            add_times(q, -shares[-1], pair.y)
        r = astype(self._start(q), self.dtype)
        r *= self._scale()
        for pair, share in zip(self._pairs, reversed(shares), strict=True):
            add_times(r, share - dot(pair.y, r) / pair.product, pair.s)
        return r

    def estimate(self, objective: Objective, gradient: Array) -> tuple[float, Array | None]:
        """Return about the least bound that a step in the span of the pairs' can prove, and that step.

        With d = sum_j mu_j s_j and the loss's part of the curvature, H0 d = sum_j mu_j (y_j - reg s_j), the
        bound of :mod:`luce.solvers.certificate` is ``d.H0 d / 2 + ||g + H0 d||^2 / (2 reg)`` to second order,
        and ``e^2 / 2 p`` for each class whose mean probability p is e above its share of the samples, which
        the intercept will have to settle: a quadratic in mu, without a pass over the data.
        """
        reg = objective.reg
        left = settled(objective, gradient)
        simple = dot(left, left) / (2 * reg) if reg > 0 else np.inf
        if objective.fit_intercept:
            excess = on_host(gradient[-1])
            hold = 1 / np.maximum(on_host(objective.class_means()[1]) + excess, 1e-300)
            simple += 0.5 * float(excess @ (hold * excess))
        if not self._pairs or reg == 0:
            return simple, None
        xp = namespace(gradient)
        D, C = objective.data.n_features, objective.data.n_classes
        n = len(self._pairs)
        inner: Any = 0.0
        square: Any = 0.0
        slope: Any = 0.0
        last_s = xp.stack([astype(pair.s[-1], np.float64) for pair in self._pairs])
        last_y = xp.stack([astype(pair.y[-1], np.float64) for pair in self._pairs])
        mean = objective.moments()[0]
        rows = min(D, max(1, _CHUNK // (n * C)))
        steps, pulls = (
            xp.empty((n, rows, C), dtype=gradient.dtype, device=gradient.device) for _ in range(2)
        )
        for at in range(0, D, rows):
            part = slice(at, min(at + rows, D))
            s, h = steps[:, : part.stop - at], pulls[:, : part.stop - at]
            for k, pair in enumerate(self._pairs):
                s[k] = pair.s[part]
                h[k] = pair.y[part]
                h[k] -= reg * s[k]
            inner = inner + _flat(s) @ _flat(h).T
            if objective.fit_intercept:
                for k in range(n):
                    h[k] -= mean[part, None] * last_y[k]
            r = _flat(h)
            square = square + r @ r.T / reg
            slope = slope + r @ left[part].reshape(-1) / reg
        if objective.fit_intercept:
            inner = inner + last_s @ last_y.T
        slope = on_host(slope)
        matrix = on_host((inner + inner.T) / 2 + square)
        if objective.fit_intercept:
            moved = on_host(last_y)
            slope = slope + moved @ (hold * excess)
            matrix = matrix + (moved * hold) @ moved.T
        values, vectors = np.linalg.eigh(matrix)
        used = values > 1e-10 * values[-1]
        vectors = vectors[:, used]
        mu = -vectors @ ((vectors.T @ slope) / values[used])
        bound = simple + float(mu @ slope) + 0.5 * float(mu @ matrix @ mu)
        if not 0 < bound < simple:
            return simple, None
        step = xp.zeros_like(self._pairs[0].s)
        for share, pair in zip(mu, self._pairs, strict=True):
            add_times(step, float(share), pair.s)
        return bound, step


def _flat(stack: Array) -> Array:
    return stack.reshape(len(stack), -1)
