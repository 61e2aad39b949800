"""What solvers need of arrays, wherever they lie: NumPy's on the host, PyTorch's on a device.

Solvers are written in the terms of the array API standard (https://data-apis.org), through `namespace`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from array_api_compat import array_namespace, to_device

from luce.loss.inputs import Array


def namespace(array: Array) -> Any:
    """Return the module whose functions take arrays of this kind."""
    return array_namespace(array)


def dot(a: Array, b: Array) -> float:
    """Return the inner product of two arrays of one shape and dtype."""
    return float(a.reshape(-1) @ b.reshape(-1))


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
