"""The passes whose products are squares of X or of P: BLAS makes them, a tile of rows at a time.

Same arguments and results as in :mod:`luce.loss.passes`. Written as A^T A, with the root of the weights in A,
a product costs half: NumPy hands it to BLAS as the symmetric one that it is.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp

from luce.loss import passes
from luce.loss.inputs import Array, Matrix
from luce.loss.native import probabilities
from luce.loss.threads import blas_limited, in_threads, shares, thread_count

_TILE_BYTES = 8 << 20
_MOST_ROWS = 8192  # that are summed in the dtype of the products before float64 takes over


def _rows(width: int, dtype: Any) -> int:
    return int(np.clip(_TILE_BYTES // (max(width, 1) * np.dtype(dtype).itemsize), 64, _MOST_ROWS))


def _add_square(A: Array, weight: Array | None, square: Array, total: Array) -> None:
    """Add A^T diag(weight) A to `square` and A^T weight to `total`."""
    w = np.ones(len(A)) if weight is None else weight
    total += w.astype(A.dtype) @ A
    if weight is not None:
        A = A * np.sqrt(weight).astype(A.dtype)[:, None]
    square += A.T @ A


def gram(X: Matrix, weight: Array | None, dtype: Any, n_threads: int | None = None) -> tuple[Array, Array]:
    """See :func:`luce.loss.passes.gram`."""
    if sp.issparse(X):
        return passes.gram(X, weight, dtype, n_threads)
    n_features = X.shape[1]
    as_it_lies = X.dtype == dtype and weight is None  # a tile need not stay in the cache
    rows = _MOST_ROWS if as_it_lies else _rows(n_features, dtype)
    G, total = np.zeros((n_features, n_features)), np.zeros(n_features)
    with blas_limited(n_threads):
        for first in range(0, X.shape[0], rows):
            part = slice(first, first + rows)
            tile = X[part].astype(dtype, copy=False)
            _add_square(tile, None if weight is None else weight[part], G, total)
    return G, total


def class_curvature(
    W: Array, b: Array | None, X: Matrix, weight: Array | None, n_threads: int | None = None
) -> Array:
    """See :func:`luce.loss.passes.class_curvature`."""
    n_samples, n_classes = X.shape[0], W.shape[1]
    rows = _rows(n_classes, W.dtype)
    threads = thread_count(n_threads, n_samples * n_classes**2)

    def of(share: tuple[int, int]) -> tuple[Array, Array]:
        square, total = np.zeros((n_classes, n_classes)), np.zeros(n_classes)
        for first in range(*share, rows):
            part = slice(first, min(first + rows, share[1]))
            P = probabilities(W, b, X[part], 1)
            _add_square(P, None if weight is None else weight[part], square, total)
        return square, total

    squares, totals = zip(*in_threads(of, shares(n_samples, threads) or [(0, 0)], threads), strict=True)
    curvature: Array = np.diag(sum(totals)) - sum(squares)
    return curvature


def class_variances(
    W: Array, b: Array | None, X: Matrix, weight: Array | None, n_threads: int | None = None
) -> Array:
    """See :func:`luce.loss.passes.class_variances`."""
    total, rows = np.zeros(W.shape[1]), _rows(W.shape[1], W.dtype)
    for first in range(0, X.shape[0], rows):
        part = slice(first, first + rows)
        P = probabilities(W, b, X[part], n_threads)
        P -= P * P
        total += P.sum(axis=0, dtype=np.float64) if weight is None else weight[part] @ P
    return total
