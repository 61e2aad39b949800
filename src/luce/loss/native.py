"""The passes of :mod:`luce.loss.passes` by compiled kernels, with the same arguments and results.

Three routes. Dense X with few classes: one C++ pass over tiles of rows. CSR: another. Dense X with many
classes: BLAS makes both products of a tile, which nothing beats there, and C++ does what lies between.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from luce._native import core
from luce.loss import passes
from luce.loss.inputs import Array, Matrix
from luce.loss.memory import LINE, empty, zeros
from luce.loss.threads import blas_quiet, in_threads, shares, thread_count

_VALUE, _GRADIENT, _HESSIAN_PRODUCT, _DIVERGENCE, _PROBABILITIES, _LOG_PROBABILITIES = range(6)
_MANY_SCORES = 128  # columns of scores from which BLAS is faster
_BLAS_TILE_BYTES = 8 << 20
_DENSE_ROWS = 4096  # of a sparse matrix made dense at a time
_LANES = 16  # in the widest vector

Head = tuple[Array, Array | None]  # W (D, C) and b (C,): the scores are X W + b
Columns = tuple[Array, Array, Array]


@dataclass
class _Pass:
    """What is done to the rows: the operation and its targets."""

    op: int
    n_classes: int
    dtype: Any
    y: Array | None = None
    weight: Array | None = None
    smoothing: float = 0.0
    out: Array | None = None

    def __post_init__(self) -> None:
        hard = self.y is not None and self.y.ndim == 1
        self.labels = np.ascontiguousarray(self.y, dtype=np.int64) if hard else None
        self.soft = None if hard else self.y
        self.weight = _doubles(self.weight)

    @property
    def has_gradient(self) -> bool:
        return self.op in (_GRADIENT, _HESSIAN_PRODUCT, _DIVERGENCE)

    @property
    def targets(self) -> tuple[Any, ...]:
        return self.labels, self.soft, self.weight, self.smoothing


def _run(
    task: _Pass,
    heads: list[Head],
    X: Matrix,
    n_threads: int | None,
    columns: Columns | None = None,
    scores: Array | None = None,
) -> tuple[float, Array, Array]:
    """Return the total over rows, dW and db; both zero without a gradient."""
    n_features, n_classes = heads[0][0].shape
    n_scores = n_classes * len(heads)
    if not isinstance(X, np.ndarray):
        work = X.nnz * n_scores
        total, gradient = _sparse(task, heads, X, thread_count(n_threads, work), columns, scores)
    else:
        work = X.shape[0] * (n_features + 8) * n_scores
        threads = thread_count(n_threads, work)
        if n_scores >= _MANY_SCORES and n_features >= _LANES:
            total, gradient = _by_blas(task, heads, X, threads)
        else:
            total, gradient = _dense(task, heads, X, threads)
    if gradient is None:
        return total, np.zeros((n_features, n_classes)), np.zeros(n_classes)
    return total, gradient[:-1], gradient[-1]


def _dense(task: _Pass, heads: list[Head], X: Array, threads: int) -> tuple[float, Array | None]:
    n_features, n_classes = heads[0][0].shape
    flat = _packed(heads)
    padded = flat.shape[1]
    gradient = np.zeros((threads, n_classes, padded)) if task.has_gradient else None
    total = core.dense(task.op, X, flat, n_classes, *task.targets, gradient, task.out, threads)
    if gradient is None:
        return total, None
    return total, np.ascontiguousarray(gradient.sum(axis=0)[:, : n_features + 1].T)


def _packed(heads: list[Head]) -> Array:
    """Return W^T, b and zeros side by side, head under head, as the dense kernels read them."""
    (n_features, n_classes), dtype = heads[0][0].shape, heads[0][0].dtype
    padded = core.padded_features(n_features, dtype == np.float64)
    packed = zeros((len(heads), n_classes, padded), dtype)
    for k, (W, b) in enumerate(heads):
        packed[k, :, :n_features] = W.T
        if b is not None:
            packed[k, :, n_features] = b
    return packed.reshape(-1, padded)


def _sparse(
    task: _Pass, heads: list[Head], X: Any, threads: int, columns: Columns | None, scores: Array | None
) -> tuple[float, Array | None]:
    n_features, n_classes = heads[0][0].shape
    arguments: list[Array | None] = []
    for W, b in heads if scores is None else heads[1:]:
        bias = np.zeros(n_classes + _LANES, dtype=task.dtype)
        if b is not None:
            bias[:n_classes] = b
        arguments += [_whole_rows(W), bias]
    if len(arguments) == 2:  # scores stand for the first head
        arguments += [None, None] if scores is None else arguments
    make = zeros if columns is None else empty  # from the columns it is written, not added to
    gradient = make((n_features + 1, n_classes), float) if task.has_gradient else None
    total = core.sparse(
        task.op, *_stored(X), n_features, *arguments, n_classes, *task.targets, gradient, task.out, threads,
        columns if task.has_gradient else None, scores,
    )  # fmt: skip
    return total, gradient


def _stored(X: Any) -> tuple[Array, Array, Array]:
    """Return the arrays that make CSR, their indices of one dtype."""
    index = np.promote_types(X.indices.dtype, X.indptr.dtype)
    return X.data, X.indices.astype(index, copy=False), X.indptr.astype(index, copy=False)


def _whole_rows(W: Array) -> Array:
    """Return W with rows of at least a vector, which begin a cache line if they are shorter."""
    lanes = LINE // W.dtype.itemsize
    if W.shape[1] >= lanes:
        return np.ascontiguousarray(W)
    padded = zeros((len(W), lanes), W.dtype)
    padded[:, : W.shape[1]] = W
    return padded


def _by_blas(task: _Pass, heads: list[Head], X: Array, threads: int) -> tuple[float, Array | None]:
    """Run a pass whose products are BLAS's: each thread works off its own share of the rows."""
    with blas_quiet():
        parts = in_threads(partial(_by_blas_alone, task, heads, X), shares(len(X), threads, _LANES), threads)
    total, gradient = parts[0] if parts else _by_blas_alone(task, heads, X, (0, 0))
    for more, other in parts[1:]:
        total += more
        if gradient is not None:
            gradient += other
    return total, None if gradient is None else np.ascontiguousarray(gradient.T)


