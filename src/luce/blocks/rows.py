"""Rows on disk: a matrix of which some rows at a time are read into memory."""

from __future__ import annotations

import mmap
import os
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from luce.errors import DataFileError, InputError
from luce.loss.inputs import Array, Matrix, as_matrix, first_not_finite, not_finite

_NEAR = 64 << 10  # bytes between two rows that are sooner read than skipped


class Rows(ABC):
    """A matrix (N, D) on disk.

    Attributes
    ----------
    shape : tuple of int
    dtype : dtype
    name : str
        For messages.
    grain : int
        Rows nearer to each other than this are best read at once.
    files : tuple of str
        What must not change while the rows are in use.
    """

    shape: tuple[int, int]
    dtype: np.dtype[Any]
    name: str = "X"
    grain: int = 1
    files: tuple[str, ...] = ()

    @abstractmethod
    def read(self, start: int, stop: int, buffer: Array | None = None) -> Matrix:
        """Return some rows, which may lie in the buffer (bytes) if it is large enough."""

    def finite(self, start: int, stop: int, buffer: Array | None = None) -> Matrix:
        """Return some rows as the kernels read them, if all are finite; DataFileError names the first bad."""
        X = as_matrix(self.read(start, stop, buffer))
        where = first_not_finite(X)
        if where is not None:
            row, column, value = where
            raise DataFileError(f"{self.name}: {not_finite('X', self.number(start + row), column, value)}")
        return X

    def cuts(self, size: int) -> Array:
        """Return the rows at which to cut into blocks of at most `size` bytes, 0 and N included."""
        row = self.shape[1] * max(self.dtype.itemsize, 4 if self.dtype.kind == "f" else 8)  # as it is used
        rows = max(1, size // max(row, 1))
        if rows > self.grain:
            rows -= rows % self.grain
        return np.append(np.arange(0, self.shape[0], rows), self.shape[0])

    def number(self, row: int) -> int:
        """Return the number that a row has in the source, for messages."""
        return row


class FileRows(Rows):
    """Rows one after the other in a file: they are read, not mapped, so that they never fill the memory.

    Parameters
    ----------
    path : str
    offset : int
        Of the first row, in bytes.
    shape, dtype
    folder : object, optional
        What makes the file last as long as the rows: a temporary folder.
    """

    def __init__(
        self, path: str, offset: int, shape: tuple[int, int], dtype: Any, folder: Any = None
    ) -> None:
        self._folder = folder
        self.name, self.shape, self.dtype = path, shape, np.dtype(dtype)
        self._offset, self._row = offset, shape[1] * self.dtype.itemsize
        self.grain = max(1, _NEAR // max(self._row, 1))
        self.files = (path,)
        self._file = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._file)

    def read(self, start: int, stop: int, buffer: Array | None = None) -> Array:
        """Return some rows."""
        size = (stop - start) * self._row
        memory = np.empty(size, np.uint8) if buffer is None or buffer.size < size else buffer[:size]
        done = 0
        while done < size:
            part = os.preadv(self._file, [memory[done:].data], self._offset + start * self._row + done)
            if part == 0:
                raise DataFileError(f"{self.name}: ends before row {stop}; was it cut while it was read?")
            done += part
        rows: Array = memory.view(self.dtype).reshape(stop - start, self.shape[1])
        return rows


class ArrayRows(Rows):
    """Rows of anything that can be sliced: a Zarr array, or a view of a mapped file in any order."""

    def __init__(self, X: Any, name: str = "X") -> None:
        self._X, self.name, self.shape, self.dtype = X, name, X.shape, np.dtype(X.dtype)
        self.grain = getattr(X, "chunks", (1,))[0]
        self._map = _map_of(X) if isinstance(X, np.memmap) else None
        self.files = _files_of(X)

    def read(self, start: int, stop: int, buffer: Array | None = None) -> Array:
        """Return some rows."""
        rows = np.array(self._X[start:stop])
        if self._map is not None and hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)  # what was read need not stay in memory
        return rows


