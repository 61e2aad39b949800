"""One door for all data: a name or a path becomes a `Dataset`, or batches of rows to predict.

A path that exists wins over a built-in name. The format is told by the file's name, else by its content.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from luce.data import arrays, images, libsvm, tables
from luce.data.columnar import COLUMNAR, columnar_files
from luce.data.dataset import Batch, Dataset, Layout, listed
from luce.data.streams import STDIN, open_bytes, reading
from luce.errors import DataFileError

BUILT_IN = ("digits", "iris", "wine", "breast_cancer")
TABLES = ("csv", "parquet", "arrow")
ROWS = 8192  # in a batch to predict
SUFFIXES = {
    ".csv": "csv",
    ".tsv": "csv",
    **COLUMNAR,
    ".arrows": "arrow",
    ".npy": "npy",
    ".npz": "npz",
    ".svm": "libsvm",
    ".libsvm": "libsvm",
    ".svmlight": "libsvm",
    **dict.fromkeys(images.SUFFIXES, "image"),
}
MAGIC = {
    b"PAR1": "parquet",
    b"ARROW1": "arrow",
    b"\xff\xff\xff\xff": "arrow",
    b"\x93NUMPY": "npy",
    b"PK\x03\x04": "npz",
    b"\x89PNG": "image",
    b"\xff\xd8\xff": "image",
    b"\0\0": "idx",
}


def read(
    source: str, *, target: str | None = None, layout: Layout | None = None, labels: bool = True
) -> Dataset:
    """Read data into memory.

    Parameters
    ----------
    source : str
        A CSV or TSV file (also compressed, ``-`` for standard input), Parquet, Arrow or Feather (a file, a
        folder or a pattern such as ``data/*.parquet``), NPY or NPZ, Zarr, libsvm, IDX (a file, or a folder
        with MNIST's), a folder of images with a folder per class, or one of
        the built-in names digits, iris, wine and breast_cancer.
    target : str, optional
        Where the labels are: the name of a column or of an array, the number of a column of a NPY matrix, or
        a labels file. By default a column called target, label, class or y, or the labels file whose name
        belongs to the features file.
    layout : Layout, optional
        Read the data with the columns and types of this layout, a model's.
    labels : bool, default=True
        Whether labels are needed.

    Returns
    -------
    Dataset

    Raises
    ------
    luce.errors.DataFileError
        The data cannot be read as asked; the message says what is wrong, where, and the mend.

    Examples
    --------
    >>> data = read("iris")
    >>> data.X.shape, data.layout.kind, list(data.y[:2])
    ((150, 4), 'table', ['setosa', 'setosa'])
    """
    fmt = format_of(source)
    if layout is not None:
        check_kind(source, fmt, layout)
    if fmt in TABLES:
        named = target or (layout.target if layout else None)
        data = tables.read(source, fmt, named, layout, labels=labels)
        return replace(data, notes=(*_shadow_notes(source), *data.notes))
    if fmt == "libsvm":
        return libsvm.read(source, layout, labels=labels)
    if fmt == "images":
        return images.read(source, layout, labels=labels)
    if fmt == "image":
        raise DataFileError(
            f"{source}: is one image; give the folder that holds one folder of images per class"
        )
    data = _read_array(source, fmt, target or (layout.target if layout else None), labels)
    return _fitted(data, layout) if layout else data


def batches(source: str, layout: Layout, *, rows: int = ROWS) -> Iterator[Batch]:
    """Yield the features in batches, so that data larger than memory can be predicted.

    Parameters
    ----------
    source : str
        As for `read`; labels are not needed and ignored where present.
    layout : Layout
        The layout of the data that the model was fitted on.
    rows : int
        The most rows in a batch.

    Yields
    ------
    Batch
    """
    fmt = format_of(source)
    check_kind(source, fmt, layout)
    if fmt in TABLES:
        yield from tables.batches(source, fmt, layout, rows)
    elif fmt == "libsvm":
        yield from libsvm.batches(source, layout, rows)
    elif fmt in ("images", "image"):
        yield from images.batches(source, layout, rows)
    elif fmt in ("npy", "zarr"):
        yield from arrays.batches(source, fmt, layout, rows)
    else:
        data = read(source, layout=layout, labels=False)
        data = data.held_out or data
        for start in range(0, len(data), rows):
            yield Batch(data.rows(np.arange(start, min(start + rows, len(data)))).X)


def format_of(source: str) -> str:
    """Tell a source's format: by its name, else by its first bytes.

    Examples
    --------
    >>> format_of("digits")
    'built-in'
    """
    if source == STDIN:
        return "csv"
    path = Path(source)
    with reading(source):
        if path.is_dir():
            if (path / "zarr.json").exists() or (path / ".zarray").exists() or (path / ".zgroup").exists():
                return "zarr"
            if arrays.idx_images(source):
                return "idx-folder"
            files = columnar_files(source)
            return COLUMNAR[Path(files[0]).suffix.lower()] if files else "images"
        if any(mark in source for mark in "*?[") and (files := columnar_files(source)):
            return SUFFIXES.get(Path(files[0]).suffix.lower(), "parquet")
        if not path.exists():
            if source in BUILT_IN:
                return "built-in"
            raise DataFileError(
                f"{source}: no such file or folder, nor a built-in name "
                f"({', '.join(BUILT_IN)}); check the path"
            )
    bare = re.sub(r"\.(gz|bz2|xz)$", "", path.name.lower())
    if re.search(r"idx\d", bare):
        return "idx"
    return SUFFIXES.get(Path(bare).suffix) or _format_by_content(source)


def _format_by_content(source: str) -> str:
    with open_bytes(source) as stream, reading(source):
        start = stream.read(1 << 16)
    for magic, fmt in MAGIC.items():
        if start.startswith(magic):
            return fmt
    lines = start.split(b"\n")
    if len(lines) > 1:
        del lines[-1]  # it may have been cut
    line = next((line for line in lines if line.strip() and not line.startswith(b"#")), b"")
    return "libsvm" if libsvm.looks_like_libsvm(line) else "csv"


def _read_array(source: str, fmt: str, target: str | None, labels: bool) -> Dataset:
    if fmt == "zarr":
        return arrays.read_zarr(source, target, labels=labels)
    if fmt == "npy":
        return arrays.read_npy(source, target, labels=labels)
    if fmt == "npz":
        return arrays.read_npz(source, target, labels=labels)
    if fmt == "idx":
        return arrays.read_idx(source, target, labels=labels)
    if fmt == "idx-folder":
        return arrays.read_idx_folder(source, target, labels=labels)
    return _read_built_in(source)


def _read_built_in(name: str) -> Dataset:
    from sklearn import datasets

    bunch = getattr(datasets, f"load_{name}")(as_frame=name != "digits")
    y = np.asarray(bunch.target_names)[np.asarray(bunch.target)]
    if name == "digits":
        layout = Layout("images", 64, image_shape=(8, 8))
        X = np.rint(bunch.images * (255 / 16)).astype(np.uint8)  # 17 shades, spread over those of a byte
    else:
        X = bunch.data
        layout = Layout("table", X.shape[1], tuple(X.columns), ("number",) * X.shape[1], "target")
        y = y.astype(object)
    return Dataset(X, y, layout, name, f"built-in:{name}")


def _fitted(data: Dataset, layout: Layout) -> Dataset:
    """Hold array data to a model's layout."""
    if layout.kind == "table":
        if data.layout.features != layout.features:
            raise DataFileError(f"{data.name}: has other columns than the model: {listed(layout.features)}")
    elif data.layout.kind == "table":
        raise _kind_mismatch(data.name, layout, "a table")
    else:
        data = replace(data, X=arrays.rows_like(data.name, data.X, layout))
    held_out = _fitted(data.held_out, layout) if data.held_out else None
    return replace(data, layout=layout, held_out=held_out)


def check_kind(source: str, fmt: str, layout: Layout) -> None:
    """Refuse a table where a model takes arrays, and arrays where it takes a table."""
    if fmt != "built-in" and (fmt in TABLES) != (layout.kind == "table"):
        raise _kind_mismatch(source, layout, "a table" if fmt in TABLES else "an array")


def _kind_mismatch(source: str, layout: Layout, kind: str) -> DataFileError:
    wanted = {
        "table": f"a table with the columns {listed(layout.features)}",
        "images": f"images of shape {layout.image_shape}",
    }.get(layout.kind, f"a matrix of {layout.n_features:,} columns (NPY, NPZ, IDX or libsvm)")
    return DataFileError(f"{source}: is {kind}, but the model was fitted on {wanted}; give data of that kind")


def _shadow_notes(source: str) -> tuple[str, ...]:
    return (f"{source!r} is the file here, not the built-in data",) if source in BUILT_IN else ()
