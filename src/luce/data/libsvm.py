"""The libsvm format (label, then index:value pairs), read line by line into sparse rows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from typing import IO, Any

import numpy as np

from luce.data.arrays import sparse_dataset
from luce.data.dataset import Batch, Dataset, Layout
from luce.data.streams import STDIN, fingerprint, open_bytes, reading
from luce.errors import DataFileError

LINE = re.compile(rb"\s*[^\s:]+(\s+(qid:\S+|\d+:\S+))*\s*(#.*)?$")
LONGEST_LINE = 64 << 20
ROOM = 64 << 20
# More columns than this is a broken index, not data: the weights of two classes alone would need 16 GB.
MOST_FEATURES = 10**9


def looks_like_libsvm(line: bytes) -> bool:
    """Whether a line of text is a label and at least one index:value pair.

    Examples
    --------
    >>> looks_like_libsvm(b"+1 3:0.5 7:1"), looks_like_libsvm(b"12:30,a")
    (True, False)
    """
    return b":" in line.split(b"#")[0] and LINE.match(line) is not None


def read(path: str, layout: Layout | None, *, labels: bool) -> Dataset:
    """Read a whole file; features beyond the layout are left out, since a model has no weight for them."""
    found = list(parts(path, 100_000))
    if not found:
        raise DataFileError(f"{path}: is empty; lines such as '1 3:0.5 7:1' were expected")
    from scipy import sparse

    one_based = layout.one_based if layout else all(lowest > 0 for _, _, lowest in found)
    width = layout.n_features if layout else max(X.shape[1] for X, _, _ in found) - one_based
    if not 0 < width <= MOST_FEATURES:
        raise DataFileError(f"{path}: its highest feature index makes {width:,} columns; check the indices")
    X = sparse.vstack([_placed(X, one_based, width) for X, _, _ in found], format="csr")
    y = np.concatenate([y for _, y, _ in found]) if labels else None
    if y is not None and np.array_equal(y, np.rint(y)):
        y = y.astype(np.int64)  # the format writes classes as +1 and 1.0 alike
    digest = fingerprint(path) if path != STDIN else "stdin"
    data = sparse_dataset(path, X, y, None, digest, one_based=one_based)
    return replace(data, layout=layout) if layout else data


def batches(path: str, layout: Layout, rows: int) -> Iterator[Batch]:
    """Yield sparse rows, at most `rows` at a time."""
    for X, _, _ in parts(path, rows):
        yield Batch(sparse_dataset(path, placed(X, layout), None, None, "").X)


def placed(X: Any, layout: Layout) -> Any:
    """Return rows of :func:`parts` with the columns of a layout."""
    return _placed(X, layout.one_based, layout.n_features)


def _placed(X: Any, one_based: bool, width: int) -> Any:
    """Shift the columns to count from 0 and cut or pad them to `width`."""
    from scipy import sparse

    X = X[:, int(one_based) : width + one_based]
    if X.shape[1] < width:
        X = sparse.csr_array((X.data, X.indices, X.indptr), shape=(X.shape[0], width))
    return sparse.csr_array(X)


def parts(path: str, rows: int, room: int = ROOM) -> Iterator[tuple[Any, Any, int]]:
    """Yield (X with columns as numbered in the file, labels, lowest index).

    A part has at most `rows` rows, and a line more than `room` bytes of text.
    """
    from sklearn.datasets import load_svmlight_file

    done = 0
    with open_bytes(path) as stream:
        while lines := _lines(stream, path, rows, room, done):
            try:
                X, y = load_svmlight_file(
                    BytesIO(b"".join(lines)), zero_based=True, n_features=MOST_FEATURES + 1
                )
            except Exception as error:
                raise _blame(path, lines, done, error) from error
            if y.size:
                lowest, highest = (int(X.indices.min()), int(X.indices.max())) if X.nnz else (1, 0)
                yield X[:, : highest + 1], y, lowest
            done += len(lines)


def _lines(stream: IO[bytes], path: str, rows: int, room: int, done: int) -> list[bytes]:
    with reading(path):
        lines: list[bytes] = []
        while len(lines) < rows and room > 0 and (line := stream.readline(LONGEST_LINE)):
            lines.append(line)
            room -= len(line)
    for i, line in enumerate(lines):
        if len(line) == LONGEST_LINE:
            raise DataFileError(
                f"{path}: line {done + i + 1} is longer than {LONGEST_LINE >> 20} MiB; is it text?"
            )
    return lines


def _blame(path: str, lines: list[bytes], done: int, error: Exception) -> DataFileError:
    """Name the first line that is not of the form; the parser itself names none."""
    for number, line in enumerate(lines, done + 1):
        bare = line.split(b"#")[0]
        if bare.strip() and not LINE.match(bare):
            shown = line[:60].decode("utf-8", errors="replace").strip()
            return DataFileError(
                f"{path}: line {number} is {shown!r} where 'label index:value ...' was expected"
            )
    return DataFileError(f"{path}: after line {done:,}: {error}; each line is 'label index:value ...'")
