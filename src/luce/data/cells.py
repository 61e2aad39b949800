"""One column of a table: what kind its cells are, and how they become numbers, labels or text."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import date, timedelta
from numbers import Number
from typing import Any, Literal

import numpy as np
import pandas as pd

from luce.errors import InputError

Array = np.ndarray[Any, Any]
Kind = Literal["number", "decimal comma", "date", "duration", "category", "text"]

LARGEST = 1e30  # far larger numbers overflow in float32, or when squared
MISSING_MARKS = frozenset({"", "?", "-", ".", "na", "n/a", "nan", "none", "null", "missing"})

_NUMBER = re.compile(
    r"([-+]?)\s*[$€£¥]?\s*((?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d*)?|\.\d+|inf(?:inity)?)(e[-+]?\d+)?\s*(%?)",
    re.IGNORECASE,
)
_CODE = re.compile(r"0\d+")  # 01234: a postcode, not the number 1234
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}([.,]\d+)?)?\s?(Z|[-+]\d{2}(:?\d{2})?)?)?")
_SWAP_COMMA = str.maketrans(",.", ".,")
# Thai, Lao, Burmese, Khmer, Japanese and Chinese are written without spaces between words.
UNSPACED = r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
# A word, as scikit-learn sees it, or one character of those scripts.
WORD_OR_CHARACTER = rf"[{UNSPACED}]|[^\W{UNSPACED}]{{2,}}"
_UNSPACED = re.compile(f"[{UNSPACED}]")


def kind_of(column: pd.Series) -> Kind:
    """Return the kind of a column from its dtype or, for strings and objects, from its cells.

    Strings are numbers or dates only if all of them are. Text is told from categories by `looks_like_text`.

    Raises
    ------
    InputError
        The cells are lists, bytes, complex numbers or the like.

    Examples
    --------
    >>> kind_of(pd.Series(["1,5", "12", "?"])), kind_of(pd.Series(["01067", "10115"]))
    ('decimal comma', 'category')
    """
    dtype: Any = column.dtype
    if isinstance(dtype, pd.CategoricalDtype) or pd.api.types.is_bool_dtype(dtype):
        return "category"
    if pd.api.types.is_complex_dtype(dtype):
        raise InputError(f"column {column.name!r} holds complex numbers; split it into real parts")
    if pd.api.types.is_numeric_dtype(dtype):
        return "number"
    if pd.api.types.is_datetime64_any_dtype(dtype):
        return "date"
    if pd.api.types.is_timedelta64_dtype(dtype):
        return "duration"
    cells = _scalars(column)[column.notna().to_numpy()]
    types = set(map(type, cells))
    if types and all(issubclass(t, date) for t in types):
        return "date"
    if types and all(issubclass(t, timedelta | np.timedelta64) for t in types):
        return "duration"
    if any(issubclass(t, bool | np.bool_) for t in types):
        return "category"
    return _kind_of_strings({label(c) for c in cells})


def _kind_of_strings(values: set[str]) -> Kind:
    values = {v.strip() for v in values if not _is_missing_mark(v)}
    if not values or any(_CODE.fullmatch(v) for v in values):
        return "category"
    if all(parse_number(v) is not None for v in values):
        return "number"
    if all(parse_number(v, comma=True) is not None for v in values):
        return "decimal comma"
    if all(_DATE.fullmatch(v) for v in values):
        return "date"
    return "category"


def looks_like_text(values: Iterable[str]) -> bool:
    """Tell prose from names: three words or more on average.

    Two characters of a script without spaces count as a word.

    Examples
    --------
    >>> [looks_like_text([v]) for v in ("a fine film, well told", "New York", "这部电影很好看")]
    [True, False, True]
    """
    words = [len(v.split()) + len(_UNSPACED.findall(v)) / 2 for v in values]
    return bool(words) and sum(words) >= 3 * len(words)


def is_unspaced(values: Iterable[str]) -> bool:
    """Tell whether a third or more of the characters belong to scripts that put no spaces between words."""
    joined = "".join(values)
    return 3 * len(_UNSPACED.findall(joined)) >= max(1, len(joined))


def parse_number(text: str, comma: bool = False) -> float | None:
    """Read a number as people write it; None where it is none.

    Thousands may be grouped, a currency sign is passed over, a percentage is divided by 100.

    Parameters
    ----------
    text : str
    comma : bool
        The comma is the decimal sign and the point groups thousands, as in much of Europe.

    Examples
    --------
    >>> parse_number("$1,234.5"), parse_number("12 %"), parse_number("4 to 5")
    (1234.5, 0.12, None)
    >>> parse_number("1.234,5", comma=True)
    1234.5
    """
    text = text.strip().replace("\u2212", "-")  # the typographer's minus sign
    found = _NUMBER.fullmatch(text.translate(_SWAP_COMMA) if comma else text)
    if found is None:
        return None
    sign, digits, exponent, percent = found.groups()
    value = float(sign + digits.replace(",", "") + (exponent or ""))
    return value / 100 if percent else value


def label(cell: Any) -> str:
    """Return a cell as the name of a category: 1, 1.0 and "1" are one category."""
    if isinstance(cell, float | np.floating) and float(cell).is_integer():
        return str(int(cell))
    return str(cell)


def as_numbers(column: pd.Series, kind: Kind = "number") -> Array:
    """Return a column as float64 (float32 stays), NaN where missing; dates and durations in days.

    Parameters
    ----------
    column : Series of length N
    kind : {"number", "decimal comma", "date", "duration"}

    Raises
    ------
    InputError
        A cell is of another kind, infinite, or beyond 1e30; the message names column and row.

    Examples
    --------
    >>> as_numbers(pd.Series(["50%", None, "?", "2"])), as_numbers(pd.Series(["1970-01-03"]), "date")
    (array([0.5, nan, nan, 2. ]), array([2.]))
    """
    if kind == "date" or kind == "duration":
        values = _days(column, kind)
    elif pd.api.types.is_numeric_dtype(column.dtype) and not pd.api.types.is_complex_dtype(column.dtype):
        dtype = np.float32 if str(column.dtype).lower() in ("float32", "float[pyarrow]") else np.float64
        values = column.to_numpy(dtype=dtype, na_value=np.nan)
    else:
        values = _parsed_numbers(column, comma=kind == "decimal comma")
    with np.errstate(invalid="ignore"):
        unusable = np.flatnonzero(np.abs(values) > LARGEST)
    if unusable.size:
        raise InputError(
            f"column {column.name!r}, {row_name(column, unusable[0])}: {values[unusable[0]]} cannot be used; "
            "numbers must be finite and within ±1e30: mend it, or leave the cell empty for missing"
        )
    return values


def as_labels(column: pd.Series) -> Array:
    """Return a column as an object array of strings, NaN where missing."""
    labels = [c if type(c) is str else label(c) for c in _scalars(column)]
    return np.where(column.isna().to_numpy(), np.nan, np.array(labels, dtype=object))


def only_numbers(column: pd.Series) -> bool:
    """Tell whether the cells are numbers, none of them a string, a truth value or a date."""
    if pd.api.types.is_bool_dtype(column.dtype) or isinstance(column.dtype, pd.CategoricalDtype):
        return False
    if pd.api.types.is_numeric_dtype(column.dtype):
        return bool(column.notna().any())
    types = set(map(type, column.dropna()))
    return bool(types) and all(issubclass(t, Number) and not issubclass(t, bool | np.bool_) for t in types)


def row_name(column: pd.Series, position: int) -> str:
    """Name a row for a message: data rows count from 1, other index labels stand as they are."""
    where = column.index[position]
    return f"row {where + 1}" if isinstance(where, int | np.integer) else f"row {where!r}"


def _scalars(column: pd.Series) -> Array:
    """Return the cells as objects; refuse cells that hold more than one value."""
    cells = column.astype(object).to_numpy()
    held = (list, tuple, set, dict, bytes, bytearray, complex, np.ndarray)
    for position in np.flatnonzero([isinstance(c, held) for c in cells])[:1]:
        raise InputError(
            f"column {column.name!r}, {row_name(column, position)} holds a value of type "
            f"{type(cells[position]).__name__}; a cell is one number or one name: "
            "spread it over several columns, or give arrays as an NPY file"
        )
    return cells


def _parsed_numbers(column: pd.Series, comma: bool) -> Array:
    values = np.full(len(column), np.nan)
    cells = _scalars(column)
    for i in np.flatnonzero(column.notna().to_numpy()):
        cell = cells[i]
        if isinstance(cell, str):
            number = np.nan if _is_missing_mark(cell) else parse_number(cell, comma)
        else:
            number = _as_float(cell)
        if number is None:
            raise _wrong_cell(column, int(i), "number")
        values[i] = number
    return values


def _as_float(cell: Any) -> float | None:
    if not isinstance(cell, Number | np.bool_):  # Decimal is a Number, dates are none
        return None
    try:
        return float(cell)  # type: ignore[arg-type]
    except OverflowError:  # an integer of hundreds of digits
        return np.inf


def _days(column: pd.Series, kind: Kind) -> Array:
    """Return dates as days since 1970, durations as days; a cell that does not parse is an error."""
    cells = column
    if column.dtype.kind not in "Mm" or isinstance(column.dtype, pd.ArrowDtype):
        cells = column.astype(object)
        cells = cells.mask(cells.map(lambda c: isinstance(c, str) and _is_missing_mark(c)).astype(bool))
        column = cells
        # pandas would take the number 5 as 5 nanoseconds.
        cells = cells.mask(cells.map(lambda c: isinstance(c, Number)).astype(bool))
    iso = "ISO8601" if cells.dtype == object else None
    parsed: Any = (
        pd.to_datetime(cells, utc=True, errors="coerce", format=iso)
        if kind == "date"
        else pd.to_timedelta(cells, errors="coerce")
    )
    for position in np.flatnonzero((parsed.isna() & column.notna()).to_numpy())[:1]:
        raise _wrong_cell(column, int(position), kind)
    if kind == "duration":
        return np.asarray(parsed.dt.total_seconds()) / 86400
    # Nanoseconds end in 2262; microseconds reach every year that a date can have.
    since: Array = parsed.dt.tz_convert(None).to_numpy().astype("datetime64[us]") - np.datetime64(0, "us")
    return since / np.timedelta64(1, "D")


def _wrong_cell(column: pd.Series, position: int, kind: Kind) -> InputError:
    cell = label(column.iloc[position])[:80]
    return InputError(
        f"column {column.name!r}, {row_name(column, position)}: {cell!r} is no {kind}, and this "
        f"column held {kind}s when the model was fitted; mend it, or leave the cell empty for missing"
    )


def _is_missing_mark(text: str) -> bool:
    return text.strip().lower() in MISSING_MARKS
