"""Rows of predictions as CSV, Parquet or JSON lines, written as they come."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import IO, Any

import numpy as np

from luce.files import written_whole

Columns = dict[str, Any]


def write_rows(parts: Iterable[Columns], path: str, classes: Any, proba: bool) -> None:
    """Write columns part by part; the suffix of the path tells the format, ``-`` is CSV on stdout.

    Parameters
    ----------
    parts : iterable of dict of str to array
        All with the same keys: maybe "file", then "prediction", then "proba_CLASS".
    path : str
    classes : ndarray of shape (C,)
        For the header of an output without rows.
    proba : bool
        Whether the parts hold probabilities.
    """
    empty: Columns = {"prediction": classes[:0]}
    if proba:
        empty |= {f"proba_{c}": np.empty(0) for c in classes}
    write = {".parquet": _parquet, ".jsonl": _json_lines}.get(path[path.rfind(".") :].lower(), _csv)
    with _opened(path) as file:
        write(_at_least(parts, empty), file)


@contextmanager
def _opened(path: str) -> Iterator[IO[bytes]]:
    if path != "-":
        with written_whole(path) as file:
            yield file
        return
    yield sys.stdout.buffer
    sys.stdout.buffer.flush()


def _at_least(parts: Iterable[Columns], empty: Columns) -> Iterator[Columns]:
    some = False
    for part in parts:
        some = True
        yield part
    if not some:
        yield empty


def _csv(parts: Iterator[Columns], file: IO[bytes]) -> None:
    import pyarrow.compute as pc

    for i, part in enumerate(parts):
        if i == 0:
            file.write(_csv_line(part).encode() + b"\n")
        lines = pc.binary_join_element_wise(*(_csv_cells(column) for column in part.values()), ",")
        file.write("".join(f"{line}\n" for line in lines.to_pylist()).encode())
        file.flush()


def _csv_cells(column: Any) -> Any:
    """A column as Arrow strings: numbers in their shortest exact spelling, strings quoted where needed."""
    import pyarrow as pa

    values = pa.array(_values(column))
    if not pa.types.is_string(values.type):
        return values.cast(pa.string())
    coded = values.dictionary_encode()
    quoted = pa.array([_csv_line([v]) for v in coded.dictionary.to_pylist()], pa.string())
    return quoted.take(coded.indices)


def _csv_line(cells: Iterable[str]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(cells)
    return line.getvalue()


def _json_lines(parts: Iterator[Columns], file: IO[bytes]) -> None:
    for part in parts:
        names = [name for name in part if not name.startswith("proba_")]
        classes = [name.removeprefix("proba_") for name in part if name.startswith("proba_")]
        columns = [c.tolist() if isinstance(c, np.ndarray) else c for c in part.values()]
        for row in zip(*columns, strict=True):
            record: Columns = dict(zip(names, row, strict=False))
            if classes:
                record["probabilities"] = dict(zip(classes, row[len(names) :], strict=True))
            file.write(json.dumps(record, ensure_ascii=False).encode() + b"\n")
        file.flush()


def _parquet(parts: Iterator[Columns], file: IO[bytes]) -> None:
    import pyarrow as pa
    from pyarrow.parquet import ParquetWriter

    writer = None
    for part in parts:
        table = pa.table({name: pa.array(_values(column)) for name, column in part.items()})
        writer = writer or ParquetWriter(file, table.schema)
        writer.write_table(table.cast(writer.schema))
    if writer is not None:
        writer.close()


def _values(column: Any) -> Any:
    """Labels of dtype object as a list, from which Arrow takes the type of their values."""
    return column.tolist() if isinstance(column, np.ndarray) and column.dtype == object else column
