"""What scikit-learn's terms and the objective's have to say to each other: labels, C, coefficients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from sklearn.utils.class_weight import compute_class_weight

from luce.errors import InputError
from luce.loss.inputs import Array, Matrix, as_weights
from luce.objective import InMemory, Objective


@dataclass(frozen=True)
class Problem:
    """Labelled samples, as an objective for any C; its thetas, as coefficients.

    Two classes are fitted as two columns ``-w/2`` and ``w/2`` and kept as the one vector w.
    """

    classes: Array
    data: InMemory
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
        classes, labels, weight = _number(y, weight, class_weight)
        return cls._on(classes, InMemory(X, labels, len(classes), weight, n_threads), fit_intercept)

    @classmethod
    def _on(cls, classes: Array, data: InMemory, fit_intercept: bool) -> Self:
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
        if len(self.classes) == 2:
            coef, intercept = np.vstack([-coef, coef]) / 2, np.hstack([-intercept, intercept]) / 2
        theta = np.empty(self.base.shape)
        self.base.weights(theta)[...] = coef.T
        if self.base.fit_intercept:
            theta[-1] = intercept
        return theta

    def coefficients(self, theta: Array) -> tuple[Array, Array]:
        """Return the coefficients and the intercepts, in the dtype of X."""
        D, dtype = self.data.n_features, self.data.dtype
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
            if len(self.classes) == 2:
                half = (theta[:, 1] - theta[:, 0]).astype(dtype).astype(np.float64) / 2
                return np.column_stack([-half, half])
            theta = theta.copy()
            theta[first:] -= theta[first:].mean(axis=1, keepdims=True)
            return theta.astype(dtype).astype(np.float64)

        return rounded


def _number(y: Array, weight: Array | None, class_weight: Any) -> tuple[Array, Array, Array | None]:
    """Return the classes, each sample's number among them, and the weights with class_weight in them."""
    counted = y if weight is None else y[weight > 0]
    classes = np.unique(counted)
    if len(classes) < 2:
        only = "none" if weight is not None and not len(classes) else repr(classes[0].item())
        raise InputError(f"y has one class only ({only}): a classifier needs samples of at least 2 classes")
    labels = np.searchsorted(classes, y)
    labels[labels == len(classes)] = 0  # of samples without weight
    if class_weight is not None:
        ones = np.ones(len(y)) if weight is None else weight
        if isinstance(class_weight, str) and class_weight == "balanced":
            totals = np.bincount(labels, ones, minlength=len(classes))
            per_class = ones.sum() / (len(classes) * totals)
        else:
            per_class = _per_class(class_weight, classes, counted)
        weight = as_weights(ones * per_class[labels], len(y))
    return classes, labels.astype(np.int64), weight


def _per_class(class_weight: dict[Any, Any], classes: Array, y: Array) -> Array:
    try:
        per_class = np.asarray(compute_class_weight(class_weight, classes=classes, y=y), dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"class_weight = {class_weight!r}: {error}") from error
    if not (np.isfinite(per_class).all() and (per_class >= 0).all()):
        raise InputError(f"class_weight = {class_weight!r}: weights are finite numbers >= 0")
    return per_class
