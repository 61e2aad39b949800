"""One pass over X each: the sums over samples of which every loss, gradient and Hessian product is made.

This is the pure NumPy rung. X is read in tiles of rows, so that the (N, C) scores are never stored whole;
each function returns plain sums, so that the passes over blocks of rows add up to the pass over all.

Everywhere: ``Z = X W + b`` (N, C), ``P = softmax(Z)`` by rows, ``w`` the sample weights (None for ones),
and y either labels (N,) or soft labels (N, C). Products are computed in the dtype of W, whatever the dtype
of X (a float64 W over float32 data gives float64 products, tile by tile); sums over tiles are float64.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, cast

import numpy as np
import scipy.sparse as sp

from luce.loss.inputs import Array, Matrix
from luce.loss.threads import in_threads, thread_count

_TILE_BYTES = 1 << 21  # a tile of X and its scores should stay in the cache of one core


def _tiles(X: Matrix, W: Array) -> Iterator[tuple[slice, Matrix]]:
    n_samples, n_features = X.shape
    width = W.shape[1] + (0 if sp.issparse(X) else n_features)
    rows = int(np.clip(_TILE_BYTES // (width * W.itemsize), 16, 8192))
    for start in range(0, n_samples, rows):
        part = slice(start, min(start + rows, n_samples))
        yield part, _cast(X[part], W.dtype)


def _cast(X: Matrix, dtype: np.dtype[Any]) -> Matrix:
    """Return X in a dtype; CSR's own astype would sort its entries each time."""
    if X.dtype == dtype or not sp.issparse(X):
        return X.astype(dtype, copy=False)
    return sp.csr_array((X.data.astype(dtype), X.indices, X.indptr), shape=X.shape)


def _scores(tile: Matrix, W: Array, b: Array | None) -> Array:
    Z = np.asarray(tile @ W)
    if b is not None:
        Z += b.astype(Z.dtype, copy=False)
    return Z


def _softmax(Z: Array) -> tuple[Array, Array]:
    """Turn scores into probabilities in place; return (top, log_sum): logsumexp(z) = top + log_sum."""
    top = Z.max(axis=1, keepdims=True)
    Z -= top
    np.exp(Z, out=Z)
    total = Z.sum(axis=1, keepdims=True)
    Z /= total
    return top[:, 0], np.log(total[:, 0])


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
    """Return ``sum_i w_i loss_i``, its gradient (D, C) in W and its gradient (C,) in b.

    ``loss_i = logsumexp(z_i) - t_i . z_i`` with the target t_i the soft label, or the label smoothed:
    ``(1 - smoothing) onehot(y_i) + smoothing / C``. Without `gradient`, the gradients are zero.
    """
    n_classes = W.shape[1]
    loss, dW, db = 0.0, np.zeros(W.shape), np.zeros(n_classes)
    for part, tile in _tiles(X, W):
        Z, target = _scores(tile, W, b), y[part]
        rows = np.arange(len(target))
        Z -= Z.max(axis=1, keepdims=True)  # before the target is taken, so that nothing cancels
        if target.ndim == 2:
            hit = np.einsum("ij,ij->i", target, Z, dtype=np.float64)
        else:
            hit = (1 - smoothing) * Z[rows, target].astype(np.float64)
            if smoothing:
                hit += smoothing * Z.mean(axis=1, dtype=np.float64)
        _, log_sum = _softmax(Z)
        losses = log_sum - hit
        w = None if weight is None else weight[part]
        loss += float(losses.sum() if w is None else losses @ w)
        if not gradient:
            continue
        if target.ndim == 2:
            Z -= target
        else:
            Z[rows, target] -= 1 - smoothing
            if smoothing:
                Z -= smoothing / n_classes
        if w is not None:
            Z *= w[:, None]
        dW += tile.T @ Z
        db += Z.sum(axis=0, dtype=np.float64)
    return loss, dW, db


def hessian_product(
    W: Array,
    b: Array | None,
    V: Array,
    c: Array | None,
    X: Matrix,
    weight: Array | None,
    n_threads: int | None = None,
) -> tuple[Array, Array]:
    """Return the Hessian of ``sum_i w_i loss_i`` at (W, b) times the direction (V, c), as (D, C) and (C,).

    With ``u_i = x_i V + c`` it is ``sum_i w_i x_i (p_i * (u_i - p_i . u_i))``.
    """
    HV, Hc = np.zeros(W.shape), np.zeros(W.shape[1])
    for part, tile in _tiles(X, W):
        P, U = _scores(tile, W, b), _scores(tile, V, c)
        _softmax(P)
        U -= np.einsum("ij,ij->i", P, U)[:, None]
        P *= U
        if weight is not None:
            P *= weight[part, None]
        HV += tile.T @ P
        Hc += P.sum(axis=0, dtype=np.float64)
    return HV, Hc


