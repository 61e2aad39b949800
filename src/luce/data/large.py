"""Data that are larger than the memory they may take: they are read as a stream, or as rows on disk."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.pipeline import Pipeline

from luce.blocks.cache import Cache, Scratch
from luce.blocks.disk import DiskSamples
from luce.blocks.rows import Mapped, Rows, Subset, Unchanged, rows_of
from luce.data import arrays, libsvm, tables
from luce.data.columnar import ColumnarFolder, columnar_files, released
from luce.data.columns import encoder, make_pipeline
from luce.data.csv_file import BLOCK, as_arrow
from luce.data.dataset import Dataset, Layout
from luce.data.frames import arrow_types, frame_of, kind_of, plain
from luce.data.labels import codes_of, numbered
from luce.data.sources import check_kind, format_of
from luce.data.statistics import Statistics
from luce.data.tables import find_target
from luce.errors import DataFileError, InputError

Array = np.ndarray[Any, Any]
_BATCH_SHARE = 16  # of the memory bound that a batch of a table may take
_READER_SHARE = 4  # that what reads the files may take
_PER_ROW = 20  # bytes that a row takes in memory, of whatever data, most of them while rows are held out
_LEAST_BLOCK = 1 << 18  # bytes of CSV that are parsed at once: a row must fit
_PIECE = 100_000  # labels that are numbered at once
_WIDTHS = {"number": 8, "bool": 1, "time": 8, "text": 64}  # bytes of a cell in memory, about
_ENDS = 1 << 20  # bytes at each end of a file that its fingerprint reads
_FILES = 16  # of the many of a Zarr array, that its fingerprint reads


@dataclass(frozen=True)
class Table:
    """A table read as a stream of batches, with some of its rows in memory."""

    path: str
    fmt: str
    layout: Layout
    n_rows: int
    sample: pd.DataFrame
    batch_rows: int
    room: int  # bytes that reading may take
    folder: Any = None  # what makes the file last as long as this

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.n_rows, self.layout.n_features

    def batches(self, rows: int | None = None) -> Iterator[tuple[slice, pd.DataFrame]]:
        """Yield the rows that a batch holds, at most `rows` if that is given, and the batch."""
        start, rows = 0, min(self.batch_rows, rows or self.batch_rows)
        for batch in tables.batches(self.path, self.fmt, self.layout, rows, self.room):
            yield slice(start, start + len(batch)), batch.X
            start += len(batch)


@dataclass(frozen=True)
class LargeDataset(Dataset):
    """Rows of data larger than memory: X is all of the source, `index` says which rows these are.

    y holds the numbers of the labels in `classes`, not the labels, which would take much more memory.
    `room` is how many bytes a batch may take.
    """

    classes: Array = field(default_factory=lambda: np.empty(0))
    index: Array | None = None
    room: int = 0

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.y)

    def rows(self, index: Array) -> LargeDataset:
        """Return the dataset of the rows at `index`."""
        return replace(self, y=self.y[index], index=index if self.index is None else self.index[index])

    def class_counts(self) -> tuple[Array, Array]:
        """Return the classes, and how many rows each of them has."""
        counts = np.bincount(self.y, minlength=len(self.classes))
        there = np.flatnonzero(counts)
        return self.classes[there], counts[there]

    def codes(self, classes: Array) -> Array:
        """Return the index of each row's label in `classes`, -1 where it is not among them."""
        places = codes_of(self.classes, classes)
        narrow: Array = places.astype(np.min_scalar_type(-len(classes) - 1))
        found: Array = narrow[self.y]
        return found

    def batches(self, rows: int) -> Iterator[tuple[slice, Any]]:
        """Yield the numbers of some rows, at most `rows` of them, and their X, as they are read."""
        if isinstance(self.X, Table):
            for part, frame in self.X.batches(rows):
                if self.index is None:
                    yield part, frame
                    continue
                first, last = np.searchsorted(self.index, (part.start, part.stop)).tolist()
                if first < last:
                    yield slice(first, last), frame.iloc[self.index[first:last] - part.start]
            return
        X = self.X if self.index is None else Subset(self.X, self.index)
        for first, last in pairwise(X.cuts(self.room).tolist()):
            for start in range(first, last, rows):
                part = slice(start, min(start + rows, last))
                # pixels are of whole numbers, and stay so until a pipeline takes them
                read = X.read if X.dtype == np.uint8 else X.finite
                yield part, read(part.start, part.stop)

    def learned(self, classifier: Any, X: Any) -> None:
        """Fit a classifier to X, with these labels."""
        classifier.fit(X, self.y)
        classifier.classes_ = self.classes[classifier.classes_]


