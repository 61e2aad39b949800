"""The passes over X, compiled where that is possible and pure NumPy where it is not.

Same names, arguments and results as :mod:`luce.loss.passes`, which says what each of them is.
"""

from __future__ import annotations

import os

import numpy as np
import scipy.sparse as sp

from luce._native import core
from luce.loss import passes
from luce.loss.inputs import Array, Matrix
from luce.loss.passes import class_curvature, class_sums, gram, hessian, moments

__all__ = [
    "class_curvature",
    "class_sums",
    "divergence",
    "gram",
    "hessian",
    "hessian_product",
    "moments",
    "value_and_gradient",
]

_VALUE, _GRADIENT, _HESSIAN_PRODUCT, _DIVERGENCE = range(4)
_WORTH_A_THREAD = 1 << 20  # multiplications: fewer are done sooner than a thread starts


def _threads(n_threads: int | None, work: int) -> int:
    wanted = len(os.sched_getaffinity(0)) if n_threads is None else n_threads
    return int(np.clip(work // _WORTH_A_THREAD, 1, wanted))


def _dense(
    op: int,
    heads: list[tuple[Array, Array | None]],
    X: Matrix,
    weight: Array | None,
    n_threads: int | None,
    y: Array | None = None,
    smoothing: float = 0.0,
    step: float = 1.0,
) -> tuple[float, float, Array, Array]:
    """Run a dense pass with the scores ``X W + b`` of each head; return total, least, dW and db."""
    n_features, n_classes = heads[0][0].shape
    dtype = heads[0][0].dtype
    padded = core.padded_features(n_features, dtype == np.float64)
    coefficients = np.zeros((len(heads), n_classes, padded), dtype=dtype)
    for k, (W, b) in enumerate(heads):
        coefficients[k, :, :n_features] = W.T
        if b is not None:
            coefficients[k, :, n_features] = b
    threads = _threads(n_threads, X.shape[0] * (n_features + 8) * n_classes * len(heads))
    gradient = np.zeros((threads, n_classes, padded)) if op in (_GRADIENT, _HESSIAN_PRODUCT) else None
    hard = y is not None and y.ndim == 1
    total, least = core.dense(
        op,
        X,
        coefficients.reshape(-1, padded),
        n_classes,
        np.ascontiguousarray(y, dtype=np.int64) if hard else None,
        None if hard else y,
        None if weight is None else np.ascontiguousarray(weight, dtype=np.float64),
        smoothing,
        step,
        gradient,
        None,
        threads,
    )
    if gradient is None:
        return total, least, np.zeros((n_features, n_classes)), np.zeros(n_classes)
    whole = gradient.sum(axis=0)
    return total, least, np.ascontiguousarray(whole[:, :n_features].T), whole[:, n_features].copy()


def value_and_gradient(
    W: Array,
    b: Array | None,
    X: Matrix,
    y: Array,
    weight: Array | None,
    smoothing: float = 0.0,
    n_threads: int | None = None,
    *,
    gradient: bool = True,
) -> tuple[float, Array, Array]:
    """See :func:`luce.loss.passes.value_and_gradient`."""
    if core is None or sp.issparse(X):
        return passes.value_and_gradient(W, b, X, y, weight, smoothing, n_threads, gradient=gradient)
    op = _GRADIENT if gradient else _VALUE
    total, _, dW, db = _dense(op, [(W, b)], X, weight, n_threads, y, smoothing)
    return total, dW, db


def hessian_product(
    W: Array,
    b: Array | None,
    V: Array,
    c: Array | None,
    X: Matrix,
    weight: Array | None,
    n_threads: int | None = None,
) -> tuple[Array, Array]:
    """See :func:`luce.loss.passes.hessian_product`."""
    if core is None or sp.issparse(X):
        return passes.hessian_product(W, b, V, c, X, weight, n_threads)
    _, _, HV, Hc = _dense(_HESSIAN_PRODUCT, [(W, b), (V, c)], X, weight, n_threads)
    return HV, Hc


def divergence(
    W: Array,
    b: Array | None,
    V: Array,
    c: Array | None,
    X: Matrix,
    weight: Array | None,
    step: float = 1.0,
    n_threads: int | None = None,
) -> tuple[float, float]:
    """See :func:`luce.loss.passes.divergence`."""
    if core is None or sp.issparse(X):
        return passes.divergence(W, b, V, c, X, weight, step, n_threads)
    total, least, _, _ = _dense(_DIVERGENCE, [(W, b), (V, c)], X, weight, n_threads, step=step)
    return total, least
