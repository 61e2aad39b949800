"""What solvers need of arrays, wherever they lie: NumPy's on the host, PyTorch's on a device.

Solvers are written in the terms of the array API standard (https://data-apis.org), through `namespace`. Where
arrays may be the largest of a fit, they are changed in place and a few rows at a time: a temporary array of
many megabytes costs more to get from the system than to fill.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np
from array_api_compat import array_namespace, to_device
from scipy.linalg import get_blas_funcs

from luce.loss.inputs import Array
from luce.loss.threads import in_threads, thread_count

_PART = 1 << 17  # numbers of an array on the host at a time, which stay in the cache
_PART_AWAY = 1 << 26  # of one on a device, where it is launches that cost
_READS = 64  # of numbers, so many times a thread's worth of multiplications, before a thread is worth it

R = TypeVar("R")


def namespace(array: Array) -> Any:
    """Return the module whose functions take arrays of this kind."""
    return array_namespace(array)


def parts(array: Array, together: int = 1) -> Iterator[slice]:
    """Yield the rows of an array (n, m), some at a time: fewer, the more such arrays are read together."""
    most = (_PART if isinstance(array, np.ndarray) else _PART_AWAY) // together
    rows = max(1, most // max(1, array.shape[1]))
    for first in range(0, array.shape[0], rows):
        yield slice(first, min(first + rows, array.shape[0]))


def in_parts(function: Callable[[slice], R], array: Array, times: int, together: int = 1) -> list[R]:
    """Return a function's results for the parts of an array, see :func:`parts`.

    On the host threads take them in turn, if each number is read so many times that threads are worth it.
    """
    work = math.prod(array.shape) * times // _READS
    threads = thread_count(None, work) if isinstance(array, np.ndarray) else 1
    return in_threads(function, parts(array, together), threads)


def add_times(out: Array, factor: float, array: Array) -> Array:
    """Add a multiple of an array (n, m), of any dtype, to another in place, and return that."""
    if isinstance(out, np.ndarray) and out.dtype == array.dtype and _flat(out) and _flat(array):
        (axpy,) = get_blas_funcs(("axpy",), (out,))
        axpy(array.reshape(-1), out.reshape(-1), a=factor)
        return out
    for part in parts(out):
        out[part] += factor * array[part]
    return out


def _flat(array: Array) -> bool:
    return bool(array.flags.c_contiguous)


def plus_times(a: Array, factor: float, b: Array, dtype: Any) -> Array:
    """Return an array (n, m) plus a multiple of another, which is taken in its own dtype, in a dtype."""
    xp = namespace(a)
    out: Array = xp.empty_like(a, dtype=getattr(xp, np.dtype(dtype).name))
    for part in parts(out):
        out[part] = a[part] + factor * b[part]
    return out


def dot(a: Array, b: Array) -> float:
    """Return the inner product of two arrays of one shape; where their dtypes differ, in float64."""
    if a.dtype == b.dtype:
        return float(a.reshape(-1) @ b.reshape(-1))
    return sum(dot(astype(a[part], np.float64), astype(b[part], np.float64)) for part in parts(a))


def norm(a: Array) -> float:
    """Return the root of the sum of squares."""
    return math.sqrt(dot(a, a))


def astype(a: Array, dtype: Any) -> Array:
    """Return an array in a dtype of NumPy's, without a copy where it is so already."""
    xp = namespace(a)
    found: Array = xp.astype(a, getattr(xp, np.dtype(dtype).name), copy=False)
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
