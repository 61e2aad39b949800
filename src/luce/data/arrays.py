"""Arrays: NumPy's NPY and NPZ, and IDX, the format of MNIST."""

from __future__ import annotations

import hashlib
import math
import re
import struct
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from luce.blocks.rows import ArrayRows
from luce.data.dataset import Batch, Dataset, Layout, listed, missing_column
from luce.data.labels import class_labels
from luce.data.streams import fingerprint, open_bytes, read_at_most, reading
from luce.errors import DataFileError, MissingExtraError

Array = np.ndarray[Any, Any]

X_NAMES = ("X", "x", "data", "images", "features", "embeddings", "X_train", "x_train")
Y_NAMES = ("y", "Y", "target", "targets", "labels", "label", "y_train", "Y_train")
# How the name of a features file becomes the name of its labels file.
LABEL_FILES = (
    ("images-idx3", "labels-idx1"),
    ("images.idx3", "labels.idx1"),
    ("images", "labels"),
    ("features", "labels"),
    ("embeddings", "labels"),
    ("X", "y"),
    ("x", "y"),
)
COLUMN = re.compile(r"-?\d+")
IDX_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def read_npy(path: str, target: str | None, *, labels: bool) -> Dataset:
    """Read features from a NPY file; labels are one of its columns or another file.

    `target` is a column number (-1 for the last) or a labels file; by default the labels file is found by
    name: ``y.npy`` beside ``X.npy``.
    """
    values = load_npy(path)
    if target is not None and COLUMN.fullmatch(target):
        if not labels:
            return _dataset(path, values, None, None, fingerprint(path))
        X, y = _split_column(path, values, target)
        return _dataset(path, X, y, target, fingerprint(path))
    return _with_labels_file(path, values, target, labels)


def read_npz(path: str, target: str | None, *, labels: bool) -> Dataset:
    """Read arrays by their usual names (X, y, x_train, y_train, ...) or a SciPy sparse matrix."""
    with open_bytes(path) as stream:
        with reading(path):
            _check_magic(path, b"PK", "an NPZ archive")
            archive = np.load(stream, allow_pickle=False)
        return _from_archive(path, archive, target, labels)


def _from_archive(path: str, archive: Any, target: str | None, labels: bool) -> Dataset:
    names: list[str] = list(archive.files)
    digest = fingerprint(path)
    if {"format", "shape", "data"} <= set(names):
        from scipy import sparse

        with reading(path):
            matrix = sparse.csr_array(sparse.load_npz(path))
            matrix.check_format(full_check=True)
        return _with_labels_file(path, matrix, target, labels)

    x_name = next((name for name in X_NAMES if name in names), None)
    if x_name is None:
        raise missing_column(path, "X", names, "array")
    y_name = None
    if labels and target is not None and target not in names:
        raise missing_column(path, target, names, "array")
    if labels:
        y_name = target or next((name for name in Y_NAMES if name in names), None)
        if y_name is None:
            raise DataFileError(
                f"{path}: which array holds the labels? pass --target NAME; there are: {listed(names)}"
            )

    def dataset(x: str, y: str | None) -> Dataset:
        return _dataset(path, _member(archive, path, x), y and _member(archive, path, y), target, digest)

    train = dataset(x_name, y_name)
    test_x, test_y = (name and name.replace("train", "test") for name in (x_name, y_name))
    if test_x is None or test_x == x_name or test_x not in names or (labels and test_y not in names):
        return train
    test = dataset(test_x, test_y)
    note = f"{test_x} is the test data"
    return replace(train, held_out=test, notes=(*train.notes, note))


def read_zarr(path: str, target: str | None, *, labels: bool) -> Dataset:
    """Read a Zarr array, whose labels are in a file, or a group with arrays called X and y."""
    X, y = open_zarr(path, target, labels=labels)
    with reading(path):
        digest = "zarr:" + hashlib.sha256(np.ascontiguousarray(X[...]).data).hexdigest()
        return _dataset(path, X[...], y, target, digest)


