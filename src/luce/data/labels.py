"""Labels as classes: integers, booleans or strings, and a clear word where they are none of these."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from luce.errors import DataFileError

Array = np.ndarray[Any, Any]


def class_labels(values: Any, source: str, target: str) -> tuple[Array, tuple[str, ...]]:
    """Check labels and bring them to integers, booleans or strings.

    Parameters
    ----------
    values : array-like of shape (N,) or (N, 1)
    source, target : str
        File and column, for messages.

    Returns
    -------
    labels : ndarray of shape (N,)
    notes : tuple of str
        What the user should know about how the labels were read.

    Raises
    ------
    DataFileError
        Labels are missing, of a kind that cannot be a class, or a quantity.

    Examples
    --------
    >>> class_labels([1.0, 2.0], "d.csv", "y")
    (array([1, 2]), ("the labels in 'y' are whole numbers stored as decimals; they are taken as classes",))
    """
    import pandas as pd

    where = f"{source}: {target!r}"
    y = np.asarray(values)
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1:
        raise DataFileError(f"{where} has shape {y.shape}; labels are one number or name for each row")
    if y.dtype.kind == "c":
        raise DataFileError(f"{where} holds complex numbers; labels are whole numbers or names")
    missing = np.flatnonzero(pd.isna(y))
    if missing.size:
        raise DataFileError(
            f"{where} has no label in row {missing[0] + 1} ({missing.size:,} such rows); "
            "fill them in or leave these rows out"
        )
    if y.dtype.kind in "biu":
        return y, ()
    if y.dtype.kind == "f":
        return _whole_numbers(y, where, target)
    if y.dtype.kind == "S":
        y = np.char.decode(y, "utf-8", errors="replace")
    if y.dtype.kind == "M":
        y = y.astype("datetime64[s]")
    return np.array([str(v) for v in y], dtype=object), ()


def _whole_numbers(y: Array, where: str, target: str) -> tuple[Array, tuple[str, ...]]:
    infinite = np.flatnonzero(~np.isfinite(y))
    if infinite.size:
        raise DataFileError(
            f"{where} is infinite in row {infinite[0] + 1}; labels are whole numbers or names"
        )
    broken = np.flatnonzero((y != np.floor(y)) | (np.abs(y) > 2**53))
    if broken.size:
        row = broken[0]
        raise DataFileError(
            f"{where} holds quantities ({y[row]} in row {row + 1}), which is a regression; luce fits "
            "classes: choose another column, or turn the quantity into classes such as 'low' and 'high'"
        )
    note = f"the labels in {target!r} are whole numbers stored as decimals; they are taken as classes"
    return y.astype(np.int64), (note,)


def numbered(parts: Iterable[Any], source: str, target: str) -> tuple[Array, Array, tuple[str, ...]]:
    """Return labels that come in parts as numbers, of as few bytes as will do, their classes, and notes.

    Parameters
    ----------
    parts : iterable of array-like
        Together what :func:`class_labels` takes, and checks.
    source, target : str

    Examples
    --------
    >>> numbered([np.array([7, 5]), np.array([5])], "d.csv", "y")
    (array([1, 0, 0], dtype=uint8), array([5, 7]), ())
    """
    import pandas as pd

    seen: dict[Any, int] = {}
    found: list[Array] = []
    codes: list[Array] = []
    for part in parts:
        code, values = pd.factorize(np.asarray(part).ravel(), use_na_sentinel=False)
        fresh = np.array([value not in seen for value in values.tolist()], dtype=bool)
        found.append(values[fresh])
        places = np.array([seen.setdefault(value, len(seen)) for value in values.tolist()], dtype=np.int64)
        codes.append(places[code].astype(np.min_scalar_type(len(seen))))
    values, order = np.concatenate(found), np.concatenate(codes)
    try:
        labels, notes = class_labels(values, source, target)
    except DataFileError:
        class_labels(values[order], source, target)  # this one names the row
        raise
    classes, numbers = np.unique(labels, return_inverse=True)
    return numbers.astype(np.min_scalar_type(len(classes)))[order], classes, notes


def check_classes(y: Array, source: str, target: str | None) -> tuple[str, ...]:
    """Check that the labels can be fitted, as :func:`check_counts` does."""
    return check_counts(*np.unique(y, return_counts=True), source, target)


def check_counts(classes: Array, counts: Array, source: str, target: str | None) -> tuple[str, ...]:
    """Check that labels of which there are so many can be fitted; return what is worth a warning.

    Raises
    ------
    DataFileError
        There is one class only, or nearly every row is a class of its own.
    """
    where = f"{source}: {target!r}" if target else source
    rows = int(counts.sum())
    if classes.size < 2:
        raise DataFileError(
            f"{where} holds one class only ({classes[0]!s}); a classifier needs two or more: "
            "add rows of another class or choose another column"
        )
    alone = int((counts == 1).sum())
    if classes.size > 20 and 2 * alone > rows:
        raise DataFileError(
            f"{where} has {classes.size:,} different values in {rows:,} rows; that is a quantity, text or "
            "an identifier, not a class; choose another column"
        )
    if classes.dtype.kind in "iu" and classes.size > 50 and rows < 10 * classes.size:
        many = f"{target!r} has {classes.size:,} classes in {rows:,} rows"
        return (f"{many}; if it is a quantity, that is a regression",)
    return ()


def codes_of(y: Array, classes: Array) -> Array:
    """Return the index of each label in `classes`, -1 for labels that are not among them.

    Labels are compared as they are written, so that 1 in one file and "1" in another are one class.

    Examples
    --------
    >>> codes_of(np.array([2, 1, 5]), np.array(["1", "2"], dtype=object))
    array([ 1,  0, -1])
    """
    index = {str(c): i for i, c in enumerate(classes)}
    found, inverse = np.unique(y, return_inverse=True)
    codes = np.array([index.get(str(v), -1) for v in found], dtype=np.intp)
    return codes[inverse]