def divergence(
    W: Array,
    b: Array | None,
    V: Array,
    c: Array | None,
    X: Matrix,
    weight: Array | None,
    n_threads: int | None = None,
) -> tuple[float, Array, Array]:
    """Return ``sum_i w_i KL(q_i || p_i)``, ``sum_i w_i x_i (q_i - p_i)^T`` and ``sum_i w_i (q_i - p_i)``.

    q is p moved to first order along (V, c): ``q = p * (1 + u - p . u)``, ``u_i = x_i V + c``. Entries that
    this would make negative are 0, and their row is divided by its sum.
    """
    total, dW, db = 0.0, np.zeros(W.shape), np.zeros(W.shape[1])
    for part, tile in _tiles(X, W):
        P, U = _scores(tile, W, b), _scores(tile, V, c)
        _softmax(P)
        U -= np.einsum("ij,ij->i", P, U)[:, None]
        np.maximum(U, -1.0, out=U)
        s = U.astype(np.float64)
        excess = np.einsum("ij,ij->i", P, s)
        terms = (1.0 + s) * np.log1p(s, where=s > -1, out=np.zeros_like(s)) - s
        kl = (np.einsum("ij,ij->i", P, terms) + excess) / (1 + excess) - np.log1p(excess)
        total += float(kl.sum() if weight is None else kl @ weight[part])
        U -= excess[:, None].astype(U.dtype)
        scale = 1 / (1 + excess) if weight is None else weight[part] / (1 + excess)
        P *= U
        P *= scale[:, None].astype(P.dtype)
        dW += tile.T @ P
        db += P.sum(axis=0, dtype=np.float64)
    return total, dW, db


def gram(X: Matrix, weight: Array | None, dtype: type, n_threads: int | None = None) -> tuple[Array, Array]:
    """Return ``sum_i w_i x_i x_i^T`` (D, D) and ``sum_i w_i x_i`` (D,), products in `dtype`."""
    n_features = X.shape[1]
    G, total = np.zeros((n_features, n_features)), np.zeros(n_features)
    for part, tile in _tiles(X, np.empty((n_features, n_features), dtype=dtype)):
        scaled = tile if weight is None else _scale_rows(tile, weight[part])
        product = scaled.T @ tile
        G += product.toarray() if sp.issparse(product) else product
        total += np.asarray(scaled.sum(axis=0, dtype=np.float64)).ravel()
    return G, total


def class_sums(
    X: Matrix, y: Array, weight: Array | None, n_classes: int, n_threads: int | None = None
) -> tuple[Array, Array]:
    """Return ``sum_i w_i x_i t_i^T`` (D, C) and ``sum_i w_i t_i`` (C,), t the one-hot or soft label."""
    n_samples = X.shape[0]
    if y.ndim == 1:
        ones = np.ones(n_samples) if weight is None else weight
        T = sp.csr_array((ones, y, np.arange(n_samples + 1)), shape=(n_samples, n_classes))
    else:
        T = y if weight is None else y * weight[:, None]
    sums = np.zeros((X.shape[1], n_classes))
    for part, tile in _tiles(X, sums):
        product = (T[part].T @ tile).T  # so X is read row by row
        sums += product.toarray() if sp.issparse(product) else product
    return sums, np.asarray(T.sum(axis=0)).ravel()


def hessian(
    W: Array, b: Array | None, X: Matrix, weight: Array | None, n_threads: int | None = None
) -> Array:
    """Return the whole Hessian of ``sum_i w_i loss_i`` for small problems, (C, D, C, D).

    With an intercept (b given), D counts it: the intercept is the last of the features.
    """
    n_classes, n_features = W.shape[1], W.shape[0] + (b is not None)
    H = np.zeros((n_classes, n_features, n_classes, n_features))
    for part, tile in _tiles(X, W):
        P = _scores(tile, W, b)
        _softmax(P)
        A = tile.toarray() if sp.issparse(tile) else tile
        if b is not None:
            A = np.hstack([A, np.ones((len(A), 1), dtype=A.dtype)])
        wP = P if weight is None else P * weight[part, None]
        for j in range(n_classes):
            for k in range(j + 1):
                h = wP[:, j] * ((1.0 if j == k else 0.0) - P[:, k])
                H[j, :, k] += A.T @ (h[:, None] * A)
    for j in range(n_classes):
        for k in range(j):
            H[k, :, j] = H[j, :, k]
    return H


def _scale_rows(tile: Matrix, weight: Array) -> Matrix:
    weight = weight.astype(tile.dtype)
    return sp.diags_array(weight) @ tile if sp.issparse(tile) else cast(Array, tile * weight[:, None])