def open_zarr(path: str, target: str | None, *, labels: bool) -> tuple[Any, Any]:
    """Return the features of a Zarr store, not loaded, and the labels."""
    try:
        import zarr
    except ImportError:
        raise MissingExtraError(f"reading {path}", "zarr") from None
    with reading(path):
        store = zarr.open(path, mode="r")
    if not hasattr(store, "array_keys"):
        return store, load_labels(path, target or labels_file(path)) if labels else None
    names = sorted(store.array_keys())
    x_name = next((name for name in X_NAMES if name in names), None)
    if x_name is None:
        raise missing_column(path, "X", names, "array")
    y_name = target or next((name for name in Y_NAMES if name in names), None)
    if labels and y_name not in names:
        raise missing_column(path, target or "y", names, "array")
    with reading(path):
        return store[x_name], store[y_name][...] if labels else None


def batches(path: str, fmt: str, layout: Layout, rows: int) -> Iterator[Batch]:
    """Yield the rows of a NPY file or a Zarr array as a model takes them, at most `rows` at a time."""
    X = load_npy(path) if fmt == "npy" else open_zarr(path, None, labels=False)[0]
    if X.ndim < 2 or 0 in X.shape:
        as_matrix(path, np.asarray(X[...]))  # says what is wrong
    matrix = ArrayRows(X, path)
    for start in range(0, X.shape[0], rows):
        part = matrix.read(start, min(start + rows, X.shape[0]))
        yield Batch(rows_like(path, as_matrix(path, part, start)[0], layout))


def load_npy(path: str) -> Array:
    """Map a NPY file into memory; a file that holds pickled objects is refused, never opened."""
    with reading(path), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy's remarks about headers written by old Pythons
        _check_magic(path, b"\x93NUMPY", "a NPY file")
        try:
            return np.load(path, mmap_mode="r", allow_pickle=False)  # type: ignore[no-any-return]
        except ValueError as error:
            raise _without_pickle(path, error) from None


def _member(archive: Any, path: str, name: str) -> Array:
    with reading(path), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return np.asarray(archive[name])
        except ValueError as error:
            raise _without_pickle(f"{path}: {name}", error) from None


def _without_pickle(name: str, error: ValueError) -> ValueError:
    if "python objects" in str(error).lower() or "pickle" in str(error):
        return DataFileError(
            f"{name}: holds Python objects, which could run code when opened; save plain numbers "
            "(array.astype(float), or str for labels)"
        )
    return error


def _check_magic(path: str, magic: bytes, what: str) -> None:
    with open(path, "rb") as file:
        start = file.read(len(magic))
    if not start:
        raise DataFileError(f"{path}: is empty; {what} was expected")
    if start != magic:
        raise DataFileError(
            f"{path}: is not {what}: it starts with {start!r}; check its name and how it was made"
        )


def _split_column(path: str, values: Array, target: str) -> tuple[Array, Array]:
    if values.ndim != 2:
        raise DataFileError(
            f"{path}: has shape {values.shape}; --target {target} needs a matrix with a column of labels"
        )
    column, width = int(target), values.shape[1]
    if not -width <= column < width:
        raise DataFileError(
            f"{path}: has {width} columns; --target {target} is not among 0 to {width - 1} (or -1, the last)"
        )
    if column in (-1, width - 1):
        return values[:, :-1], values[:, -1]
    return np.delete(values, column, axis=1), values[:, column]


def _with_labels_file(path: str, X: Any, target: str | None, labels: bool) -> Dataset:
    """Take the labels from the file `target`, or from the one that the name of the features file suggests."""
    y, files = None, [path]
    if labels:
        files.append(target or labels_file(path))
        y = load_labels(path, files[1])
    build = _dataset if isinstance(X, np.ndarray) else sparse_dataset
    return build(path, X, y, None, fingerprint(*files))


def labels_file(path: str) -> str:
    """Return the labels file that belongs to a features file by its name."""
    for candidate in _label_paths(path):
        if candidate.exists():
            return str(candidate)
    raise DataFileError(
        f"{path}: where are the labels? pass --target FILE.npy, "
        "or a column of the matrix: --target -1 is the last"
    )


