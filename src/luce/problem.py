"""What scikit-learn's terms and the objective's have to say to each other: labels, C, coefficients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from luce.arrays import astype, beside, namespace
from luce.blocks import Samples, on_host
from luce.errors import InputError
from luce.loss.inputs import Array, Matrix
from luce.numbering import number
from luce.objective import Data, InMemory, Objective
from luce.solvers import LBFGS, NewtonCG, Solver


@dataclass(frozen=True)
class Problem:
    """Labelled samples, as an objective for any C; its thetas, as coefficients.

    Two classes are fitted as two columns ``-w/2`` and ``w/2`` and kept as the one vector w.
    """

    classes: Array
    data: Any  # a Data; what takes samples apart needs InMemory
    base: Objective  # without a penalty; the objectives for all C share its sums over the data

    @classmethod
    def of(
        cls,
        X: Matrix,
        y: Array,
        weight: Array | None = None,
        *,
        class_weight: Any = None,
        fit_intercept: bool = True,
        n_threads: int | None = None,
    ) -> Self:
        """Number the labels y (N,) of the samples X (N, D), and put class_weight into the weights (N,)."""
        data: Data
        if isinstance(X, Samples):
            classes, data = X.labelled(y, weight, class_weight, n_threads)
        else:
            classes, labels, weight = number(y, weight, class_weight)
            data = InMemory(X, labels, len(classes), weight, n_threads)
        return cls._on(classes, data, fit_intercept)

    @classmethod
    def _on(cls, classes: Array, data: Data, fit_intercept: bool) -> Self:
        return cls(classes, data, Objective(data, 0.0, fit_intercept=fit_intercept))

    def take(self, rows: Array) -> Problem:
        """Return the problem of some of the samples, with the weights that they have here.

        A class without any sample left is taken out where its intercept, being free, would go to -inf.
        """
        data = self.data.take(rows)
        left = np.unique(data.y if data.weight is None else data.y[data.weight > 0])
        if len(left) == len(self.classes) or not self.base.fit_intercept:
            return self._on(self.classes, data, self.base.fit_intercept)
        if len(left) < 2:
            held = ", ".join(repr(label.item()) for label in self.classes[left]) or "none"
            raise InputError(f"of {len(self.classes)} classes, the training samples hold only: {held}")
        labels = np.minimum(np.searchsorted(left, data.y), len(left) - 1)
        data = InMemory(data.X, labels, len(left), data.weight, data.n_threads)
        return self._on(self.classes[left], data, self.base.fit_intercept)

    def objective(self, C: float, l1_ratio: float = 0.0) -> Objective:
        """Return ``C sum_i w_i loss_i + ...`` as a mean loss with a penalty: all over ``C sum_i w_i``."""
        strength = 0.0 if np.isinf(C) else 1.0 / (C * self.data.total_weight)
        # ||w||^2 = 2 ||W||^2 for the two columns of two classes, while the absolute values agree
        double = 2.0 if len(self.classes) == 2 else 1.0
        return self.base.with_penalty(double * (1.0 - l1_ratio) * strength, l1_ratio * strength)

    def theta(self, coef: Array, intercept: Array) -> Array:
        """Return the theta of coefficients (C, D), or (1, D) for two classes, and intercepts."""
        coef, intercept = on_host(coef), on_host(intercept)
        if len(self.classes) == 2:
            coef, intercept = np.vstack([-coef, coef]) / 2, np.hstack([-intercept, intercept]) / 2
        theta = np.empty(self.base.shape)
        self.base.weights(theta)[...] = coef.T
        if self.base.fit_intercept:
            theta[-1] = intercept
        return theta

    def placed(self, theta: Array, solver: Solver) -> Array:
        """Return a theta where the data want the vectors of a solver that can have them anywhere."""
        place = getattr(self.data, "place", None)
        return theta if place is None or not isinstance(solver, (LBFGS, NewtonCG)) else beside(theta, place)

    def coefficients(self, theta: Array) -> tuple[Array, Array]:
        """Return the coefficients and the intercepts, in the dtype of X."""
        D, dtype = self.data.n_features, self.data.dtype
        theta = on_host(theta)
        if len(self.classes) == 2:
            theta = theta[:, 1:] - theta[:, :1]
        theta = theta.astype(dtype)
        intercept = theta[D].copy() if self.base.fit_intercept else np.zeros(theta.shape[1], dtype=dtype)
        return np.ascontiguousarray(theta[:D].T), intercept

    def rounding(self, objective: Objective) -> Callable[[Array], Array]:
        """Return the map from a theta of the objective to the one that its coefficients stand for.

        What all classes share changes no probability and only costs penalty: it is taken out.
        """
        dtype = self.data.dtype
        first = self.data.n_features if objective.l1 > 0 else 0

        def rounded(theta: Array) -> Array:
            xp = namespace(theta)
            if len(self.classes) == 2:
                half = astype(astype(theta[:, 1] - theta[:, 0], dtype), np.float64) / 2
                theta = xp.stack([-half, half], axis=1)
                return theta
            theta = xp.asarray(theta, copy=True)
            theta[first:] -= xp.mean(theta[first:], axis=1, keepdims=True)
            return astype(astype(theta, dtype), np.float64)

        return rounded
