"""Parquet and Arrow (Feather) files, and folders of them, read by column or in record batches."""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from glob import glob
from pathlib import Path
from typing import Any

from luce.blocks.cache import Scratch
from luce.data.streams import reading
from luce.errors import DataFileError

COLUMNAR = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".feather": "arrow",
    ".arrow": "arrow",
    ".ipc": "arrow",
}
ROOM = 256 << 20  # bytes that reading in batches may take
_BUFFER = 64 << 10  # bytes read at once from a column of a Parquet file
_PAGE = 1 << 20  # bytes of one, as nearly all writers make them


@dataclass
class ColumnarFolder:
    """All Parquet or Arrow files of a folder and its folders, or of a pattern such as ``data/*.parquet``.

    Folders named ``column=value`` add a column. All files must have the columns of the first; their types may
    differ where one holds the values of the other. The face is that of `CsvFile`.
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
        options = {
            "format": "parquet" if self.parquet else "ipc",
            "partitioning": "hive",
            "partition_base_dir": self.path if Path(self.path).is_dir() else None,
        }
        with reading(self.path):
            found = dataset.dataset(files, **options)
            self._data = dataset.dataset(files, schema=_unified(found), **options)
        self.names = list(self._data.schema.names)

    @property
    def schema(self) -> Any:
        """The names and types of the columns."""
        return self._data.schema

    def count_rows(self) -> int:
        """Return the number of rows."""
        with reading(self.path):
            return int(self._data.count_rows())

    def read(self, types: dict[str, Any], columns: Sequence[str]) -> Any:
        """Return a pyarrow.Table of the columns."""
        with reading(self.path):
            return _valid(self._data.to_table(columns=list(columns)))

    def batches(
        self, types: dict[str, Any], columns: Sequence[str], rows: int, room: int = ROOM
    ) -> Iterator[Any]:
        """Yield record batches of the columns; reading them takes about `room` bytes."""
        import pyarrow as pa
        from pyarrow.dataset import get_partition_keys

        schema = pa.schema([self.schema.field(name) for name in columns])
        for fragment in self._data.get_fragments():
            fixed = get_partition_keys(fragment.partition_expression)
            stored = [name for name in columns if name not in fixed]
            for batch in ColumnarFile(fragment.path, self.parquet).batches(types, stored, rows, room):
                arrays = [
                    pa.repeat(pa.scalar(fixed[field.name], field.type), batch.num_rows)
                    if field.name in fixed
                    else batch.column(field.name).cast(field.type)
                    for field in schema
                ]
                yield pa.RecordBatch.from_arrays(arrays, schema=schema)


def _unified(data: Any) -> Any:
    """Return a schema that holds the values of all files: dictionaries, which differ, as what they stand for.

    Raises
    ------
    DataFileError
        A file lacks a column, or has one of a type that cannot be brought together with the others'.
    """
    import pyarrow as pa

    schema = _decoded(data.schema)
    first = ""
    names: list[str] = []
    for fragment in data.get_fragments():
        own = _decoded(fragment.physical_schema)
        first, names = first or fragment.path, names or own.names
        for name in names:
            if name not in own.names:
                raise DataFileError(
                    f"{fragment.path}: has no column {name!r}, which {first} has; "
                    "add it, or leave the file out"
                )
        try:
            known = pa.schema([own.field(name) for name in names if own.names.count(name) == 1])
            schema = pa.unify_schemas([schema, known], promote_options="permissive")
        except pa.ArrowTypeError as error:
            raise DataFileError(
                f"{fragment.path}: has a column of another type than the files before it: {error}"
            ) from error
    return schema


def _decoded(schema: Any) -> Any:
    import pyarrow as pa

    return pa.schema(
        [f.with_type(f.type.value_type) if pa.types.is_dictionary(f.type) else f for f in schema]
    )


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

        file = ParquetFile(self.path, buffer_size=_BUFFER, pre_buffer=False)
        return file, file.schema_arrow

    def _open_arrow(self, columns: Sequence[str] | None = None) -> tuple[Any, Any]:
        import pyarrow as pa

        with open(self.path, "rb") as file:
            self._mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        source = pa.BufferReader(pa.py_buffer(self._mapped))
        magic = source.read(6)
        if magic[:4] == b"FEA1":
            raise DataFileError(f"{self.path}: is of Feather's first version; write it again as Parquet")
        source.seek(0)
        options = None
        if columns is not None:
            options = pa.ipc.IpcReadOptions(included_fields=[self.names.index(name) for name in columns])
        reader = (pa.ipc.open_file if magic == b"ARROW1" else pa.ipc.open_stream)(source, options=options)
        return reader, reader.schema

    def read(self, types: dict[str, Any], columns: Sequence[str]) -> Any:
        """Return a pyarrow.Table of the columns; the file says their types, `types` is for CSV."""
        with reading(self.path):
            if self.parquet:
                return self._file.read(columns=list(columns))
            return _valid(self._file.read_all()).select(list(columns))

    def batches(
        self, types: dict[str, Any], columns: Sequence[str], rows: int, room: int = ROOM
    ) -> Iterator[Any]:
        """Yield record batches of the columns; reading them takes about `room` bytes.

        Where all the columns need more, some are read at a time, and the file is written anew so that a few
        of its rows lie together.
        """
        import pyarrow as pa

        groups = self._groups(list(columns), room)
        with reading(self.path), released():
            if len(groups) == 1:
                yield from self._batches(groups[0], rows)
                return
            folder = Scratch()
            parts = [self._rewritten(group, rows, folder, str(i)) for i, group in enumerate(groups)]
            for batches in zip(*parts, strict=True):
                arrays = [array for batch in batches for array in batch.columns]
                yield pa.RecordBatch.from_arrays(arrays, names=[name for group in groups for name in group])

    def _groups(self, columns: list[str], room: int) -> list[list[str]]:
        """Divide the columns so that reading a group takes about `room` bytes, or less."""
        if self.parquet:
            found = self._file.metadata
            whole = max((found.row_group(i).total_byte_size for i in range(found.num_row_groups)), default=0)
            most = room // (2 * _PAGE)  # one as it is stored, one decoded
        elif hasattr(self._file, "get_batch"):
            whole = Path(self.path).stat().st_size // max(1, self._file.num_record_batches)
            most = room * len(self.names) // max(1, 2 * whole)
        else:
            return [columns]
        if 2 * whole <= room:
            return [columns]
        most = max(1, most)
        return [columns[i : i + most] for i in range(0, len(columns), most)]

    def _batches(self, columns: list[str], rows: int) -> Iterator[Any]:
        """Yield the rows of some columns, at most `rows` at a time."""
        if self.parquet:
            yield from self._file.iter_batches(batch_size=rows, columns=columns, use_threads=False)
            return
        file, _ = self._open_arrow(columns)
        found = map(file.get_batch, range(file.num_record_batches)) if hasattr(file, "get_batch") else file
        for batch in found:
            for start in range(0, batch.num_rows, rows):
                yield _valid(batch.select(columns).slice(start, rows))
                if hasattr(mmap, "MADV_DONTNEED"):
                    self._mapped.madvise(mmap.MADV_DONTNEED)  # what was read need not stay in memory

    def _rewritten(self, columns: list[str], rows: int, folder: Scratch, name: str) -> Iterator[Any]:
        """Return the batches of some columns, read from a file in which each lies by itself."""
        import pyarrow as pa

        path, writer = str(folder.path / name), None
        with released():
            for batch in self._batches(columns, rows):
                with folder.written():
                    writer = writer or pa.ipc.new_file(path, batch.schema)
                    writer.write_batch(batch)
        if writer is None:
            return iter(())
        with folder.written():
            writer.close()
        file = pa.ipc.open_file(pa.OSFile(path))
        return map(file.get_batch, range(file.num_record_batches))


@contextmanager
def released() -> Iterator[None]:
    """Give the memory that Arrow used back to the system at the end."""
    import pyarrow as pa

    try:
        yield
    finally:
        pa.default_memory_pool().release_unused()


def _valid(data: Any) -> Any:
    """Arrow data are used as they lie in the file: broken offsets would be read from foreign memory."""
    data.validate(full=True)
    return data
