"""Parquet and Arrow (Feather) files, and folders of them, read by column or in record batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from glob import glob
from pathlib import Path
from typing import Any

from luce.data.streams import reading
from luce.errors import DataFileError

COLUMNAR = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".feather": "arrow",
    ".arrow": "arrow",
    ".ipc": "arrow",
}
_AHEAD = {"batch_readahead": 1, "fragment_readahead": 1, "use_threads": False}  # little waits in memory


@dataclass
class ColumnarFolder:
    """All Parquet or Arrow files of a folder and its folders, or of a pattern such as ``data/*.parquet``.

    Folders named ``column=value`` add a column. The face is that of `CsvFile`.
    """

    path: str
    parquet: bool
    names: list[str] = field(init=False)
    notes: list[str] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        from pyarrow import dataset

        files = columnar_files(self.path)
        if not files:
            raise DataFileError(f"{self.path}: there is no Parquet or Arrow file here")
        options = dataset.ParquetFragmentScanOptions(use_buffered_stream=True, pre_buffer=False)
        parquet = dataset.ParquetFileFormat(default_fragment_scan_options=options)
        with reading(self.path):
            self._data = dataset.dataset(
                files,
                format=parquet if self.parquet else "ipc",
                partitioning="hive",
                partition_base_dir=self.path if Path(self.path).is_dir() else None,
            )
        self.names = list(self._data.schema.names)

    @property
    def schema(self) -> Any:
        """The names and types of the columns, in the first file."""
        return self._data.schema

    def count_rows(self) -> int:
        """Return the number of rows."""
        with reading(self.path):
            return int(self._data.count_rows())

    def read(self, types: dict[str, Any], columns: Sequence[str]) -> Any:
        """Return a pyarrow.Table of the columns."""
        with reading(self.path):
            return _valid(self._data.to_table(columns=list(columns)))

    def batches(self, types: dict[str, Any], columns: Sequence[str], rows: int) -> Iterator[Any]:
        """Yield record batches of the columns."""
        with reading(self.path):
            for batch in self._data.to_batches(columns=list(columns), batch_size=rows, **_AHEAD):
                yield _valid(batch)


def columnar_files(path: str) -> list[str]:
    """Return the Parquet or Arrow files of a file, a folder or a pattern, sorted."""
    if Path(path).is_file():
        return [path]
    if Path(path).is_dir():
        found = [p for p in Path(path).rglob("*") if p.suffix.lower() in COLUMNAR]
    else:
        found = [Path(p) for p in glob(path)]
    return sorted(str(p) for p in found)


@dataclass
class ColumnarFile:
    """An opened Parquet file, Arrow file or Arrow stream, with the face of `CsvFile`.

    Parameters
    ----------
    path : str
    parquet : bool
    """

    path: str
    parquet: bool
    names: list[str] = field(init=False)
    notes: list[str] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        with reading(self.path):
            if Path(self.path).stat().st_size == 0:
                raise DataFileError(f"{self.path}: is empty; a table was expected")
            self._file, schema = self._open_parquet() if self.parquet else self._open_arrow()
        self.names = list(schema.names)

    def _open_parquet(self) -> tuple[Any, Any]:
        from pyarrow.parquet import ParquetFile

        file = ParquetFile(self.path, memory_map=True)
        return file, file.schema_arrow

    def _open_arrow(self) -> tuple[Any, Any]:
        import pyarrow as pa

        source = pa.memory_map(self.path)
        magic = source.read(6)
        if magic[:4] == b"FEA1":
            raise DataFileError(f"{self.path}: is of Feather's first version; write it again as Parquet")
        source.seek(0)
        file = pa.ipc.open_file(source) if magic == b"ARROW1" else pa.ipc.open_stream(source)
        return file, file.schema

    def read(self, types: dict[str, Any], columns: Sequence[str]) -> Any:
        """Return a pyarrow.Table of the columns; the file says their types, `types` is for CSV."""
        with reading(self.path):
            if self.parquet:
                return self._file.read(columns=list(columns))
            return _valid(self._file.read_all()).select(list(columns))

    def batches(self, types: dict[str, Any], columns: Sequence[str], rows: int) -> Iterator[Any]:
        """Yield record batches of the columns."""
        import pyarrow as pa

        wanted = list(columns)
        with reading(self.path):
            if self.parquet:
                yield from self._file.iter_batches(batch_size=rows, columns=wanted)
            elif isinstance(self._file, pa.ipc.RecordBatchFileReader):
                for i in range(self._file.num_record_batches):
                    yield _valid(self._file.get_batch(i)).select(wanted)
            else:
                for batch in self._file:
                    yield _valid(batch).select(wanted)


def _valid(data: Any) -> Any:
    """Arrow data are used as they lie in the file: broken offsets would be read from foreign memory."""
    data.validate(full=True)
    return data
