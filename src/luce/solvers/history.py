"""What L-BFGS remembers: its last steps, and the difference that each made to the gradient."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from luce.arrays import astype, dot, namespace, norm, on_host
from luce.loss.inputs import Array
from luce.objective import Objective
from luce.solvers.certificate import Inverse, settled

_RECENT = 5  # pairs that say how far the curvature is from where the start was made
_CHUNK = 1 << 20  # numbers that an estimate takes at a time


class Pair(NamedTuple):
    """A step s, the difference y that it made to the gradient, s . y, and that over y . H0 y."""

    s: Array
    y: Array
    product: float
    ratio: float


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
    """

    def __init__(self, room: int, dtype: Any) -> None:
        self._room = room
        self._dtype = np.dtype(dtype)
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
        other = History(self._room, self._dtype)
        other._start = self._start
        return other

    def add(self, s: Array, y: Array) -> None:
        """Keep a pair, in place of the oldest where there is no room, unless it is mostly rounding."""
        s, y = astype(s, self._dtype), astype(y, self._dtype)
        product = dot(s, y)
        if product > np.finfo(self._dtype).eps * norm(s) * norm(y):
            self._pairs = self._pairs[-self._room + 1 :]
            self._pairs.append(self._compared(s, y, product))

    def restart(self, start: Inverse) -> None:
        """Take another H0."""
        self._start = start
        self._pairs[-_RECENT:] = [
            self._compared(s, y, product) for s, y, product, _ in self._pairs[-_RECENT:]
        ]

    def _compared(self, s: Array, y: Array, product: float) -> Pair:
        against = dot(y, astype(self._start(y), self._dtype))
        return Pair(s, y, product, product / against if against > 0 else 1.0)  # negative by rounding alone

    def inverse(self, gradient: Array) -> Array:
        """Return the inverse Hessian times a gradient, by the two loops."""
        if not self._pairs:
            return self._start(gradient)
        q = astype(gradient, self._dtype)
        shares = []
        for s, y, product, _ in reversed(self._pairs):
            shares.append(dot(s, q) / product)
            q = q - shares[-1] * y
        r = astype(self._start(q), self._dtype)
        r = r * float(np.exp(np.mean(np.log([pair.ratio for pair in self._pairs[-_RECENT:]]))))
        for (s, y, product, _), share in zip(self._pairs, reversed(shares), strict=True):
            r += (share - dot(y, r) / product) * s
        return r

    def estimate(self, objective: Objective, gradient: Array) -> tuple[float, Array | None]:
        """Return about the least bound that a step in the span of the pairs' can prove, and that step.

        With d = sum_j mu_j s_j and the loss's part of the curvature, H0 d = sum_j mu_j (y_j - reg s_j), the
        bound of :mod:`luce.solvers.certificate` is ``d.H0 d / 2 + ||g + H0 d||^2 / (2 reg)`` to second order:
        a quadratic in mu, without a pass over the data.
        """
        reg = objective.reg
        left = settled(objective, gradient)
        simple = dot(left, left) / (2 * reg) if reg > 0 else np.inf
        if not self._pairs or reg == 0:
            return simple, None
        xp = namespace(gradient)
        D, C = objective.data.n_features, objective.data.n_classes
        inner: Any = 0.0
        square: Any = 0.0
        slope: Any = 0.0
        last = xp.stack([astype(pair.y[-1], np.float64) for pair in self._pairs])
        rows = max(1, _CHUNK // (len(self._pairs) * C))
        for at in range(0, D + objective.fit_intercept, rows):
            part = slice(at, at + rows)
            s = xp.stack([astype(pair.s[part], np.float64) for pair in self._pairs])
            h = xp.stack([astype(pair.y[part], np.float64) for pair in self._pairs])
            weights = slice(0, max(D - at, 0))
            h[:, weights] -= reg * s[:, weights]
            inner = inner + _flat(s) @ _flat(h).T
            if objective.fit_intercept:
                h[:, weights] -= objective.moments()[0][part, None] * last[:, None]
            r = _flat(h[:, weights])
            square = square + r @ r.T / reg
            slope = slope + r @ left[part].reshape(-1) / reg
        slope = on_host(slope)
        matrix = on_host((inner + inner.T) / 2 + square)
        values, vectors = np.linalg.eigh(matrix)
        used = values > 1e-10 * values[-1]
        vectors = vectors[:, used]
        mu = -vectors @ ((vectors.T @ slope) / values[used])
        bound = simple + float(mu @ slope) + 0.5 * float(mu @ matrix @ mu)
        if not 0 < bound < simple:
            return simple, None
        step = float(mu[0]) * self._pairs[0].s
        for share, pair in zip(mu[1:], self._pairs[1:], strict=True):
            step += float(share) * pair.s
        return bound, step


def _flat(stack: Array) -> Array:
    return stack.reshape(len(stack), -1)
