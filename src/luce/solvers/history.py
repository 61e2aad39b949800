"""What L-BFGS remembers: its last steps, and the difference that each made to the gradient."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy.linalg import solve_triangular

from luce.arrays import astype, dot, in_parts, namespace, norm, on_host
from luce.loss.inputs import Array
from luce.objective import Objective
from luce.solvers.certificate import Inverse, settled

_RECENT = 5  # pairs that say how far the curvature is from where the start was made


class History:
    """The last pairs (s, y), and the inverse Hessian that they make of a start H0 once it has one.

    H0 is scaled by the geometric mean of ``s.y / y.H0 y`` over the last few pairs: by how much the curvature
    has changed from where H0 was made.

    All steps lie in one array and so do all changes, so that what is done with each of them is one product of
    a matrix and a vector (Byrd, Nocedal & Schnabel, 1994): it takes a quarter of the two loops' traffic with
    the memory, and threads. A new pair takes the slot of the oldest.

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
        self._slots: list[int] = []  # from the oldest pair to the newest
        self._s = self._y = np.empty(0)  # (room, D', C) each, once their kind is known
        # by slots, of pairs that are not in _fresh:
        self._sy = np.empty((room, room))  # s_i . y_j where j is not older than i
        self._ratio: dict[int, float] = {}  # s.y / y.H0 y
        # by slots, of pairs that are not in _unseen; of the features' part alone but for `inner`:
        self._inner = np.empty((room, room))  # s_i . H0 s_j, here and below with H0 the loss's Hessian
        self._square = np.empty((room, room))  # r_i . r_j, r_j = H0 s_j once the intercept is settled
        self._pulled = np.empty((room, 0))  # mean x . s_j
        self._fresh: list[int] = []
        self._unseen: list[int] = []

    def __len__(self) -> int:
        return len(self._slots)

    def __iter__(self) -> Iterator[tuple[Array, Array]]:
        return ((self._s[slot], self._y[slot]) for slot in self._slots)

    def clear(self) -> None:
        """Forget all pairs."""
        self._slots, self._fresh, self._unseen, self._ratio = [], [], [], {}

    def empty(self) -> History:
        """Return a history of the same kind, with the same start and no pairs."""
        other = History(self._room, self.dtype)
        other._start = self._start
        return other

    def add(self, s: Array, y: Array) -> None:
        """Keep a pair, in place of the oldest where there is no room, unless it is mostly rounding."""
        product = dot(s, y)
        if not product > np.finfo(self.dtype).eps * norm(s) * norm(y):
            return
        if not self._s.size:
            xp = namespace(s)
            dtype = getattr(xp, self.dtype.name)
            self._s, self._y = (
                xp.empty((self._room, *s.shape), dtype=dtype, device=s.device) for _ in range(2)
            )
            self._pulled = np.empty((self._room, s.shape[1]))
        slot = len(self) if len(self) < self._room else self._slots[0]
        for slots in (self._slots, self._fresh, self._unseen):
            if slot in slots:
                slots.remove(slot)
            slots.append(slot)
        self._ratio.pop(slot, None)
        self._s[slot], self._y[slot], self._sy[slot, slot] = s, y, product

    def restart(self, start: Inverse) -> None:
        """Take another H0."""
        self._start = start
        self._ratio = {}

    def _scale(self) -> float:
        for slot in self._slots[-_RECENT:]:
            if slot not in self._ratio:
                y = self._y[slot]
                against = dot(y, astype(self._start(y), self.dtype))
                # negative by rounding alone
                self._ratio[slot] = self._sy[slot, slot] / against if against > 0 else 1.0
        return float(np.exp(np.mean([np.log(self._ratio[slot]) for slot in self._slots[-_RECENT:]])))

    def inverse(self, gradient: Array) -> Array:
        """Return the inverse Hessian times a gradient."""
        if not self._slots:
            return self._start(gradient)
        xp, order = namespace(gradient), self._slots
        q = xp.astype(gradient, getattr(xp, self.dtype.name))  # a copy
        along, *columns = self._products(self._s, [q, *(self._y[slot] for slot in self._fresh)])
        for slot, column in zip(self._fresh, columns, strict=True):
            column[slot] = self._sy[slot, slot]  # of which it is sure that it is positive
            self._sy[: len(self), slot] = column
        self._fresh = []
        upper = np.triu(self._sy[np.ix_(order, order)])
        shares = solve_triangular(upper, along[order], check_finite=False)
        self._add(q, 1.0, -shares, self._y)
        r = astype(self._start(q), self.dtype)
        scale = self._scale()
        (against,) = self._products(self._y, [r])
        right = upper.diagonal() * shares - scale * against[order]
        shares = solve_triangular(upper, right, trans="T", check_finite=False)
        return self._add(r, scale, shares, self._s)

    def _products(self, pairs: Array, others: list[Array]) -> Array:
        """Return the inner products of each of some arrays with all steps or all changes, by slots."""
        n = len(self)

        def of(part: slice) -> Array:
            rows = pairs[:n, part].reshape(n, -1)
            return np.stack([on_host(rows @ other[part].reshape(-1)) for other in others])

        return sum(in_parts(of, others[0], n), start=np.zeros((len(others), n)))

    def _add(self, out: Array, factor: float, shares: Array, pairs: Array) -> Array:
        """Multiply an array by a factor and add a sum of the steps, or of the changes, in place."""
        by_slot = np.empty(len(self))
        by_slot[self._slots] = shares
        xp = namespace(out)
        weights = xp.asarray(by_slot, dtype=out.dtype, device=out.device)

        def to(part: slice) -> None:
            out[part] *= factor
            out[part] += (weights @ pairs[: len(self), part].reshape(len(self), -1)).reshape(out[part].shape)

        in_parts(to, out, len(self))
        return out

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
        if not self._slots or reg == 0:
            return simple, None
        slope, last = self._project(objective, left)
        n = len(self)
        slope, matrix = slope / reg, self._inner[:n, :n] + self._square[:n, :n] / reg
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
        step = namespace(gradient).zeros_like(self._s[0])
        return bound, self._add(step, 1.0, mu[self._slots], self._s)

    def _project(self, objective: Objective, left: Array) -> tuple[Array, Array]:
        """Return r_j . left for each pair, and the last row of its H0 s_j, that of the intercept, by slots.

        The products of the pairs are brought up to date: only those of new ones cost anything.
        """
        xp, reg, n, new = namespace(left), objective.reg, len(self), self._unseen
        D, k = len(left), len(new)
        mean = objective.moments()[0]
        last_s, last_y = (
            astype(pairs[:n, D:], np.float64) for pairs in (self._s, self._y)
        )  # (n, 1, C), or (n, 0, C) without an intercept

        def of(part: slice) -> tuple[Array, Array]:
            own, others = (
                xp.empty((size, *left[part].shape), dtype=left.dtype, device=left.device)
                for size in (2 * n, 2 * k + 1)
            )
            own[:n], own[n:] = self._s[:n, part], self._y[:n, part]
            for j, slot in enumerate(new):
                others[j] = own[slot]
                others[k + j] = own[n + slot] - reg * own[slot]
                if objective.fit_intercept:
                    others[k + j] -= mean[part, None] * last_y[slot]
            others[2 * k] = left[part]
            products = own.reshape(2 * n, -1) @ others.reshape(2 * k + 1, -1).T
            return on_host(products), on_host(mean[part] @ others)

        totals, pulls = zip(*in_parts(of, left, 2 * n, together=2 * n + 2 * k), strict=True)
        of_s, of_y, pulled = sum(totals)[:n], sum(totals)[n:], sum(pulls)
        last_s, last_y = (on_host(array).reshape(n, -1) for array in (last_s, last_y))
        of_h = of_y - reg * of_s  # H0 s_i against each of the others
        crossed = of_s[:, k : 2 * k] + of_h[:, :k]
        if objective.fit_intercept:
            self._pulled[new] = pulled[:k]  # what r_j leaves out
            crossed += (self._pulled[:n] + last_s) @ last_y[new].T + last_y @ last_s[new].T
            of_h[:, k:] -= last_y @ pulled[k:].T
        for matrix, columns in ((self._inner, crossed / 2), (self._square, of_h[:, k : 2 * k])):
            matrix[:n, new], matrix[new, :n] = columns, columns.T
        self._unseen = []
        return of_h[:, 2 * k], last_y
