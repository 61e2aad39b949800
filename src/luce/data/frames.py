"""Arrow columns as pandas frames whose columns are numbers, booleans, text or times."""

from __future__ import annotations

from typing import Any

import numpy as np

from luce.data.dataset import Layout
from luce.data.streams import reading
from luce.errors import DataFileError


def kind_of(path: str, name: str, arrow_type: Any) -> str:
    """Return what a column of an Arrow type is to luce: "number", "bool", "text" or "time"."""
    from pyarrow import types

    if types.is_dictionary(arrow_type):
        return kind_of(path, name, arrow_type.value_type)
    if types.is_boolean(arrow_type):
        return "bool"
    if (
        types.is_integer(arrow_type)
        or types.is_floating(arrow_type)
        or types.is_decimal(arrow_type)
        or types.is_null(arrow_type)
    ):
        return "number"
    if types.is_timestamp(arrow_type) or types.is_date(arrow_type):
        return "time"
    if types.is_string(arrow_type) or types.is_large_string(arrow_type) or types.is_time(arrow_type):
        return "text"
    raise DataFileError(
        f"{path}: column {name!r} is of type {arrow_type}; "
        "flatten it into columns of numbers or text, or drop it"
    )


def arrow_types(layout: Layout) -> dict[str, Any]:
    """Return the Arrow type as which each column of a layout is read."""
    import pyarrow as pa

    arrow = {"number": pa.float64(), "bool": pa.bool_(), "text": pa.string(), "time": pa.timestamp("us")}
    return {name: arrow[kind] for name, kind in zip(layout.features, layout.types, strict=True)}


def frame_of(path: str, table: Any, features: list[str], types: tuple[str, ...], first_row: int = 0) -> Any:
    """Return a pandas frame whose index counts the rows of the file, for messages."""
    import pandas as pd

    columns = {
        name: _convert(path, table.column(name), name, kind, first_row)
        for name, kind in zip(features, types, strict=True)
    }
    index = pd.RangeIndex(first_row, first_row + table.num_rows)
    return pd.DataFrame(columns, copy=False).set_axis(index, axis=0)


def _convert(path: str, column: Any, name: str, kind: str, first_row: int) -> Any:
    import pyarrow as pa

    with reading(path):
        values = _plain_arrow(column)
        try:
            if kind == "number":
                as_is = values.type == pa.float32() or (
                    pa.types.is_integer(values.type) and not values.null_count
                )
                return (values if as_is else values.cast(pa.float64())).to_numpy(zero_copy_only=False)
            if kind == "bool":
                return values.cast(pa.bool_()).to_numpy(zero_copy_only=False)
            if kind == "time":
                return values.cast(pa.timestamp("us"), safe=False).to_numpy(zero_copy_only=False)
            return values.cast(pa.string()).to_numpy(zero_copy_only=False)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise DataFileError(
                f"{path}: column {name!r} holds values of type {values.type}"
                f"{_first_bad(values, kind, first_row)}, but held {kind}s when the model was fitted; "
                "give it the type that it had"
            ) from error


def _first_bad(values: Any, kind: str, first_row: int) -> str:
    import pandas as pd

    if kind != "number" or str(values.type) not in ("string", "large_string"):
        return ""
    cells = values.to_pandas()
    bad = np.flatnonzero(pd.to_numeric(cells, errors="coerce").isna() & cells.notna())
    return f" (row {first_row + bad[0] + 1}: {cells[bad[0]][:60]!r})" if bad.size else ""


def _plain_arrow(column: Any) -> Any:
    """An Array for a column of a table or a batch, dictionaries decoded."""
    import pyarrow as pa

    values = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return values.dictionary_decode() if pa.types.is_dictionary(values.type) else values


def plain(column: Any) -> np.ndarray[Any, Any]:
    """Return labels as NumPy values, None where one is missing."""
    values = _plain_arrow(column)
    if values.null_count:
        return np.array(values.to_pylist(), dtype=object)
    return np.asarray(values.to_numpy(zero_copy_only=False))
