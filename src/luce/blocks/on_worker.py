"""What the workers of a Dask cluster do with the blocks that they hold."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from luce.blocks.sums import plus
from luce.errors import InputError
from luce.loss.inputs import Array, Matrix, as_matrix, as_weights, first_not_finite, not_finite
from luce.numbering import numbers_of
from luce.objective import InMemory

Block: TypeAlias = tuple[Matrix, Array, Array | None]  # X, y as given, weights
Part: TypeAlias = list[
    tuple[int, InMemory]
]  # the blocks of a share, with the number of the first row of each
Call: TypeAlias = tuple[str, Any, Any]  # the name of a pass, its arguments and options


def block(x: Any, y: Any, weight: Any, n_features: int, dtype: Any, k: int) -> Block:
    """Return a block as the kernels read it, checked."""
    names = [repr(str(name)) for name in x.columns] if hasattr(x, "columns") else None
    X = as_matrix(x.to_numpy(dtype=dtype) if names is not None else x)
    where = f"partition {k} of X"
    if X.shape[1] != n_features:
        raise InputError(f"{where} has {X.shape[1]} columns, but the first has {n_features}")
    X = X.astype(dtype, copy=False)
    bad = first_not_finite(X)
    if bad is not None:
        row, column, value = bad
        raise not_finite(where, row, names[column] if names else column, value)
    y = np.asarray(y)
    if y.shape != (X.shape[0],):
        raise InputError(f"{where} has {X.shape[0]} rows, but y has shape {y.shape} there")
    missing = y.dtype.kind == "O" and any(label is None or label != label for label in y)
    if missing or (y.dtype.kind == "f" and not np.isfinite(y).all()):
        raise InputError(f"partition {k} of y has a label that is missing: fill it in or drop the row")
    if weight is None:
        return X, y, None
    w = np.asarray(weight, dtype=np.float64)
    return X, y, as_weights(w, len(y)) if w.any() else w


def describe(block: Block) -> tuple[int, list[tuple[Any, float]]]:
    """Return the number of rows, and what those of each class weigh."""
    _, y, weight = block
    if weight is not None:
        y, counted = y[weight > 0], weight[weight > 0]
    classes, labels = np.unique(y, return_inverse=True)
    totals = np.bincount(labels, None if weight is None else counted, minlength=len(classes))
    return len(block[1]), list(zip(classes.tolist(), totals.tolist(), strict=True))


def numbered(
    blocks: list[Block], firsts: list[int], classes: Array, per_class: Array | None, n_threads: int | None
) -> Part:
    """Return a share: blocks whose labels are numbers, with class weights in their weights."""
    from distributed import get_worker

    part = []
    for (X, y, weight), first in zip(blocks, firsts, strict=True):
        labels = numbers_of(y, classes)
        if per_class is not None:
            weight = per_class[labels] if weight is None else weight * per_class[labels]
        threads = n_threads or get_worker().state.nthreads
        part.append((first, InMemory(X, labels, len(classes), weight, threads)))
    return part


def weights(part: Part) -> tuple[float, float]:
    """Return what all samples of a share weigh together, and the least weight."""
    return sum(data.total_weight for _, data in part), min(data.least_weight for _, data in part)


def taken(part: Part, within: list[tuple[Any, int]], first: int) -> Part:
    """Return some rows of each block; `first` is the number of the first of them among all that are taken."""
    taken = []
    for (_, data), (rows, n) in zip(part, within, strict=True):
        if n:
            taken.append((first, data.take(rows)))
        first += n
    return taken


def one_pass(part: Part, call: Call) -> Any:
    """Return a pass over one share."""
    name, args, options = call
    total = None
    for first, data in part:
        extra = {"first": first} if name == "class_grams" else {}
        result = data.sum(name, *args, **options, **extra)
        total = result if total is None else plus(total, result)
    return total


def same(call: Call) -> Call:
    """Return the arguments of a pass: so they are copied from worker to worker."""
    return call


def added(results: list[Any]) -> Any:
    """Return the sum of results, from the first on."""
    total = results[0]
    for result in results[1:]:
        total = plus(total, result)
    return total