def load_labels(path: str, target: str) -> Array:
    """Read the labels file `target` of the features file `path`."""
    if target.endswith(".npy"):
        return load_npy(target)
    if target.endswith(".zarr"):
        return np.asarray(open_zarr(target, None, labels=False)[0][...])
    if "idx" in target:
        return load_idx(target)
    raise DataFileError(f"{path}: --target {target!r} is neither a column number nor a NPY, Zarr or IDX file")


def _label_paths(path: str) -> list[Path]:
    file = Path(path)
    names = [file.name.replace(x, y) for x, y in LABEL_FILES if x in file.name]
    other = [name[:-3] if name.endswith(".gz") else name + ".gz" for name in names]
    return [file.with_name(name) for name in [*names, *other] if name != file.name]


def read_idx(path: str, target: str | None, *, labels: bool) -> Dataset:
    """Read an IDX file of images and the labels file beside it (``images-idx3`` and ``labels-idx1``)."""
    X = load_idx(path)
    if X.ndim < 2:
        raise DataFileError(
            f"{path}: holds labels (one dimension); name the images file, its labels are found beside it"
        )
    return _with_labels_file(path, X, target, labels)


def read_idx_folder(folder: str, target: str | None, *, labels: bool) -> Dataset:
    """Read the train and t10k (or test) pairs of a folder such as MNIST's; the latter is the test data."""
    images = idx_images(folder)
    train = [p for p in images if "train" in p.name]
    test = [p for p in images if "t10k" in p.name or "test" in p.name]
    first = read_idx(str((train or images)[0]), target, labels=labels)
    if not train or not test:
        return replace(first, name=folder)
    second = read_idx(str(test[0]), target, labels=labels)
    note = f"{test[0].name} is the test data"
    return replace(first, name=folder, held_out=second, notes=(*first.notes, note))


def idx_images(folder: str) -> list[Path]:
    """Return the IDX image files in a folder."""
    return sorted(p for p in Path(folder).iterdir() if re.search(r"images.idx\d", p.name))


def load_idx(path: str) -> Array:
    """Read an IDX file: 0, 0, type, number of dimensions, the dimensions, the values, all big-endian."""
    with open_bytes(path) as stream, reading(path):
        head = read_at_most(stream, 4)
        if not head:
            raise DataFileError(f"{path}: is empty; an IDX file was expected")
        if len(head) < 4 or head[:2] != b"\0\0" or head[2] not in IDX_TYPES or not 1 <= head[3] <= 8:
            raise DataFileError(
                f"{path}: is not an IDX file: it starts with {head!r} where 00 00, a type and the number of "
                "dimensions belong; download it again"
            )
        shape = struct.unpack(f">{head[3]}I", _exactly(stream, 4 * head[3], path))
        dtype = np.dtype(IDX_TYPES[head[2]])
        values = _exactly(stream, math.prod(shape) * dtype.itemsize, path)
        if stream.read(1):
            raise DataFileError(
                f"{path}: holds more than the {shape} values that its header says; download it again"
            )
    return np.frombuffer(values, dtype).reshape(shape).astype(dtype.newbyteorder("="), copy=False)


def _exactly(stream: Any, size: int, path: str) -> bytes:
    data = read_at_most(stream, size)
    if len(data) < size:
        raise DataFileError(
            f"{path}: ends after {len(data):,} of the {size:,} bytes that its header says; download it again"
        )
    return data


def _dataset(path: str, X: Array, y: Any, target: str | None, digest: str) -> Dataset:
    X, image_shape = as_matrix(path, X)
    notes: tuple[str, ...] = ()
    if y is not None:
        y, notes = class_labels(y, path, target or "labels")
        check_lengths(path, X.shape[0], len(y))
    kind = "images" if X.ndim > 2 else "matrix"
    layout = Layout(kind, math.prod(X.shape[1:]), target=target, image_shape=image_shape)
    return Dataset(X, y, layout, path, digest, notes)


