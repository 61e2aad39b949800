"""What solvers need of arrays, wherever they lie: NumPy's on the host, PyTorch's on a device.

Solvers are written in the terms of the array API standard (https://data-apis.org), through `namespace`. Where
arrays may be the largest of a fit, they are changed in place and a few rows at a time: a temporary array of
many megabytes costs more to get from the system than to fill.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from array_api_compat import array_namespace, to_device

from luce._native import core
from luce.loss.inputs import Array
from luce.loss.memory import empty
from luce.loss.threads import thread_count

_PART = 1 << 17  # numbers of an array on the host at a time, which stay in the cache
_PART_AWAY = 1 << 26  # of one on a device, where it is launches that cost

_FLOATS = (np.float32, np.float64)


def namespace(array: Array) -> Any:
    """Return the module whose functions take arrays of this kind."""
    return array_namespace(array)


def parts(array: Array, together: int = 1) -> Iterator[slice]:
    """Yield the rows of an array (n, m), some at a time: fewer, the more such arrays are read together."""
    most = (_PART if isinstance(array, np.ndarray) else _PART_AWAY) // together
    rows = max(1, most // max(1, array.shape[1]))
    for first in range(0, array.shape[0], rows):
        yield slice(first, min(first + rows, array.shape[0]))


def combine(out: Array, factors: Sequence[float], arrays: Sequence[Array]) -> Array:
    """Write a sum of multiples of arrays (n, m), of any dtypes, to one that may be among them; return it."""
    if compiled(out, *arrays):
        threads = thread_count(None, out.size * len(arrays))
        core.combine(_flat(out), factors, [_flat(array) for array in arrays], threads)
        return out
    for part in parts(out, together=len(arrays)):
        total = factors[0] * arrays[0][part]
        for factor, array in zip(factors[1:], arrays[1:], strict=True):
            total = total + factor * array[part]
        out[part] = total
    return out


def add_times(out: Array, factor: float, array: Array) -> Array:
    """Add a multiple of an array (n, m), of any dtype, to another in place, and return that."""
    return combine(out, [1.0, factor], [out, array])


def plus_times(a: Array, factor: float, b: Array, dtype: Any = None) -> Array:
    """Return an array (n, m) plus a multiple of another, each in its own dtype, in a dtype or a's."""
    return combine(empty_like(a, dtype), [1.0, factor], [a, b])


def add_sum(out: Array, factor: float, weights: Array, arrays: Array) -> Array:
    """Multiply an array (n, m) by a factor, add a weighted sum of arrays (k, n, m), and return it."""
    if compiled(out, arrays):
        return combine(out, [factor, *weights.tolist()], [out, *arrays])
    weights = namespace(out).asarray(weights, dtype=arrays.dtype, device=out.device)
    for part in parts(out, together=len(arrays)):
        out[part] *= factor
        out[part] += (weights @ arrays[:, part].reshape(len(arrays), -1)).reshape(out[part].shape)
    return out


def products(first: Sequence[Array] | Array, second: Sequence[Array] | Array) -> Array:
    """Return the inner products of each of the first with each of the second, in float64 and as NumPy's.

    Arrays are of one shape (n, m), and of any dtype; `first` and `second` may also be stacked, (k, n, m).
    """
    if compiled(*first, *second):
        found = np.empty((len(first), len(second)))
        threads = thread_count(None, first[0].size * (len(first) + len(second)))
        core.products([_flat(a) for a in first], [_flat(b) for b in second], found, threads)
        return found
    xp = namespace(first[0])
    total = xp.zeros((len(first), len(second)), dtype=xp.float64, device=first[0].device)
    for part in parts(first[0], together=len(first) + len(second)):
        rows, columns = (
            xp.stack([astype(array[part], np.float64).reshape(-1) for array in arrays])
            for arrays in (first, second)
        )
        total += rows @ columns.T
    return on_host(total)


def dot(a: Array, b: Array) -> float:
    """Return the inner product of two arrays of one shape; where their dtypes differ, in float64."""
    if a.dtype != b.dtype or compiled(a, b):
        return float(products([a], [b])[0, 0])
    return float(a.reshape(-1) @ b.reshape(-1))


def norm(a: Array) -> float:
    """Return the root of the sum of squares."""
    return math.sqrt(dot(a, a))


def row_sum(weights: Array, array: Array) -> Array:
    """Return weights (n,) @ array (n, m) in float64, as NumPy's."""
    total: Any = sum(weights[part] @ astype(array[part], np.float64) for part in parts(array))
    return on_host(total)


def empty_like(array: Array, dtype: Any = None) -> Array:
    """Return an array of the shape and kind of another that is not filled, in its dtype or one of NumPy's."""
    if isinstance(array, np.ndarray):
        return empty(array.shape, dtype or array.dtype)
    xp = namespace(array)
    found: Array = xp.empty_like(array, dtype=dtype and getattr(xp, np.dtype(dtype).name))
    return found


def copy_as(array: Array, dtype: Any = None) -> Array:
    """Return a copy of an array, in its dtype or one of NumPy's."""
    out = empty_like(array, dtype)
    out[...] = array
    return out


def astype(array: Array, dtype: Any) -> Array:
    """Return an array in a dtype of NumPy's or of its kind, without a copy where it is so already."""
    if array.dtype == dtype:
        return array
    if isinstance(array, np.ndarray):
        return copy_as(array, dtype)
    xp = namespace(array)
    found: Array = xp.astype(array, getattr(xp, np.dtype(dtype).name), copy=False)
    return found


def beside(values: Array, array: Array) -> Array:
    """Return an array of any kind as one of the kind of `array`, where that lies, in its own dtype."""
    xp = namespace(array)
    if namespace(values) is xp:
        return to_device(values, array.device)  # type: ignore[no-any-return]
    sent: Array = xp.asarray(on_host(values), device=array.device)
    return sent


def on_host(array: Array) -> Array:
    """Return an array as NumPy's."""
    return np.asarray(to_device(array, "cpu"))


def compiled(*arrays: Array) -> bool:
    """Return whether compiled code can work on these arrays as they lie."""
    return core is not None and all(
        isinstance(array, np.ndarray) and array.flags.c_contiguous and array.dtype in _FLOATS
        for array in arrays
    )


def _flat(array: Array) -> Array:
    return array.reshape(-1)
