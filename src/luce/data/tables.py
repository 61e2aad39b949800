"""Tables (CSV, Parquet, Arrow), read whole or in batches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

from luce.data.columnar import ROOM, ColumnarFile, ColumnarFolder, columnar_files
from luce.data.csv_file import CsvFile
from luce.data.dataset import Batch, Dataset, Layout, listed, missing_column
from luce.data.frames import arrow_types, frame_of, kind_of, plain
from luce.data.labels import class_labels
from luce.data.streams import STDIN, fingerprint, open_bytes, reading
from luce.errors import DataFileError

Opened: TypeAlias = CsvFile | ColumnarFile | ColumnarFolder
TARGET_NAMES = ("target", "label", "class", "y")


def read(path: str, fmt: str, target: str | None, layout: Layout | None, *, labels: bool) -> Dataset:
    """Read a whole table; `layout` makes it have the columns and types of an earlier one."""
    with _opened(path, fmt) as file:
        notes = list(file.notes)
        if labels:
            target, guessed = find_target(path, file.names, target)
            notes += guessed
        else:
            target = None
        features = list(layout.features) if layout else [name for name in file.names if name != target]
        check_present(path, file.names, features)
        if not features:
            raise DataFileError(f"{path}: has no column beside the labels {target!r}; add feature columns")
        wanted = features if target is None or target in features else [*features, target]
        table = file.read(arrow_types(layout) if layout else {}, wanted)
    if table.num_rows == 0:
        raise DataFileError(f"{path}: has a header but no rows; add some")
    types = layout.types if layout else tuple(kind_of(path, name, table[name].type) for name in features)
    X = frame_of(path, table, features, types)
    y = None
    if target is not None:
        with reading(path):
            y, said = class_labels(plain(table[target]), path, target)
        notes += said
    if isinstance(file, CsvFile) and path == STDIN:
        digest = file.text.fingerprint
    else:
        digest = fingerprint(*([path] if Path(path).is_file() else columnar_files(path)))
    layout = layout or Layout("table", len(features), tuple(features), types, target)
    return Dataset(X, y, layout, path, digest, tuple(notes))


def batches(path: str, fmt: str, layout: Layout, rows: int, room: int = ROOM) -> Iterator[Batch]:
    """Yield the feature columns, at most `rows` rows at a time; reading takes about `room` bytes."""
    features = list(layout.features)
    done = 0
    with _opened(path, fmt) as file:
        check_present(path, file.names, features)
        for part in file.batches(arrow_types(layout), features, rows, room):
            for start in range(0, part.num_rows, rows):
                piece = part.slice(start, rows)
                yield Batch(frame_of(path, piece, features, layout.types, first_row=done))
                done += piece.num_rows


@contextmanager
def _opened(path: str, fmt: str) -> Iterator[Opened]:
    if fmt == "csv":
        with open_bytes(path) as stream:
            yield checked(CsvFile(stream, path), path)
    else:
        kind = ColumnarFile if Path(path).is_file() else ColumnarFolder
        yield checked(kind(path, fmt == "parquet"), path)


def checked(file: Opened, path: str) -> Opened:
    """Return the file, if its columns have names that tell them apart."""
    twice = [name for name, count in Counter(file.names).items() if count > 1]
    if twice:
        raise DataFileError(
            f"{path}: column names occur twice: {listed(twice)}; rename them"
            " (or add a header line, if the file has none)"
        )
    if not file.names:
        raise DataFileError(f"{path}: has no columns; a table with a header was expected")
    return file


def find_target(path: str, names: list[str], target: str | None) -> tuple[str, list[str]]:
    """Return the column of the labels, asked for or guessed, and what is to be said about the guess."""
    if target is not None:
        if target not in names:
            raise missing_column(path, target, names)
        return target, []
    by_name = {name.lower(): name for name in reversed(names)}
    for guess in TARGET_NAMES:
        if guess in by_name:
            return by_name[guess], [
                f"labels are in {by_name[guess]!r}, by its name; --target COL picks another"
            ]
    raise DataFileError(
        f"{path}: which column holds the labels? pass --target COL; there are: {listed(names)}"
    )


def check_present(path: str, names: list[str], features: list[str]) -> None:
    """Refuse a file that lacks columns."""
    there = set(names)
    absent = [name for name in features if name not in there]
    if len(absent) == 1:
        raise missing_column(path, absent[0], names)
    if absent:
        raise DataFileError(
            f"{path}: {len(absent)} columns that the model needs are missing: {listed(absent)}; "
            f"there are: {listed(names)}"
        )
