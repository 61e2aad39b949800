"""What L-BFGS remembers: its last steps, and the difference that each made to the gradient."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy.linalg import solve_triangular

from luce.arrays import add_sum, astype, copy_as, dot, namespace, on_host, products, row_sum
from luce.loss.inputs import Array
from luce.objective import Objective
from luce.solvers.certificate import settled
from luce.solvers.conjugate import Inverse

_RECENT = 5  # pairs that say how far the curvature is from where the start was made


class History:
    """The last pairs (s, y), and the inverse Hessian that they make of a start H0 once it has one.

    H0 is scaled by the geometric mean of ``s.y / y.H0 y`` over the last few pairs: by how much the curvature
    has changed from where H0 was made.

    All steps lie in one array and so do all changes, and what is done with them is done with all at once
    (Byrd, Nocedal & Schnabel, 1994): it takes a quarter of the two loops' traffic with the memory, and
    threads. A new pair takes the slot of the oldest.

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
        self._start: Inverse = copy_as
        self._slots: list[int] = []  # from the oldest pair to the newest
        self._s = self._y = np.empty(0)  # (room, D', C) each, once their kind is known
        # by slots, of pairs that are not in _fresh:
        self._sy = np.empty((room, room))  # s_i . y_j where j is not older than i
        self._ratio: dict[int, float] = {}  # s.y / y.H0 y
        # of steps and of changes by slots, of pairs that are not in _unseen; of the features' part alone:
        self._gram = np.empty((2, room, 2, room))  # their inner products
        self._pulled = np.empty((2, room, 0))  # those with mean x, for each class
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
        (square, product), (_, other) = products([s, y], [s, y])
        if not product > np.finfo(self.dtype).eps * np.sqrt(square) * np.sqrt(other):
            return
        if not self._s.size:
            xp = namespace(s)
            dtype = getattr(xp, self.dtype.name)
            self._s, self._y = (
                xp.empty((self._room, *s.shape), dtype=dtype, device=s.device) for _ in range(2)
            )
            self._pulled = np.empty((2, self._room, s.shape[1]))
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
        order, q = self._slots, copy_as(gradient, self.dtype)
        n, new = len(self), self._fresh
        along, *columns = products(self._s[:n], [q, *(self._y[slot] for slot in new)]).T
        for slot, column in zip(new, columns, strict=True):
            column[slot] = self._sy[slot, slot]  # of which it is sure that it is positive
            self._sy[:n, slot] = column
        self._fresh = []
        upper = np.triu(self._sy[np.ix_(order, order)])
        shares = solve_triangular(upper, along[order], check_finite=False)
        add_sum(q, 1.0, self._by_slot(-shares), self._y[:n])
        r = astype(self._start(q), self.dtype)
        scale = self._scale()
        against = products(self._y[:n], [r])[order, 0]
        right = upper.diagonal() * shares - scale * against
        shares = solve_triangular(upper, right, trans="T", check_finite=False)
        return add_sum(r, scale, self._by_slot(shares), self._s[:n])

    def _by_slot(self, values: Array) -> Array:
        """Return what belongs to the pairs, from the oldest to the newest, by slots."""
        found = np.empty(len(self))
        found[self._slots] = values
        return found

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
        slope, matrix, last = self._project(objective, left)
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
        return bound, add_sum(step, 0.0, mu, self._s[: len(self)])

    def _project(self, objective: Objective, left: Array) -> tuple[Array, Array, Array]:
        """Return the bound's slope (n,) and matrix (n, n), but for the intercept's part, and the last rows.

        These are of all H0 s_j, (n, C); all is by slots. What H0 s_j leaves in the weights once the intercept
        is settled is r_j = y_j - reg s_j - (mean x) (last row of y_j), so all follows from inner products of
        steps and changes, and only those of new ones cost anything.
        """
        n, D, reg, new = len(self), len(left), objective.reg, self._unseen
        both = self._s[:, :D], self._y[:, :D]
        added = [pairs[slot] for pairs in both for slot in new]
        found = products([*both[0][:n], *both[1][:n]], [*added, left]).reshape(2, n, -1)
        gram, of_left = found[:, :, :-1].reshape(2, n, 2, len(new)), found[:, :, -1]
        self._gram[:, :n, :, new], self._gram[:, new, :, :n] = gram, gram.transpose(2, 3, 0, 1)
        (ss, sy), (ys, yy) = self._gram[:, :n, :, :n].transpose(0, 2, 1, 3)
        slope = of_left[1] - reg * of_left[0]
        inner = (sy + ys) / 2 - reg * ss
        square = yy - reg * (sy + ys) + reg * reg * ss
        last_s, last_y = (
            on_host(astype(pairs[:n, D:], np.float64)).reshape(n, -1) for pairs in (self._s, self._y)
        )
        if objective.fit_intercept:
            mean = objective.moments()[0]
            *pulled, of_left = (row_sum(mean, array) for array in (*added, left))
            self._pulled[:, new] = np.reshape(pulled, (2, len(new), len(of_left)))
            crossed = (self._pulled[1, :n] - reg * self._pulled[0, :n]) @ last_y.T
            slope -= last_y @ of_left
            inner += (last_s @ last_y.T + last_y @ last_s.T) / 2
            square += dot(mean, mean) * last_y @ last_y.T - crossed - crossed.T
        self._unseen = []
        return slope / reg, inner + square / reg, last_y
