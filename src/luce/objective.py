"""What is minimised: the mean softmax loss over some data plus the penalty, and its derivatives.

A solver sees an :class:`Objective` and never the data. Where the data live is behind one method,
``data.sum(pass_name, *arguments)``: the sum over all samples of one of the passes of
:mod:`luce.loss.kernels`. Data elsewhere (on disk, on other machines) are another class with that method.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Protocol

import numpy as np
import scipy.sparse as sp

from luce._native import core
from luce.arrays import add_times, astype, beside, combine, copy_as, dot, empty_like
from luce.loss import kernels
from luce.loss.inputs import Array, Matrix
from luce.loss.native import transposed

_WITH_COLUMNS = ("value_and_gradient", "hessian_product", "divergence")
_WORTH_COLUMNS = 2  # gradients after which there will be more
_MOST_AGAIN = 1 << 28  # bytes of numbers that may be kept twice
_MOST_SCORES = 1 << 26  # bytes of scores that may be kept


class Data(Protocol):
    """Samples, labels and weights, wherever they are."""

    n_samples: int
    n_features: int
    n_classes: int
    total_weight: float
    least_weight: float  # of the samples that count at all
    dtype: np.dtype[Any]  # of the features; products in it cost least

    def sum(self, name: str, *args: Any, **options: Any) -> Any:
        """Return the pass `name` of :mod:`luce.loss.kernels`, summed over all samples.

        Arrays come back as the kind that was passed.
        """

    def take(self, rows: Any) -> Data:
        """Return some of the samples, by slice or by indices."""


@dataclass
class InMemory:
    """Data that fit in memory: X (N, D) dense or CSR, y labels (N,) or soft labels (N, C), weights (N,)."""

    X: Matrix
    y: Array
    n_classes: int
    weight: Array | None = None
    n_threads: int | None = None
    total_weight: float = field(init=False)
    least_weight: float = field(init=False)
    _gradients: int = field(init=False, default=0)  # that were asked for
    _columns: Any = field(init=False, default=None)  # see :func:`luce.loss.native.transposed`

    def __post_init__(self) -> None:
        self.n_samples, self.n_features = self.X.shape
        self.dtype = self.X.dtype
        if self.weight is None:
            self.total_weight, self.least_weight = float(self.n_samples), 1.0
        else:
            self.total_weight = float(self.weight.sum())
            self.least_weight = float(self.weight[self.weight > 0].min(initial=np.inf))

    def sum(self, name: str, *args: Any, **options: Any) -> Any:
        """Return the pass `name` over X."""
        run = getattr(kernels, name)
        if name in _WITH_COLUMNS and options.get("gradient", True) and self._by_columns():
            options["columns"] = self._columns
        if name == "value_and_gradient":
            return run(*args, self.X, self.y, self.weight, n_threads=self.n_threads, **options)
        if name == "class_sums":
            return run(self.X, self.y, self.weight, self.n_classes, self.n_threads)
        return run(*args, X=self.X, weight=self.weight, n_threads=self.n_threads, **options)

    def _by_columns(self) -> bool:
        """Whether to read a sparse X by columns too: that takes its memory again, and a few passes' time."""
        if core is None or not sp.issparse(self.X) or self.X.data.nbytes > _MOST_AGAIN:
            return False
        self._gradients += 1
        if self._columns is None and self._gradients > _WORTH_COLUMNS:
            self._columns = transposed(self.X)
        return self._columns is not None

    def keep_scores(self, W: Array, b: Array | None) -> Array | None:
        """Return scores X W + b (N, C), up to a constant of each row, where X is sparse and they are few."""
        few = self.n_samples * self.n_classes * W.itemsize <= _MOST_SCORES
        if core is None or not sp.issparse(self.X) or not few:
            return None
        return kernels.probabilities(W, b, self.X, self.n_threads, log=True)

    def take(self, rows: Any) -> InMemory:
        """Return some of the samples (a view where X is dense and `rows` a slice)."""
        weight = None if self.weight is None else self.weight[rows]
        return InMemory(self.X[rows], self.y[rows], self.n_classes, weight, self.n_threads)