def _by_blas_alone(
    task: _Pass, heads: list[Head], X: Array, share: tuple[int, int]
) -> tuple[float, Array | None]:
    """Run a pass over some rows. Scores lie class by class: (heads * C, rows) in C order."""
    (n_samples, n_features), n_classes = X.shape, task.n_classes
    n_scores = n_classes * len(heads)
    begin, end = share
    rows = _BLAS_TILE_BYTES // (task.dtype.itemsize * max(n_features, n_scores))
    rows = int(np.clip(rows, 256, 4096)) // _LANES * _LANES - _LANES  # a power of two crowds one cache set
    buffer = np.empty(n_scores * min(rows, end - begin), dtype=task.dtype)
    product = np.empty((n_classes, n_features), dtype=task.dtype)
    gradient = np.zeros((n_classes, n_features + 1)) if task.has_gradient else None
    total = 0.0
    for first in range(begin, end, rows):
        tile = X[first : min(first + rows, end)].astype(task.dtype, copy=False)
        Z = buffer[: n_scores * len(tile)].reshape(n_scores, -1)
        for k, (W, b) in enumerate(heads):
            scores = Z[k * n_classes : (k + 1) * n_classes]
            np.matmul(W.T, tile.T, out=scores)
            if b is not None:
                scores += b.astype(task.dtype)[:, None]
        total += core.rows(task.op, Z, n_classes, first, n_samples, *task.targets, task.out, 1)
        if gradient is not None:
            residuals = Z[:n_classes]
            gradient[:, :-1] += np.matmul(residuals, tile, out=product)
            gradient[:, -1] += residuals.sum(axis=1, dtype=np.float64)
    return total, gradient


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
    columns: Columns | None = None,
) -> tuple[float, Array, Array]:
    """See :func:`luce.loss.passes.value_and_gradient`; `columns` is what :func:`transposed` makes of X."""
    task = _Pass(_GRADIENT if gradient else _VALUE, W.shape[1], W.dtype, y, weight, smoothing)
    total, dW, db = _run(task, [(W, b)], X, n_threads, columns)
    return total, dW, db


def hessian_product(
    W: Array,
    b: Array | None,
    V: Array,
    c: Array | None,
    X: Matrix,
    weight: Array | None,
    n_threads: int | None = None,
    *,
    columns: Columns | None = None,
    scores: Array | None = None,
) -> tuple[Array, Array]:
    """See :func:`luce.loss.passes.hessian_product`.

    For `columns` see above; where X is sparse, `scores` may be X W + b (N, C), or its log-probabilities.
    """
    task = _Pass(_HESSIAN_PRODUCT, W.shape[1], W.dtype, weight=weight)
    return _run(task, [(W, b), (V, c)], X, n_threads, columns, scores)[1:]


