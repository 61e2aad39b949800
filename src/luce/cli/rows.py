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
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for i, part in enumerate(parts):
        if i == 0:
            writer.writerow(part)
        writer.writerows(zip(*(_values(column) for column in part.values()), strict=True))
        file.write(text.getvalue().encode())
        file.flush()
        text.seek(0)
        text.truncate()


def _json_lines(parts: Iterator[Columns], file: IO[bytes]) -> None:
    for part in parts:
        names = [name for name in part if not name.startswith("proba_")]
        classes = [name.removeprefix("proba_") for name in part if name.startswith("proba_")]
        for row in zip(*(_values(column) for column in part.values()), strict=True):
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


def _values(column: Any) -> list[Any]:
    return column.tolist() if isinstance(column, np.ndarray) else list(column)