def read(source: str, target: str | None, memory: int, layout: Layout | None = None) -> LargeDataset | None:
    """Return data larger than `memory` bytes: X is a `Table` or `Rows`; None where the data are smaller.

    With a layout, a model's, the data are read with its columns and types.
    """
    fmt = format_of(source)
    if layout is not None:
        check_kind(source, fmt, layout)
        target = target or layout.target
    found = _read(source, fmt, target, memory, layout)
    if found is None:
        return None
    found = replace(found, room=memory // _BATCH_SHARE)
    if 2 * len(found) * _PER_ROW < memory:
        return found
    size = f"{-(-len(found) * _PER_ROW >> 20):,} MiB"
    note = f"the labels and numbers of {len(found):,} rows take about {size} beside --memory"
    return replace(found, notes=(*found.notes, note))


def _read(
    source: str, fmt: str, target: str | None, memory: int, layout: Layout | None
) -> LargeDataset | None:
    if fmt in ("parquet", "arrow") and not source.endswith(".arrows"):  # a stream has no number of rows
        return _table(source, fmt, target, memory, layout)
    if fmt == "csv" and Path(source).is_file() and os.path.getsize(source) > memory:
        return _csv(source, target, memory, layout)
    if fmt == "libsvm" and Path(source).is_file() and os.path.getsize(source) > memory:
        return _libsvm(source, memory, layout)
    if fmt == "npy" and Path(source).is_file():
        X = arrays.load_npy(source)
        if X.nbytes <= memory or X.ndim != 2:
            return None
        return _npy(source, X, target, layout)
    if fmt == "zarr":
        X, y = arrays.open_zarr(source, target, labels=True)
        if X.nbytes <= memory or X.ndim != 2:
            return None
        return _matrix(source, rows_of(X), _pieces(y), None, layout)
    return None


def fit(
    train: LargeDataset, classifier: Any, memory: int, text: list[str] | None = None
) -> tuple[Pipeline, Rows]:
    """Fit a pipeline to large data; return it with all the rows of their source, encoded.

    A table is read three times: for its labels and a sample of its rows, for the statistics of its columns,
    and to encode it into a temporary file, which is what the passes of the fit read.
    """
    index = np.arange(len(train)) if train.index is None else train.index
    if isinstance(train.X, Table):
        steps, rows = _encoded(train.X, index, text)
    else:
        if text:
            raise InputError(f"there is no text column {text[0]!r} in a matrix")
        steps, rows = [], train.X
        if rows.dtype == np.uint8:
            first = make_pipeline(rows.read(0, 1), classifier)
            steps = [("pixels", first[0].fit(rows.read(0, 1)))]
            rows = Mapped(rows, first[0].transform, rows.shape[1], np.float32)
    used = rows if train.index is None else Subset(rows, index)
    train.learned(classifier, DiskSamples(used, memory))
    return Pipeline([*steps, ("classifier", classifier)]), rows


def _encoded(table: Table, train: Array, text: list[str] | None) -> tuple[list[Any], Rows]:
    chosen = np.zeros(table.n_rows, dtype=bool)
    chosen[train] = True
    unchanged = Unchanged(tuple(columnar_files(table.path)))
    planned = make_pipeline(table.sample, None, text=text)[0]
    encode = encoder(table.sample, planned.columns, len(train))
    found = Statistics()
    for part, frame in table.batches():
        if chosen[part].any():
            found.update(Statistics.of(frame[chosen[part]], planned.columns, encode))
    found.fit(planned, encode, table.sample)
    cache = Cache()
    width = 0
    for _, frame in table.batches():
        X = encode.transform(planned.transform(frame))
        width = X.shape[1]
        cache.append(X)
    unchanged.require()
    return [("table", planned), ("encode", encode)], cache.rows(width)


def _table(
    source: str, fmt: str, target: str | None, memory: int, layout: Layout | None
) -> LargeDataset | None:
    import pyarrow as pa

    files = columnar_files(source)
    folder = ColumnarFolder(source, fmt == "parquet")
    target, notes = find_target(source, folder.names, target)
    if layout is None:
        features = tuple(name for name in folder.names if name != target)
        types = tuple(kind_of(source, name, folder.schema.field(name).type) for name in features)
        layout = Layout("table", len(features), features, types, target)
    else:
        features, types = layout.features, layout.types
        tables.check_present(source, folder.names, list(features))
    n_rows, width = folder.count_rows(), sum(_WIDTHS[kind] for kind in types) + 8
    if n_rows * width <= memory:
        return None
    batch_rows = max(1, memory // _BATCH_SHARE // width)
    every = max(1, n_rows * width * _BATCH_SHARE // memory)
    sample = pa.schema([(name, folder.schema.field(name).type) for name in features]).empty_table()

    def labels() -> Iterator[Array]:
        nonlocal sample
        start = 0
        for batch in folder.batches({}, [*features, target], batch_rows, memory // _READER_SHARE):
            rows = np.arange(-start % every, batch.num_rows, every)
            some = pa.Table.from_batches([batch.select(list(features)).take(rows)])
            sample = pa.concat_tables([sample, some]).combine_chunks()  # many small pieces would take more
            start += batch.num_rows
            yield plain(batch.column(target))

    y, classes, said = numbered(labels(), source, target)
    frame = frame_of(source, sample, list(features), types)
    X = Table(source, fmt, layout, n_rows, frame, batch_rows, memory // _READER_SHARE)
    return LargeDataset(X, y, layout, source, _fingerprint(files), (*notes, *said), classes=classes)


def _csv(source: str, target: str | None, memory: int, layout: Layout | None) -> LargeDataset | None:
    folder = Scratch()
    path = str(folder.path / "table.arrow")
    types = arrow_types(layout) if layout else {}
    with released():
        notes = as_arrow(source, path, types, min(BLOCK, max(_LEAST_BLOCK, memory // 64)))
    found = _table(path, "arrow", target, memory, layout)
    if found is None:
        return None
    return replace(
        found,
        X=replace(found.X, folder=folder),
        name=source,
        fingerprint=_fingerprint([source]),
        notes=(*notes, *found.notes),
    )


def _libsvm(source: str, memory: int, layout: Layout | None) -> LargeDataset:
    cache, labels, width, one_based = Cache(), [], 0, True
    for X, y, lowest in libsvm.parts(source, 10_000, memory // _BATCH_SHARE):
        cache.append(X if layout is None else libsvm.placed(X, layout))
        labels.append(y)
        width, one_based = max(width, X.shape[1]), one_based and lowest > 0
    y, classes, notes = numbered(labels, source, "labels")
    if layout is None:
        layout = Layout("sparse", width - one_based, one_based=one_based)
        rows = cache.rows(layout.n_features, int(one_based))
    else:
        rows = cache.rows(layout.n_features)
    return LargeDataset(rows, y, layout, source, _fingerprint([source]), notes, classes=classes)


def _npy(source: str, X: Array, target: str | None, layout: Layout | None) -> LargeDataset:
    if target is None or not arrays.COLUMN.fullmatch(target):
        labels = target or arrays.labels_file(source)
        return _matrix(source, rows_of(X), _pieces(arrays.load_labels(source, labels)), None, layout)
    column = int(target)
    if not -X.shape[1] <= column < X.shape[1]:
        raise DataFileError(f"{source}: has {X.shape[1]} columns; --target {target} is not among them")
    rows = rows_of(X)
    step = max(1, len(X) // 1000)
    y = (rows.read(i, min(i + step, len(X)))[:, column].copy() for i in range(0, len(X), step))
    without = Mapped(rows, lambda block: np.delete(block, column, axis=1), X.shape[1] - 1, X.dtype)
    return _matrix(source, without, y, target, layout)


def _pieces(y: Array) -> Iterator[Array]:
    return (y[i : i + _PIECE] for i in range(0, max(1, len(y)), _PIECE))


def _matrix(
    source: str, rows: Rows, labels: Iterator[Array], target: str | None, layout: Layout | None
) -> LargeDataset:
    y, classes, notes = numbered(labels, source, target or "labels")
    arrays.check_lengths(source, rows.shape[0], len(y))
    files = list(rows.files[:_FILES])
    if layout is None:
        layout = Layout("matrix", rows.shape[1], target=target)
    else:
        rows = Mapped(rows, partial(arrays.rows_like, source, layout=layout), layout.n_features, rows.dtype)
    return LargeDataset(rows, y, layout, source, _fingerprint(files), notes, classes=classes)


def content_of(data: Dataset) -> str:
    """Return a hash of the content of a file or of a folder of tables, the same however they were read."""
    files = columnar_files(data.name)
    return _fingerprint(files) if files else data.fingerprint


def _fingerprint(files: list[str]) -> str:
    """Return a hash of the sizes and the ends of files: to read them whole would take as long as a pass."""
    digest = hashlib.sha256()
    for path in files:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            digest.update(size.to_bytes(8, "little") + file.read(_ENDS))
            file.seek(max(0, size - _ENDS))
            digest.update(file.read(_ENDS))
    return f"sha256-of-ends:{digest.hexdigest()}"
