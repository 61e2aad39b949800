"""What cannot be read at random, or takes work to read, is written once as rows that are read fast."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
import scipy.sparse as sp

from luce.blocks.rows import FileRows, Rows, SparseRows
from luce.errors import LuceError
from luce.loss.inputs import Array, Matrix

_PREFIX = "luce-"


class Scratch:
    """A temporary folder that lasts as long as this object, at most until the program ends.

    It is in ``$TMPDIR`` or else in ``/var/tmp``, for ``/tmp`` may lie in memory. What a program that was
    killed left there is removed: a folder is in use while its file called lock is locked.
    """

    def __init__(self) -> None:
        place = os.environ.get("TMPDIR") or (
            "/var/tmp" if os.path.isdir("/var/tmp") else tempfile.gettempdir()
        )
        for left in Path(place).glob(f"{_PREFIX}*/lock"):
            with suppress(OSError), open(left) as lock:  # others' cannot be opened, or are in use
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left.parent, ignore_errors=True)
        with self.written(place):
            self.path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=place))
            self._lock = open(self.path / "new", "w")  # noqa: SIM115
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            (self.path / "new").rename(self.path / "lock")
        weakref.finalize(self, _removed, self.path, self._lock)

    @contextmanager
    def written(self, place: str | None = None) -> Iterator[None]:
        """Say what to do when the folder cannot be written to."""
        try:
            yield
        except OSError as error:
            raise LuceError(
                f"{place or self.path}: data larger than memory cannot be kept there: "
                f"{error.strerror or error}; name a folder with more room in TMPDIR"
            ) from error


def _removed(path: Path, lock: IO[str]) -> None:
    shutil.rmtree(path, ignore_errors=True)
    lock.close()


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
        with self._folder.written(), open(self._path(name), "ab") as file:
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
