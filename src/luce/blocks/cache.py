"""What cannot be read at random, or takes work to read, is written once as rows that are read fast."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from luce.blocks.rows import FileRows, Rows, SparseRows
from luce.loss.inputs import Array, Matrix


class Scratch:
    """A temporary folder that lasts as long as this object, at most until the program ends.

    It is in ``$TMPDIR`` or else in ``/var/tmp``, for ``/tmp`` may lie in memory.
    """

    def __init__(self) -> None:
        place = os.environ.get("TMPDIR") or ("/var/tmp" if os.path.isdir("/var/tmp") else None)
        self.path = Path(tempfile.mkdtemp(prefix="luce-", dir=place))
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)


class Cache:
    """Rows written block by block to a temporary folder, which is gone when nothing uses it any more."""

    def __init__(self) -> None:
        self._folder = Scratch()
        self._lengths: list[Array] = []
        self._dtypes: dict[str, Any] = {}
        self._rows = 0

    def append(self, X: Matrix) -> None:
        """Write more rows, all dense or all CSR, of one dtype."""
        self._rows += X.shape[0]
        if sp.issparse(X):
            self._lengths.append(np.diff(X.indptr))
            self._write("data", X.data)
            self._write("indices", X.indices.astype(np.int32 if X.shape[1] < 2**31 else np.int64, copy=False))
        else:
            self._write("data", X)

    def _write(self, name: str, values: Array) -> None:
        dtype = self._dtypes.setdefault(name, values.dtype)
        with open(self._path(name), "ab") as file:
            file.write(np.ascontiguousarray(values, dtype).data)

    def _path(self, name: str) -> str:
        return str(self._folder.path / name)

    def _open(self, name: str, shape: tuple[int, int]) -> FileRows:
        return FileRows(self._path(name), 0, shape, self._dtypes[name], self._folder)

    def rows(self, n_features: int, base: int = 0) -> Rows:
        """Return what was written; `base` is the number of the first column of CSR rows."""
        if not self._lengths:
            return self._open("data", (self._rows, n_features))
        indptr = np.concatenate([[0], *self._lengths]).cumsum(dtype=np.int64)
        flat = (int(indptr[-1]), 1)
        return SparseRows(self._open("data", flat), self._open("indices", flat), indptr, n_features, base)
