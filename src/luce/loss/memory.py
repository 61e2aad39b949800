"""Memory of large arrays, used again within a fit: to get it from the system costs more than to fill it."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, suppress
from itertools import count
from typing import Any

import numpy as np

from luce.loss.inputs import Array
from luce.loss.threads import Shared

LINE = 64  # bytes in a cache line, and in the widest vector
_LARGE = 1 << 20  # bytes from which memory is kept


class _Spare(Shared):
    """Memory that no array lies in any more: by its size, from what was given back first to last."""

    def __init__(self) -> None:
        super().__init__()
        self.free: dict[int, list[tuple[int, Array]]] = {}
        self._given = count()

    def give(self, memory: Array) -> None:
        if self.depth:
            self.free.setdefault(memory.nbytes, []).append((next(self._given), memory))

    def take(self, size: int) -> Array:
        """Return memory of so many bytes; if none is spare, it takes the place of what has lain longest."""
        with suppress(KeyError, IndexError):
            return self.free[size].pop()[1]
        more = size if size >= _LARGE else 0
        while more > 0 and (filled := [memory for memory in list(self.free.values()) if memory]):
            with suppress(IndexError):  # another thread took it
                more -= min(filled, key=lambda memory: memory[0][0]).pop(0)[1].nbytes
        return np.empty(size, np.uint8)


_spare = _Spare()


class _Lease:
    """Gives memory back once no array lies in it."""

    def __init__(self, memory: Array) -> None:
        self._memory = memory
        self.__array_interface__ = memory.__array_interface__

    def __del__(self, spare: _Spare = _spare) -> None:
        spare.give(self._memory)


def recycling() -> AbstractContextManager[None]:
    """Keep the memory of large arrays for the next ones, until the end of the last such context."""
    return _spare.during(_spare.free.clear, _spare.free.clear)


def empty(shape: tuple[int, ...], dtype: Any) -> Array:
    """Return an array that begins a cache line, as vectors that straddle two cost twice; not filled."""
    dtype = np.dtype(dtype)
    size = math.prod(shape) * dtype.itemsize
    memory = _spare.take(size + LINE)
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
