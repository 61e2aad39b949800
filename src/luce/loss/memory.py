"""Memory of large arrays, used again within a fit: to get it from the system costs more than to fill it."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from luce.loss.inputs import Array
from luce.loss.threads import Shared

LINE = 64  # bytes in a cache line, and in the widest vector
_LARGE = 1 << 20  # bytes from which memory is kept
_MOST = 2  # of each size are kept


class _Spare(Shared):
    """Memory that no array lies in any more, by its size."""

    def __init__(self) -> None:
        super().__init__()
        self.free: dict[int, list[Array]] = {}


_spare = _Spare()


class _Lease:
    """Gives memory back once no array lies in it."""

    def __init__(self, memory: Array) -> None:
        self._memory = memory
        self.__array_interface__ = memory.__array_interface__

    def __del__(self, spare: _Spare = _spare) -> None:
        kept = spare.free.setdefault(self._memory.nbytes, []) if spare.depth else None
        if kept is not None and len(kept) < _MOST:
            kept.append(self._memory)


def recycling() -> AbstractContextManager[None]:
    """Keep the memory of large arrays for the next ones, until the end of the last such context."""
    return _spare.during(_spare.free.clear, _spare.free.clear)


def empty(shape: tuple[int, ...], dtype: Any) -> Array:
    """Return an array that begins a cache line, as vectors that straddle two cost twice; not filled."""
    dtype = np.dtype(dtype)
    size = math.prod(shape) * dtype.itemsize
    try:
        memory = _spare.free[size + LINE].pop()
    except (KeyError, IndexError):  # there is none of this size
        memory = np.empty(size + LINE, np.uint8)
    if size >= _LARGE:
        memory = np.asarray(_Lease(memory))
    skip = -memory.ctypes.data % LINE
    found: Array = memory[skip : skip + size].view(dtype).reshape(shape)
    return found


def zeros(shape: tuple[int, ...], dtype: Any) -> Array:
    """Return an array of zeros that begins a cache line."""
    found = empty(shape, dtype)
    found.fill(0)
    return found
