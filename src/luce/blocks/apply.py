"""Functions that give a result for each sample, applied block by block to data on disk or on a cluster."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np

from luce.blocks.rows import rows_of
from luce.errors import InputError, MissingExtraError
from luce.loss.inputs import Array

_BLOCK = 16 << 20  # bytes of a block on disk


def in_blocks(X: Any) -> bool:
    """Whether X is a Dask collection, a Zarr array, or a mapped file of more than a block."""
    package = type(X).__module__.partition(".")[0]
    if package == "dask":
        return hasattr(X, "to_delayed")
    large = package == "zarr" or (isinstance(X, np.memmap) and X.nbytes > _BLOCK)
    return large and X.ndim == 2


def applied(function: Callable[[Any], Array], X: Any, n_features: int) -> Any:
    """Return the results of a function for all samples X (N, D).

    Those of a Dask collection are a Dask array, with a block for each of its own, and nothing is computed
    yet; those of data on disk are a NumPy array.

    Examples
    --------
    >>> import zarr
    >>> applied(lambda x: x.sum(axis=1), zarr.ones((3, 2)), 2)
    array([2., 2., 2.])
    """
    if X.ndim != 2 or X.shape[1] != n_features:
        raise InputError(f"X has shape {X.shape}, but the classifier was fitted to {n_features} features")
    if hasattr(X, "to_delayed"):
        return _lazily(function, X)
    rows = rows_of(X)
    like = function(np.zeros((1, n_features), rows.dtype))
    results = np.empty((rows.shape[0], *like.shape[1:]), like.dtype)
    for start, stop in pairwise(rows.cuts(_BLOCK).tolist()):
        results[start:stop] = function(rows.finite(start, stop))
    return results


def _lazily(function: Callable[[Any], Array], X: Any) -> Any:
    try:
        import dask.array as da
        from dask import delayed
    except ImportError:
        raise MissingExtraError("predictions for Dask collections", "dask") from None
    if hasattr(X, "columns"):
        like = function(X._meta_nonempty)
        sizes, parts = [np.nan] * X.npartitions, X.to_delayed()
    else:
        X = X.rechunk({1: -1})
        like = function(np.zeros((1, X.shape[1]), X.dtype))
        sizes, parts = X.chunks[0], X.to_delayed().ravel()
    shapes = [(size, *like.shape[1:]) for size in sizes]
    made, shared = delayed(_made), delayed(function)  # sent once
    blocks = [
        da.from_delayed(made(shared, part, like[:0]), shape, like.dtype)
        for part, shape in zip(parts, shapes, strict=True)
    ]
    return da.concatenate(blocks)


def _made(function: Callable[[Any], Array], part: Any, like: Array) -> Array:
    return function(part) if len(part) else like