class Objective:
    """``F(theta) = sum_i w_i loss_i / sum_i w_i + reg/2 ||W||^2 + l1 ||W||_1``, with derivatives.

    Parameters
    ----------
    data : Data
    reg : float
        Strength of the squared penalty.
    l1 : float
        Strength of the absolute penalty. It has no gradient: what is called smooth below leaves it out.
    fit_intercept : bool
        The intercept is never penalised.
    dtype : dtype, optional
        Products are computed in it, by default in the dtype of the data; all else is float64.

    Notes
    -----
    theta is a float64 array (D + 1, C), the intercept its last row, or (D, C) without intercept. It may be of
    any kind that the data can take, see :mod:`luce.arrays`; with :meth:`beside`, all that is returned is so.
    `n_passes` counts how often the data were read from one end to the other, in gradients' worth of work.
    """

    def __init__(
        self, data: Data, reg: float, *, l1: float = 0.0, fit_intercept: bool = True, dtype: Any = None
    ) -> None:
        self.data = data
        self.reg = float(reg)
        self.l1 = float(l1)
        self.fit_intercept = fit_intercept
        self.dtype = np.dtype(dtype or data.dtype)
        self.shape = (data.n_features + fit_intercept, data.n_classes)
        self._shared: dict[str, Any] = {"passes": 0.0}  # what depends on the data alone
        self._kind: Array = np.empty(0)

    @property
    def n_passes(self) -> float:
        """Passes over the data so far, by this objective and those that share its data."""
        return float(self._shared["passes"])

    def count_passes(self, passes: float) -> None:
        """Count work that was done on parts of the data, see :meth:`take`."""
        self._shared["passes"] += passes

    def with_penalty(self, reg: float, l1: float = 0.0) -> Objective:
        """Return the same objective under another penalty; sums over the data are shared."""
        other = copy.copy(self)
        other.reg, other.l1 = float(reg), float(l1)
        return other

    def in_dtype(self, dtype: Any) -> Objective:
        """Return the same objective with products in another dtype."""
        other = copy.copy(self)
        other.dtype = np.dtype(dtype)
        return other

    def beside(self, theta: Array) -> Objective:
        """Return the same objective for thetas of another kind, or in another place."""
        other = copy.copy(self)
        other._kind = theta[:0]
        return other

    def placed(self, values: Array) -> Array:
        """Return an array as of the kind of thetas, and where they lie."""
        return beside(values, self._kind)

    def take(self, rows: Any) -> Objective:
        """Return the objective on some of the samples."""
        taken = Objective(
            self.data.take(rows), self.reg, l1=self.l1, fit_intercept=self.fit_intercept, dtype=self.dtype
        )
        return taken.beside(self._kind)

    def weights(self, theta: Array) -> Array:
        """Return the penalised part of theta, W (D, C), as a view."""
        return theta[: self.data.n_features]

    def _split(self, theta: Array) -> tuple[Array, Array | None]:
        W = astype(self.weights(theta), self.dtype)
        return W, (astype(theta[-1], np.float64) if self.fit_intercept else None)

    def _join(self, W: Array, b: Array, theta: Array) -> Array:
        """Return the mean that these sums make, with the penalty's part, in the dtype of theta."""
        total = self.data.total_weight
        out = empty_like(theta)
        weights = self.weights(out)
        combine(weights, [1 / total, self.reg], [W, self.weights(theta)])
        if self.fit_intercept:
            out[-1] = b / total
        return out

    def _sum(self, name: str, *args: Any, cost: float = 1.0, **options: Any) -> Any:
        self._shared["passes"] += cost
        return self.data.sum(name, *args, **options)

    def penalised(self, gradient: Array, theta: Array, reg: float) -> Array:
        """Return a gradient with that of reg/2 ||W||^2 added."""
        out = copy_as(gradient)
        add_times(self.weights(out), reg, self.weights(theta))
        return out

    def smooth_penalty(self, theta: Array) -> float:
        """Return reg/2 ||W||^2."""
        W = self.weights(theta)
        return 0.5 * self.reg * dot(W, W)

    def rough_penalty(self, theta: Array) -> float:
        """Return l1 ||W||_1."""
        return self.l1 * float(abs(self.weights(theta)).sum()) if self.l1 else 0.0

    def value(self, theta: Array) -> float:
        """Return F(theta) without its rough part."""
        loss, _, _ = self._sum("value_and_gradient", *self._split(theta), cost=0.5, gradient=False)
        return float(loss) / self.data.total_weight + self.smooth_penalty(theta)

    def value_and_gradient(self, theta: Array) -> tuple[float, Array]:
        """Return F(theta) without its rough part, and the gradient of that, shaped like theta."""
        loss, dW, db = self._sum("value_and_gradient", *self._split(theta))
        return float(loss) / self.data.total_weight + self.smooth_penalty(theta), self._join(dW, db, theta)

    def products_at(self, theta: Array) -> Callable[[Array], Array]:
        """Return :meth:`hessian_product` at a theta; what all products share is found with the first."""
        head = self._split(theta)

        @cache
        def shared() -> tuple[float, dict[str, Array]]:
            keep = getattr(self.data, "keep_scores", None)
            scores = None if keep is None else keep(*head)
            if scores is None:
                return 1.5, {}
            self.count_passes(0.5)
            return 1.0, {"scores": scores}

        def product(direction: Array) -> Array:
            cost, options = shared()
            HV, Hc = self._sum("hessian_product", *head, *self._split(direction), cost=cost, **options)
            return self._join(HV, Hc, direction)

        return product

    def hessian_product(self, theta: Array, direction: Array) -> Array:
        """Return the Hessian of the smooth part at theta times a direction, shaped like theta."""
        return self.products_at(theta)(direction)

    def hessian(self, theta: Array) -> Array:
        """Return the Hessian of the smooth part at theta as a (D' C, D' C) matrix, D' = theta.shape[0].

        Its rows and columns are ordered class by class, as ``theta.T.ravel()``.
        """
        H = np.array(self._sum("hessian", *self._split(theta)), dtype=np.float64)
        H /= self.data.total_weight
        features = np.arange(self.data.n_features)
        for k in range(self.data.n_classes):
            H[k, features, k, features] += self.reg
        size = theta.size
        return H.reshape(size, size)

    def divergence(self, theta: Array, direction: Array) -> tuple[float, Array]:
        """Return mean KL(q || p) and the mean of [x, 1] (q - p)^T, q being p moved along a direction.

        See :func:`luce.loss.passes.divergence`.
        """
        sums = self._sum("divergence", *self._split(theta), *self._split(direction), cost=1.5)
        mean = self.with_penalty(0.0)._join(sums[1], sums[2], direction)
        return float(sums[0]) / self.data.total_weight, mean

    def class_curvature(self, theta: Array) -> Array:
        """Return the mean of diag(p) - p p^T (C, C), the curvature of the loss in the scores."""
        total: Array = self._sum("class_curvature", *self._split(theta), cost=0.5)
        return total / self.data.total_weight

    def class_variances(self, theta: Array) -> Array:
        """Return the mean of p (1 - p) (C,), the diagonal of the class curvature."""
        total: Array = self._sum("class_variances", *self._split(theta), cost=0.5)
        return total / self.data.total_weight

    def class_grams(self, theta: Array, least: Array, pairs: tuple[Array, Array] | None = None) -> Array:
        """Return, for each class, the mean of p (1 - p) [x, 1] [x, 1]^T, from samples drawn by weight.

        With `pairs` of classes j and k, the means of p_j p_k [x, 1] [x, 1]^T. Samples whose own weight is
        below `least` (one for each mean) times the number of samples are drawn more rarely.
        """
        W, b = self._split(theta)
        total: Array = self._sum("class_grams", W, b, least * self.data.total_weight, pairs=pairs)
        total /= self.data.total_weight  # in place: this can be the largest array of a fit
        return total

    def once(self, name: str, make: Callable[[], Any]) -> Any:
        """Return what `make` gives, made once for all objectives that share these data."""
        if name not in self._shared:
            self._shared[name] = make()
        return self._shared[name]

    def _mean(self, name: str, cost: float, **options: Any) -> tuple[Array, Array]:
        """Return a pass's two sums over the data alone as means."""

        def make() -> tuple[Array, Array]:
            first, second = self._sum(name, cost=cost, **options)
            first /= self.data.total_weight  # in place: these may be large
            second /= self.data.total_weight
            return first, second

        first, second = self.once(name, make)
        return self.placed(first), self.placed(second)

    def gram(self) -> tuple[Array, Array]:
        """Return the mean of x x^T (D, D) and the mean of x (D,)."""
        return self._mean("gram", 1.0, dtype=self.dtype)

    def moments(self) -> tuple[Array, Array]:
        """Return the mean of x (D,) and the mean of x * x (D,)."""
        return self._mean("moments", 0.5)

    def class_means(self) -> tuple[Array, Array]:
        """Return the mean of x t^T (D, C) and the mean of t (C,), the class priors."""
        return self._mean("class_sums", 1.0)
