"""What L-BFGS remembers: its last steps, and the difference that each made to the gradient."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from luce.arrays import add_times, astype, dot, namespace, norm, on_host, parts
from luce.loss.inputs import Array
from luce.objective import Objective
from luce.solvers.certificate import Inverse, settled

_RECENT = 5  # pairs that say how far the curvature is from where the start was made


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
        self._inner = self._square = np.empty((0, 0))  # products of the pairs that an estimate has seen,
        self._pulled = np.empty((0, 0))  # and of their steps with the mean

    def __len__(self) -> int:
        return len(self._pairs)

    def __iter__(self) -> Iterator[Pair]:
        return iter(self._pairs)

    def clear(self) -> None:
        """Forget all pairs."""
        self._pairs = []
        self._inner = self._square = self._pulled = np.empty((0, 0))

    def empty(self) -> History:
        """Return a history of the same kind, with the same start and no pairs."""
        other = History(self._room, self.dtype)
        other._start = self._start
        return other

    def add(self, s: Array, y: Array) -> None:
        """Keep a pair, in place of the oldest where there is no room, unless it is mostly rounding."""
        product = dot(s, y)
        if product > np.finfo(self.dtype).eps * norm(s) * norm(y):
            if len(self._pairs) == self._room:
                self._pairs = self._pairs[1:]
                self._inner, self._square = self._inner[1:, 1:], self._square[1:, 1:]
                self._pulled = self._pulled[1:]
            self._pairs.append(Pair(s, y, product))

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
        slope, last = self._project(objective, left)
        slope, matrix = slope / reg, self._inner + self._square / reg
        if objective.fit_intercept:
            slope = slope + last @ (hold * excess)
            matrix = matrix + (last * hold) @ last.T
        values, vectors = np.linalg.eigh(matrix)
        used = values > 1e-10 * values[-1]
        vectors = vectors[:, used]
        mu = -vectors @ ((vectors.T @ slope) / values[used])
        bound = simple + float(mu @ slope) + 0.5 * float(mu @ matrix @ mu)
        if not 0 < bound < simple:
            return simple, None
        step = namespace(gradient).zeros_like(self._pairs[0].s)
        for share, pair in zip(mu, self._pairs, strict=True):
            add_times(step, float(share), pair.s)
        return bound, step

    def _project(self, objective: Objective, left: Array) -> tuple[Array, Array]:
        """Return r_j . left for each pair, and the last row of its H0 s_j, that of the intercept.

        Here r_j is H0 s_j once the intercept is settled. The products of all pairs, s_i . H0 s_j (made
        symmetric) and r_i . r_j, are brought up to date: only those of new pairs cost anything.
        """
        xp, reg = namespace(left), objective.reg
        D, C = left.shape
        n, known = len(self._pairs), len(self._inner)
        k = n - known
        mean = objective.moments()[0]
        last_s, last_y = (
            xp.stack([astype(array[D:], np.float64) for array in arrays])
            for arrays in ([pair.s for pair in self._pairs], [pair.y for pair in self._pairs])
        )  # (n, 1, C), or (n, 0, C) without an intercept
        total: Any = 0.0
        pulled: Any = 0.0
        for part in parts(left, 2 * n):
            own, others = (
                xp.empty((size, *left[part].shape), dtype=left.dtype, device=left.device)
                for size in (2 * n, 2 * k + 1)
            )
            for j, pair in enumerate(self._pairs):
                own[j] = pair.s[part]
                own[n + j] = pair.y[part]
            others[:k] = own[known:n]
            others[k : 2 * k] = own[n + known :] - reg * own[known:n]
            if objective.fit_intercept:
                others[k : 2 * k] -= mean[part, None] * last_y[known:]
            others[2 * k] = left[part]
            total = total + _flat(own) @ _flat(others).T
            pulled = pulled + mean[part] @ others
        of_s, of_y = on_host(total)[:n], on_host(total)[n:]
        of_h = of_y - reg * of_s  # H0 s_i against each of the others
        last_s, last_y = (on_host(array).reshape(n, -1) for array in (last_s, last_y))
        crossed = of_s[:, k : 2 * k] + of_h[:, :k]
        if objective.fit_intercept:
            pulled = on_host(pulled)
            self._pulled = np.vstack([self._pulled.reshape(known, C), pulled[:k]])  # what r_j leaves out
            crossed += (self._pulled + last_s) @ last_y[known:].T + last_y @ last_s[known:].T
            of_h[:, k:] -= last_y @ pulled[k:].T
        self._inner = _extended(self._inner, crossed / 2)
        self._square = _extended(self._square, of_h[:, k : 2 * k])
        return of_h[:, 2 * k], last_y


def _extended(square: Array, columns: Array) -> Array:
    """Return a symmetric matrix with more columns (n, k), the last ones of the larger matrix."""
    known = len(square)
    out: Array = np.empty((len(columns), len(columns)))
    out[:known, :known] = square
    out[:, known:], out[known:, :] = columns, columns.T
    return out


def _flat(stack: Array) -> Array:
    return stack.reshape(len(stack), -1)
