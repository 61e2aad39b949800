"""Tables (CSV, Parquet, Arrow) as pandas frames whose columns are numbers, booleans, text or times."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from luce.data.columnar import ColumnarFile, ColumnarFolder, columnar_files
from luce.data.csv_file import CsvFile
from luce.data.dataset import Batch, Dataset, Layout, listed, missing_column
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
            target, guessed = _find_target(path, file.names, target)
            notes += guessed
        else:
            target = None
        features = list(layout.features) if layout else [name for name in file.names if name != target]
        _check_present(path, file.names, features)
        if not features:
            raise DataFileError(f"{path}: has no column beside the labels {target!r}; add feature columns")
        wanted = features if target is None or target in features else [*features, target]
        table = file.read(_arrow_types(layout) if layout else {}, wanted)
    if table.num_rows == 0:
        raise DataFileError(f"{path}: has a header but no rows; add some")
    types = layout.types if layout else tuple(_type_of(path, name, table[name].type) for name in features)
    X = _frame(path, table, features, types)
    y = None
    if target is not None:
        with reading(path):
            y, said = class_labels(_plain(table[target]), path, target)
        notes += said
    if isinstance(file, CsvFile) and path == STDIN:
        digest = file.text.fingerprint
    else:
        digest = fingerprint(*([path] if Path(path).is_file() else columnar_files(path)))
    layout = layout or Layout("table", len(features), tuple(features), types, target)
    return Dataset(X, y, layout, path, digest, tuple(notes))


def batches(path: str, fmt: str, layout: Layout, rows: int) -> Iterator[Batch]:
    """Yield the feature columns, at most `rows` rows at a time."""
    features = list(layout.features)
    done = 0
    with _opened(path, fmt) as file:
        _check_present(path, file.names, features)
        for part in file.batches(_arrow_types(layout), features, rows):
            for start in range(0, part.num_rows, rows):
                piece = part.slice(start, rows)
                yield Batch(_frame(path, piece, features, layout.types, first_row=done))
                done += piece.num_rows


@contextmanager
def _opened(path: str, fmt: str) -> Iterator[Opened]:
    if fmt == "csv":
        with open_bytes(path) as stream:
            yield _with_columns(CsvFile(stream, path), path)
    else:
        kind = ColumnarFile if Path(path).is_file() else ColumnarFolder
        yield _with_columns(kind(path, fmt == "parquet"), path)


def _with_columns(file: Opened, path: str) -> Opened:
    twice = [name for name, count in Counter(file.names).items() if count > 1]
    if twice:
        raise DataFileError(
            f"{path}: column names occur twice: {listed(twice)}; rename them"
            " (or add a header line, if the file has none)"
        )
    if not file.names:
        raise DataFileError(f"{path}: has no columns; a table with a header was expected")
    return file


def _find_target(path: str, names: list[str], target: str | None) -> tuple[str, list[str]]:
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


def _check_present(path: str, names: list[str], features: list[str]) -> None:
    there = set(names)
    absent = [name for name in features if name not in there]
    if len(absent) == 1:
        raise missing_column(path, absent[0], names)
    if absent:
        raise DataFileError(
            f"{path}: {len(absent)} columns that the model needs are missing: {listed(absent)}; "
            f"there are: {listed(names)}"
        )


def _type_of(path: str, name: str, arrow_type: Any) -> str:
    from pyarrow import types

    if types.is_dictionary(arrow_type):
        return _type_of(path, name, arrow_type.value_type)
    if types.is_boolean(arrow_type):
        return "bool"
    if (
        types.is_integer(arrow_type)
        or types.is_floating(arrow_type)
        or types.is_decimal(arrow_type)
        or types.is_null(arrow_type)
    ):
        return "number"
    if types.is_timestamp(arrow_type) or types.is_date(arrow_type):
        return "time"
    if types.is_string(arrow_type) or types.is_large_string(arrow_type) or types.is_time(arrow_type):
        return "text"
    raise DataFileError(
        f"{path}: column {name!r} is of type {arrow_type}; "
        "flatten it into columns of numbers or text, or drop it"
    )


def _arrow_types(layout: Layout) -> dict[str, Any]:
    import pyarrow as pa

    arrow = {"number": pa.float64(), "bool": pa.bool_(), "text": pa.string(), "time": pa.timestamp("us")}
    return {name: arrow[kind] for name, kind in zip(layout.features, layout.types, strict=True)}


def _frame(path: str, table: Any, features: list[str], types: tuple[str, ...], first_row: int = 0) -> Any:
    """A pandas frame whose index counts the rows of the file, for messages."""
    import pandas as pd

    columns = {
        name: _convert(path, table.column(name), name, kind, first_row)
        for name, kind in zip(features, types, strict=True)
    }
    index = pd.RangeIndex(first_row, first_row + table.num_rows)
    return pd.DataFrame(columns, copy=False).set_axis(index, axis=0)


def _convert(path: str, column: Any, name: str, kind: str, first_row: int) -> Any:
    import pyarrow as pa

    with reading(path):
        values = _plain_arrow(column)
        try:
            if kind == "number":
                as_is = values.type == pa.float32() or (
                    pa.types.is_integer(values.type) and not values.null_count
                )
                return (values if as_is else values.cast(pa.float64())).to_numpy(zero_copy_only=False)
            if kind == "bool":
                return values.cast(pa.bool_()).to_numpy(zero_copy_only=False)
            if kind == "time":
                return values.cast(pa.timestamp("us"), safe=False).to_numpy(zero_copy_only=False)
            return values.cast(pa.string()).to_numpy(zero_copy_only=False)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise DataFileError(
                f"{path}: column {name!r} holds values of type {values.type}"
                f"{_first_bad(values, kind, first_row)}, but held {kind}s when the model was fitted; "
                "give it the type that it had"
            ) from error


def _first_bad(values: Any, kind: str, first_row: int) -> str:
    import pandas as pd

    if kind != "number" or str(values.type) not in ("string", "large_string"):
        return ""
    cells = values.to_pandas()
    bad = np.flatnonzero(pd.to_numeric(cells, errors="coerce").isna() & cells.notna())
    return f" (row {first_row + bad[0] + 1}: {cells[bad[0]][:60]!r})" if bad.size else ""


def _plain_arrow(column: Any) -> Any:
    """An Array for a column of a table or a batch, dictionaries decoded."""
    import pyarrow as pa

    values = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return values.dictionary_decode() if pa.types.is_dictionary(values.type) else values


def _plain(column: Any) -> np.ndarray[Any, Any]:
    """Labels as NumPy values, None where one is missing."""
    values = _plain_arrow(column)
    if values.null_count:
        return np.array(values.to_pylist(), dtype=object)
    return np.asarray(values.to_numpy(zero_copy_only=False))
