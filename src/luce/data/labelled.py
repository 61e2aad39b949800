"""Labelled rows of a CSV file as they come, for data that are read once and never whole."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from luce.data.csv_file import CsvFile
from luce.data.dataset import Dataset, Layout
from luce.data.frames import arrow_types, frame_of, kind_of, plain
from luce.data.labels import class_labels
from luce.data.streams import CHUNK, open_bytes, reading
from luce.data.tables import checked, find_target
from luce.errors import DataFileError


@dataclass
class LabelledRows:
    """Rows with labels, to be read once.

    Attributes
    ----------
    layout : Layout
        Types of the columns as the first megabyte tells them; later cells must be of these.
    notes : tuple of str
        What was decided that the user should know.
    """

    path: str
    layout: Layout
    notes: tuple[str, ...]
    _file: CsvFile
    _target_type: Any
    done: int = field(init=False, default=0)

    def batches(self, rows: int) -> Iterator[Dataset]:
        """Yield the rows, at most `rows` at a time.

        Raises
        ------
        DataFileError
            A cell is of another kind than its column was at first, or a label is missing.
        """
        features, target = list(self.layout.features), str(self.layout.target)
        types = {**arrow_types(self.layout), target: self._target_type}
        for part in self._file.batches(types, [*features, target], rows):
            for start in range(0, part.num_rows, rows):
                piece = part.slice(start, rows)
                labels = piece[target]
                if labels.null_count:
                    row = self.done + labels.is_null().to_pylist().index(True) + 1
                    raise DataFileError(
                        f"{self.path}: {target!r} has no label in row {row}; fill it in or leave the row out"
                    )
                X = frame_of(self.path, piece, features, self.layout.types, first_row=self.done)
                y, _ = class_labels(plain(labels), self.path, target)
                yield Dataset(X, y, self.layout, self.path, self.fingerprint)
                self.done += piece.num_rows

    @property
    def fingerprint(self) -> str:
        """A hash of the bytes that were read so far."""
        return self._file.text.fingerprint


@contextmanager
def labelled_rows(path: str, target: str | None = None, *, names: bool = False) -> Iterator[LabelledRows]:
    r"""Open CSV or TSV, compressed or not, ``-`` for standard input.

    Parameters
    ----------
    path : str
    target : str, optional
        The column with the labels, by default one called target, label, class or y.
    names : bool
        Take labels as names even where they look like whole numbers.

    Raises
    ------
    DataFileError
        It is no CSV, or there are no such labels.

    Examples
    --------
    >>> path = getfixture("tmp_path") / "a.csv"
    >>> _ = path.write_text("size,kind\n1,ant\n2.5,bee\n")
    >>> with labelled_rows(str(path), "kind") as rows:
    ...     print(rows.layout.types, [list(batch.y) for batch in rows.batches(1)])
    ('number',) [['ant'], ['bee']]
    """
    from pyarrow import string, types

    with open_bytes(path) as stream:
        file = CsvFile(stream, path)
        checked(file, path)
        found, notes = find_target(path, file.names, target)
        features = tuple(name for name in file.names if name != found)
        if not features:
            raise DataFileError(f"{path}: has no column beside the labels {found!r}; add feature columns")
        table = _first_rows(file)
        kinds = tuple(kind_of(path, name, table[name].type) for name in features)
        whole = types.is_integer(table[found].type) or types.is_boolean(table[found].type)
        target_type = table[found].type if whole and not names else string()
        layout = Layout("table", len(features), features, kinds, found)
        yield LabelledRows(path, layout, (*file.notes, *notes), file, target_type)


def _first_rows(file: CsvFile) -> Any:
    """Return the rows that are whole in the first megabyte, as an Arrow table."""
    head = file.text.head
    with reading(file.name):
        rows = list(csv.reader(io.StringIO(head), delimiter=file.separator))
    if len(head) > CHUNK // 8:  # characters may have several bytes; of a megabyte, the last row is cut
        rows.pop()
    start = io.StringIO()
    csv.writer(start, delimiter=file.separator).writerows(rows)
    sample = CsvFile(io.BytesIO(start.getvalue().encode()), file.name)
    table = sample.read({}, sample.names)
    if not table.num_rows:
        raise DataFileError(f"{file.name}: has a header but no rows; add some")
    return table
