"""Memory of large arrays, used again within a fit: to get it from the system costs more than to fill it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

import numpy as np

from luce.loss.inputs import Array

_LINE = 64  # bytes in a cache line
_LARGE = 1 << 20  # bytes from which memory is kept
_MOST = 2  # of each size are kept


class _Spare:
    """Memory that no array lies in any more, by its size; only while `depth` is not zero."""

    def __init__(self) -> None:
        self.depth = 0
        self.free: dict[int, list[Array]] = {}
        self.lock = Lock()


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


@contextmanager
def recycling() -> Iterator[None]:
    """Keep the memory of large arrays for the next ones, until the end of the outermost such context."""
    with _spare.lock:
        _spare.depth += 1
    try:
        yield
    finally:
        with _spare.lock:
            _spare.depth -= 1
            if not _spare.depth:
                _spare.free.clear()


def empty(shape: tuple[int, ...], dtype: Any) -> Array:
    """Return an array that begins a cache line, as vectors that straddle two cost twice; not filled."""
    dtype = np.dtype(dtype)
    size = math.prod(shape) * dtype.itemsize
    try:
        memory = _spare.free[size + _LINE].pop()
    except (KeyError, IndexError):  # there is none of this size
        memory = np.empty(size + _LINE, np.uint8)
    if size >= _LARGE:
        memory = np.asarray(_Lease(memory))
    skip = -memory.ctypes.data % _LINE
    found: Array = memory[skip : skip + size].view(dtype).reshape(shape)
    return found


def zeros(shape: tuple[int, ...], dtype: Any) -> Array:
    """Return an array of zeros that begins a cache line."""
    found = empty(shape, dtype)
    found.fill(0)
    return found