def divergence(
    W: Array,
    b: Array | None,
    V: Array,
    c: Array | None,
    X: Matrix,
    weight: Array | None,
    n_threads: int | None = None,
    *,
    columns: Columns | None = None,
) -> tuple[float, Array, Array]:
    """See :func:`luce.loss.passes.divergence`; for `columns` see above."""
    task = _Pass(_DIVERGENCE, W.shape[1], W.dtype, weight=weight)
    return _run(task, [(W, b), (V, c)], X, n_threads, columns)


def probabilities(
    W: Array, b: Array | None, X: Matrix, n_threads: int | None = None, *, log: bool = False
) -> Array:
    """See :func:`luce.loss.passes.probabilities`."""
    out = np.empty((X.shape[0], W.shape[1]), dtype=W.dtype)
    task = _Pass(_LOG_PROBABILITIES if log else _PROBABILITIES, W.shape[1], W.dtype, out=out)
    _run(task, [(W, b)], X, n_threads)
    return out


def hessian(
    W: Array, b: Array | None, X: Matrix, weight: Array | None, n_threads: int | None = None
) -> Array:
    """See :func:`luce.loss.passes.hessian`."""
    n_samples, n_features, n_classes = X.shape[0], X.shape[1] + 1, W.shape[1]
    H = np.zeros((n_classes, n_features, n_classes, n_features))
    threads = thread_count(n_threads, n_samples * (n_features * n_classes) ** 2 // 4)
    packed = _packed([(W, b)])
    dense = isinstance(X, np.ndarray)
    rows = max(n_samples, 1) if dense else _DENSE_ROWS
    for first in range(0, n_samples, rows):
        part = slice(first, first + rows)
        tile = X[part] if dense else X[part].toarray()
        w = None if weight is None else np.ascontiguousarray(weight[part], dtype=np.float64)
        core.hessian(tile, packed, n_classes, w, H, threads)
    for j in range(n_classes):
        for k in range(j + 1):
            block = H[j, :, k]
            block[:] = np.tril(block) + np.tril(block, -1).T
            H[k, :, j] = block
    return H if b is not None else np.ascontiguousarray(H[:, :-1, :, :-1])


def moments(X: Matrix, weight: Array | None, n_threads: int | None = None) -> tuple[Array, Array]:
    """See :func:`luce.loss.passes.moments`."""
    if isinstance(X, np.ndarray):
        return _over_shares(lambda rows: passes.moments(X[rows], _of(weight, rows)), X, n_threads)
    sums = np.zeros((3, X.shape[1]))
    core.sparse_moments(*_stored(X), _doubles(weight), sums)
    return sums[0], sums[1]


def class_sums(
    X: Matrix, y: Array, weight: Array | None, n_classes: int, n_threads: int | None = None
) -> tuple[Array, Array]:
    """See :func:`luce.loss.passes.class_sums`."""
    if isinstance(X, np.ndarray):
        return _over_shares(
            lambda rows: passes.class_sums(X[rows], y[rows], _of(weight, rows), n_classes), X, n_threads
        )
    if y.ndim == 2:
        return passes.class_sums(X, y, weight, n_classes)
    sums, labels = np.zeros((X.shape[1], n_classes)), np.ascontiguousarray(y, dtype=np.int64)
    core.sparse_class_sums(*_stored(X), labels, _doubles(weight), sums)
    return sums, np.bincount(labels, weight, minlength=n_classes).astype(np.float64)


def _over_shares(
    run: Callable[[slice], tuple[Array, Array]], X: Array, n_threads: int | None
) -> tuple[Array, Array]:
    """Return the two sums of a pass in NumPy, each thread with its own share of the rows."""
    threads = thread_count(n_threads, X.size)
    with blas_quiet():
        pairs = in_threads(
            lambda share: run(slice(*share)), shares(len(X), threads, _LANES) or [(0, 0)], threads
        )
    for first, second in pairs[1:]:
        pairs[0][0][...] += first
        pairs[0][1][...] += second
    return pairs[0]


def _of(weight: Array | None, rows: slice) -> Array | None:
    return None if weight is None else weight[rows]


def _doubles(weight: Array | None) -> Array | None:
    return None if weight is None else np.ascontiguousarray(weight, dtype=np.float64)


def transposed(X: Any) -> Columns:
    """Return the arrays that make the transpose of X as CSR, with which gradients take half the time."""
    data, indices, indptr = _stored(X)
    found = np.empty_like(data), np.empty_like(indices), np.empty(X.shape[1] + 1, indices.dtype)
    core.transpose(data, indices, indptr, *found)
    return found