def class_curvature(
    W: Array, b: Array | None, X: Matrix, weight: Array | None, n_threads: int | None = None
) -> Array:
    """Return ``sum_i w_i (diag(p_i) - p_i p_i^T)`` (C, C)."""
    n_classes = W.shape[1]
    A = np.zeros((n_classes, n_classes))
    for part, tile in _tiles(X, W):
        P = _scores(tile, W, b)
        _softmax(P)
        wP = P if weight is None else P * weight[part, None].astype(P.dtype)
        A -= wP.T @ P
        A[np.diag_indices(n_classes)] += wP.sum(axis=0, dtype=np.float64)
    return A


def class_variances(
    W: Array, b: Array | None, X: Matrix, weight: Array | None, n_threads: int | None = None
) -> Array:
    """Return ``sum_i w_i p_i (1 - p_i)`` (C,), the diagonal of :func:`class_curvature`."""
    total = np.zeros(W.shape[1])
    for part, tile in _tiles(X, W):
        P = _scores(tile, W, b)
        _softmax(P)
        P -= P * P
        total += P.sum(axis=0, dtype=np.float64) if weight is None else weight[part] @ P
    return total


def moments(X: Matrix, weight: Array | None, n_threads: int | None = None) -> tuple[Array, Array]:
    """Return ``sum_i w_i x_i`` and ``sum_i w_i x_i * x_i``, (D,) each."""
    first, second = np.zeros(X.shape[1]), np.zeros(X.shape[1])
    for part, tile in _tiles(X, np.empty((X.shape[1], 1))):
        w = np.ones(tile.shape[0]) if weight is None else weight[part]
        if sp.issparse(tile):
            # by columns, which takes time linear in the entries, duplicates are neighbours
            columns = tile.tocsc().astype(np.float64)
            columns.sum_duplicates()
            first += w @ columns
            np.square(columns.data, out=columns.data)
            second += w @ columns
        else:
            first += w @ tile
            second += w @ np.square(tile)
    return first, second


def probabilities(
    W: Array, b: Array | None, X: Matrix, n_threads: int | None = None, *, log: bool = False
) -> Array:
    """Return P (N, C) in the dtype of W, or its logarithms, which are exact where P underflows."""
    out = np.empty((X.shape[0], W.shape[1]), dtype=W.dtype)
    for part, tile in _tiles(X, W):
        Z = _scores(tile, W, b)
        top, log_sum = _softmax(P := Z.copy() if log else Z)
        out[part] = Z - top[:, None] - log_sum[:, None] if log else P
    return out


def class_grams(
    W: Array,
    b: Array | None,
    least: Array,
    X: Matrix,
    weight: Array | None,
    n_threads: int | None = None,
    *,
    pairs: tuple[Array, Array] | None = None,
    first: int = 0,
) -> Array:
    """Return estimates of ``sum_i h_ik x_i x_i^T`` with ``h_ik = w_i p_ik (1 - p_ik)``, (C, D', D').

    With `pairs` of classes j and j', (K,) each, ``h_ik = w_i p_ij p_ij'`` for the kth pair, and the result is
    (K, D', D'). A sample counts for k with probability ``min(1, h_ik / least_k)``, then as ``max(h_ik,
    least_k)``: right on average, and the same for the same arguments. With an intercept (b given) it is the
    last feature.
    Where X is a block of more samples, its first row is their row number `first`: what is drawn for a sample
    does not depend on how they are divided.
    """
    n_samples, n_features = X.shape
    size = n_features + (b is not None)
    H = np.zeros((len(least), size, size))
    draws = np.random.PCG64(0)
    draws.advance(first * len(least))
    rng = np.random.Generator(draws)
    for start in range(0, n_samples, 8192):  # long tiles: each class picks a few rows out of one
        part = slice(start, start + 8192)
        tile = X[part] if X.dtype == W.dtype else X[part].astype(W.dtype)
        P = _scores(tile, W, b)
        _softmax(P)
        h = P * (1 - P) if pairs is None else P[:, pairs[0]] * P[:, pairs[1]]
        if weight is not None:
            h *= weight[part, None].astype(h.dtype)
        drawn = h > least * rng.random(h.shape)
        root = np.sqrt(np.maximum(h, least)).astype(W.dtype)
        add = partial(_add_drawn, H, tile, drawn, root)
        in_threads(add, range(len(H)), thread_count(n_threads, int(drawn.sum()) * size * size))
    return H


def _add_drawn(H: Array, tile: Matrix, drawn: Array, root: Array, k: int) -> None:
    """Add to H[k] the squares of the rows that were drawn for k, times their roots."""
    rows = np.flatnonzero(drawn[:, k])
    n_features = tile.shape[1]
    A = np.ones((len(rows), H.shape[1]), dtype=root.dtype)
    A[:, :n_features] = tile[rows].toarray() if sp.issparse(tile) else tile[rows]
    A *= root[rows, k, None]
    H[k] += A.T @ A