def sparse_dataset(
    path: str, X: Any, y: Any, target: str | None, digest: str, *, one_based: bool = True
) -> Dataset:
    """Check a CSR matrix and its labels."""
    if 0 in X.shape:
        raise DataFileError(f"{path}: has {X.shape[0]} rows and {X.shape[1]} columns; both are needed")
    if X.dtype.kind not in "buif":
        raise DataFileError(f"{path}: holds values of type {X.dtype}; features are real numbers")
    if X.dtype not in (np.float32, np.float64):
        X = X.astype(np.float64)
    bad = np.flatnonzero(~np.isfinite(X.data))
    if bad.size:
        row = int(np.searchsorted(X.indptr, bad[0], side="right"))
        raise DataFileError(
            f"{path}: row {row}, column {X.indices[bad[0]]} is {X.data[bad[0]]}; replace it by a number"
        )
    notes: tuple[str, ...] = ()
    if y is not None:
        y, notes = class_labels(y, path, target or "labels")
        check_lengths(path, X.shape[0], len(y))
    return Dataset(X, y, Layout("sparse", X.shape[1], one_based=one_based), path, digest, notes)


def check_lengths(path: str, rows: int, labels: int) -> None:
    """Refuse features and labels of different lengths."""
    if rows != labels:
        raise DataFileError(
            f"{path}: has {rows:,} rows but {labels:,} labels; they must belong together row by row"
        )


def as_matrix(path: str, X: Array, first_row: int = 0) -> tuple[Array, tuple[int, ...] | None]:
    """Return X as a finite (N, D) matrix of float32, float64 or uint8, and the shape of its images.

    Images of uint8 keep their (N, height, width) or (N, height, width, channels).
    """
    if X.dtype.kind not in "buif":
        raise DataFileError(f"{path}: holds values of type {X.dtype}; features are real numbers")
    if X.ndim < 2:
        raise DataFileError(f"{path}: has shape {X.shape}; features are a matrix: rows, columns")
    if 0 in X.shape:
        raise DataFileError(f"{path}: has shape {X.shape}; rows and columns are needed")
    image_shape = X.shape[1:] if X.ndim == 3 or (X.ndim == 4 and X.shape[3] in (1, 3, 4)) else None
    if X.dtype == np.uint8 and image_shape:
        return X, image_shape
    X = X.reshape(X.shape[0], -1)
    if X.dtype.kind == "f":
        X = X.astype(_native_float(X.dtype), copy=False)
        _check_finite(path, X, first_row)
    elif X.dtype != np.uint8:
        X = X.astype(np.float64)
    return X, image_shape


def _native_float(dtype: np.dtype[Any]) -> type[np.floating[Any]]:
    return np.float32 if dtype.itemsize <= 4 else np.float64


def _check_finite(path: str, X: Array, first_row: int, step: int = 4096) -> None:
    for start in range(0, X.shape[0], step):
        bad = np.argwhere(~np.isfinite(X[start : start + step]))
        if bad.size:
            row, column = bad[0]
            raise DataFileError(
                f"{path}: row {first_row + start + row + 1}, column {column} (from 0) is "
                f"{X[start + row, column]}; "
                "replace it, or use a table (CSV, Parquet), whose empty cells are filled in"
            )


def rows_like(path: str, X: Array, layout: Layout) -> Array:
    """Return the rows in the shape that the model was fitted on, without a column of labels."""
    if layout.target and COLUMN.fullmatch(layout.target) and X.shape[1:] == (layout.n_features + 1,):
        return np.delete(X, int(layout.target), axis=1)
    check_width(path, int(np.prod(X.shape[1:])), layout)
    if layout.kind == "images" and isinstance(X, np.ndarray) and X.dtype == np.uint8:
        return X.reshape(X.shape[0], *(layout.image_shape or ()))
    return X


def check_width(path: str, width: int, layout: Layout) -> None:
    """Refuse a matrix of another number of columns."""
    if width != layout.n_features:
        shape = f" ({' x '.join(map(str, layout.image_shape))})" if layout.image_shape else ""
        raise DataFileError(
            f"{path}: rows have {width:,} numbers where the model was fitted with {layout.n_features:,}"
            f"{shape}; give data of the same shape"
        )
