"""CSV and TSV: the first lines tell separator, header and codes such as 01067; Arrow reads the rest."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import IO, Any

from luce.data.streams import Utf8, open_bytes, reading
from luce.errors import DataFileError

BLOCK = 4 << 20  # bytes that Arrow parses at once; a row must fit
SEPARATORS = {",": "a comma", ";": "a semicolon", "\t": "a tab", "|": "a bar"}
# Arrow's own spellings of a missing value, and the question mark of the UCI collections.
CONVERSION = re.compile(r"CSV column #(\d+): .*CSV conversion error to (\w+)", re.DOTALL)
CODE = re.compile(r"\s*0\d+\s*")
MISSING = ["", "#N/A", "#NA", "N/A", "NA", "NULL", "NaN", "n/a", "nan", "null", "?", " ?"]


@dataclass
class CsvFile:
    """An opened CSV file: what its first lines say, and the rest as Arrow tables.

    Parameters
    ----------
    stream : binary file
    name : str
        Used in messages; a name with ``.tsv`` prefers the tab as separator.
    block : int
        Bytes that Arrow parses at once.

    Attributes
    ----------
    names : list of str
        The header; "1" to "n" for a file without one.
    separator : str
    notes : list of str
    """

    stream: IO[bytes]
    name: str
    block: int = BLOCK
    names: list[str] = field(init=False)
    separator: str = field(init=False)
    notes: list[str] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        self.text = Utf8(self.stream, self.name)
        if not self.text.head.strip():
            raise DataFileError(f"{self.name}: is empty; a header and rows were expected")
        lines = self.text.head.lstrip().splitlines()
        usual = "\t" if ".tsv" in self.name.lower() else ","
        self.separator = _separator(lines[0], usual)
        if self.separator != usual:
            self.notes.append(f"columns are separated by {SEPARATORS[self.separator]}")
        with reading(self.name):
            rows = list(islice(csv.reader(io.StringIO(self.text.head), delimiter=self.separator), 1000))
        first = [cell.strip() for cell in rows[0]]
        self._header = _is_header(first, rows[1] if len(rows) > 1 else [])
        if self._header:
            self.names = [cell or f"column {i}" for i, cell in enumerate(first, 1)]
        else:
            self.names = [str(i) for i in range(1, len(first) + 1)]
            self.notes.append(f"the first line holds numbers, not names; columns are named 1 to {len(first)}")
        # Arrow would read the postcode 01067 as the number 1067.
        self._codes = {
            name for row in rows for name, cell in zip(self.names, row, strict=False) if CODE.fullmatch(cell)
        }

    def read(self, types: dict[str, Any], columns: Sequence[str]) -> Any:
        """Return the whole file as a pyarrow.Table; a column's type is found from all of its rows."""
        import pyarrow.csv

        with self._explained():
            return pyarrow.csv.read_csv(self.text, **self._options(types, columns))

    def batches(
        self, types: dict[str, Any], columns: Sequence[str], rows: int, room: int = 0
    ) -> Iterator[Any]:
        """Yield record batches of the columns, whose types must be given; Arrow chooses their length.

        The face of other tables has room for bytes that reading may take: here it takes little.
        """
        import pyarrow.csv

        with self._explained():
            yield from pyarrow.csv.open_csv(self.text, **self._options(types, columns))

    def _options(self, types: dict[str, Any], columns: Sequence[str]) -> dict[str, Any]:
        from pyarrow import string
        from pyarrow.csv import ConvertOptions, ParseOptions, ReadOptions

        return {
            # With threads, Arrow's messages lose the row number.
            "read_options": ReadOptions(
                use_threads=False,
                block_size=self.block,
                column_names=self.names,
                skip_rows_after_names=int(self._header),
            ),
            "parse_options": ParseOptions(delimiter=self.separator, newlines_in_values=True),
            "convert_options": ConvertOptions(
                null_values=MISSING,
                strings_can_be_null=True,
                column_types={name: string() for name in self._codes} | types,
                include_columns=columns,
            ),
        }

    @contextmanager
    def _explained(self) -> Iterator[None]:
        from pyarrow import ArrowInvalid

        with reading(self.name):
            try:
                yield
            except ArrowInvalid as error:
                raise self._explanation(str(error)) from error

    def _explanation(self, text: str) -> DataFileError:
        if found := re.search(r"(?:Row #(\d+): )?Expected (\d+) columns, got (\d+): (.*)", text, re.DOTALL):
            row, expected, got, cells = found.groups()
            return DataFileError(
                f"{self.name}: {self._row(row)} has {got} columns where the first line has {expected}: "
                f"{cells[:60]!r}; quote cells that hold the separator, or mend the row"
            )
        if found := re.search(r"CSV column #(\d+): (?:Row #(\d+): )?.* to (\w+): invalid value '(.*)'", text):
            column, row, kind, cell = found.groups()
            kind = {"double": "a number", "bool": "true or false"}.get(kind, f"a {kind}")
            return DataFileError(
                f"{self.name}: {self._row(row)}, column {self.names[int(column)]!r}: {cell[:60]!r} is not "
                f"{kind}, which this column held before; mend or empty the cell"
            )
        if "straddling" in text:
            return DataFileError(
                f"{self.name}: a row is longer than {self.block / 2**20:g} MiB; is a quote left open?"
            )
        return DataFileError(f"{self.name}: is not valid CSV: {text[:200]}")

    def _row(self, number: str | None) -> str:
        return f"row {int(number) - self._header}" if number else "a row"


def as_arrow(source: str, path: str, types: dict[str, Any], block: int = BLOCK) -> list[str]:
    """Write a CSV file as an Arrow file, never holding more than a few blocks of it; return its notes.

    The first block tells the types of the columns that have none in `types`. Where a later cell is of
    another, the column becomes one of decimals, or of text, as it would if the file were read whole, and all
    begins anew.
    """
    import pyarrow as pa
    import pyarrow.csv

    types = dict(types)
    while True:
        with open_bytes(source) as stream:
            file = CsvFile(stream, source, block)
            try:
                with reading(source):
                    reader = pyarrow.csv.open_csv(file.text, **file._options(types, file.names))
                    with pa.ipc.new_file(path, reader.schema) as writer:
                        for batch in reader:
                            writer.write_batch(batch)
                return file.notes
            except DataFileError as error:
                found = CONVERSION.search(str(error.__cause__))
                if found is None:
                    raise file._explanation(str(error.__cause__)) from error
                name = file.names[int(found[1])]
                as_text = name in types or found[2] not in ("null", "int64")
                types[name] = pa.string() if as_text else pa.float64()


def _separator(line: str, usual: str) -> str:
    """The separator that the first line holds most often outside quotes; the usual one in a tie."""
    bare = re.sub(r'"[^"]*"', "", line)
    best = max(SEPARATORS, key=lambda s: (bare.count(s), s == usual))
    return best if bare.count(best) else usual


def _is_header(first: Sequence[str], second: Sequence[str]) -> bool:
    """Whether the first line names the columns: no numbers, or a name above a number, or 0, 1, 2, ..."""
    numbers = [cell for cell in first if _is_number(cell)]
    if not numbers or any(
        _is_number(below) and cell not in MISSING and not _is_number(cell)
        for cell, below in zip(first, second, strict=False)
    ):
        return True
    start = numbers[0]
    return (
        len(numbers) > 1
        and start.isdecimal()
        and numbers == [str(int(start) + i) for i in range(len(numbers))]
    )


def _is_number(cell: str) -> bool:
    try:
        return float(cell) == float(cell)  # the spelling of NaN is no number here
    except ValueError:
        return False