class SparseRows(Rows):
    """CSR rows in two files, data and indices; indptr (N + 1,) is held in memory.

    Parameters
    ----------
    data, indices : FileRows
        Of one column each.
    indptr : array of int64
    n_features : int
    base : int
        The number of the first column in the file.
    """

    def __init__(
        self, data: FileRows, indices: FileRows, indptr: Array, n_features: int, base: int = 0
    ) -> None:
        self._data, self._indices, self._indptr, self._base = data, indices, indptr, base
        self.shape, self.dtype = (len(indptr) - 1, n_features), data.dtype
        self.name, self.files = data.name, (data.name, indices.name)
        entry = self.dtype.itemsize + indices.dtype.itemsize
        self.grain = max(1, _NEAR * self.shape[0] // max(int(indptr[-1]) * entry, 1))

    def cuts(self, size: int) -> Array:
        """Return the rows at which to cut: as many entries in each block as its bytes allow."""
        entries = max(1, size // (self.dtype.itemsize + self._indices.dtype.itemsize))
        steps = np.arange(entries, self._indptr[-1], entries)
        ends = np.searchsorted(self._indptr, steps, side="right") - 1
        most = np.arange(0, self.shape[0], max(1, size // 8))  # rows without entries are not free either
        return np.unique([*ends, *most, 0, self.shape[0]])

    def read(self, start: int, stop: int, buffer: Array | None = None) -> Any:
        """Return some rows as a CSR array."""
        first, last = int(self._indptr[start]), int(self._indptr[stop])
        data, indices = self._data.read(first, last)[:, 0], self._indices.read(first, last)[:, 0]
        indices -= self._base
        indptr = (self._indptr[start : stop + 1] - first).astype(indices.dtype)
        return sp.csr_array((data, indices, indptr), shape=(stop - start, self.shape[1]))


class Subset(Rows):
    """Some rows of others, by their sorted numbers."""

    def __init__(self, rows: Rows, index: Array) -> None:
        self._rows, self._index = rows, index
        self.shape, self.dtype, self.name = (len(index), rows.shape[1]), rows.dtype, rows.name
        self.files = rows.files

    def cuts(self, size: int) -> Array:
        """Return the rows at which to cut: no block reaches over two of those of all the rows."""
        # a search in an index of another type would make a copy of it
        return np.unique(np.searchsorted(self._index, self._rows.cuts(size).astype(self._index.dtype)))

    def read(self, start: int, stop: int, buffer: Array | None = None) -> Matrix:
        """Return some rows: rows far from the others are read one by one."""
        index = self._index[start:stop]
        runs = np.split(index, np.flatnonzero(np.diff(index) > self._rows.grain) + 1)
        parts = [self._rows.read(int(run[0]), int(run[-1]) + 1, buffer)[run - run[0]] for run in runs]
        return stacked(parts)

    def number(self, row: int) -> int:
        """Return the number that a row has in the source."""
        return self._rows.number(int(self._index[row]))


class Mapped(Rows):
    """Rows to which a function is applied as they are read."""

    def __init__(self, rows: Rows, function: Callable[[Matrix], Matrix], n_features: int, dtype: Any) -> None:
        self._rows, self._function = rows, function
        self.shape, self.dtype, self.name = (rows.shape[0], n_features), np.dtype(dtype), rows.name
        self.grain, self.files = rows.grain, rows.files

    def read(self, start: int, stop: int, buffer: Array | None = None) -> Matrix:
        """Return some rows, changed by the function."""
        return self._function(self._rows.read(start, stop, buffer))

    def number(self, row: int) -> int:
        """Return the number that a row has in the source."""
        return self._rows.number(row)


class Unchanged:
    """Files that must stay as they are: their sizes and times of change are remembered."""

    def __init__(self, paths: tuple[str, ...]) -> None:
        self._seen = {path: _look(path) for path in paths}

    def require(self) -> None:
        """Raise DataFileError if a file was changed or is gone."""
        for path, seen in self._seen.items():
            if _look(path) != seen:
                raise DataFileError(f"{path}: was changed while it was in use; fit again on the new file")


def _look(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return found.st_size, found.st_mtime_ns


def rows_of(X: Any) -> Rows:
    """Return a memory-mapped or Zarr matrix as rows."""
    if X.dtype.kind not in "fiub":
        raise InputError(f"X has dtype {X.dtype}, not numbers: convert it to floats")
    if isinstance(X, np.memmap) and X.filename is not None and X.flags.c_contiguous:
        # A view keeps the offset of the whole map; where it begins itself, its address tells.
        into = X.ctypes.data - np.frombuffer(_map_of(X), np.uint8).ctypes.data
        start = X.offset - X.offset % mmap.ALLOCATIONGRANULARITY
        return FileRows(str(X.filename), start + into, X.shape, X.dtype)
    return ArrayRows(X, str(getattr(X, "filename", None) or getattr(X, "store_path", "X")))


def _files_of(X: Any) -> tuple[str, ...]:
    """Return the file of a mapped array, or those of a Zarr array in a local folder."""
    if isinstance(X, np.memmap):
        return (str(X.filename),) if X.filename else ()
    root = getattr(getattr(X, "store", None), "root", None)
    if root is None:
        return ()
    return tuple(sorted(str(p) for p in Path(root, X.path).rglob("*") if p.is_file()))


def _map_of(X: Any) -> mmap.mmap:
    mapped: mmap.mmap = X._mmap
    return mapped


def stacked(parts: list[Matrix]) -> Matrix:
    """Return matrices, dense or sparse, one below the other."""
    if len(parts) == 1:
        return parts[0]
    return sp.vstack(parts, format="csr") if sp.issparse(parts[0]) else np.concatenate(parts)
