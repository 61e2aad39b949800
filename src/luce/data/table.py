"""The first step of a table's pipeline: every column checked, and brought to one clean type."""

from __future__ import annotations

from collections import Counter
from difflib import get_close_matches
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin

from luce.data import cells
from luce.errors import InputError


class Table(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Check a table against the one that was fitted, and give each column one clean type.

    Columns may come in any order, and columns that are not used are passed over. Numbers, dates (days since
    1970) and durations (days) become float64 (float32 stays) with NaN for missing, categories become strings
    with NaN for missing, text becomes strings, "" for missing.

    Parameters
    ----------
    columns : dict of str to str
        Kind of each column that is used: "number", "decimal comma", "date", "duration", "category" or "text".
    dropped : dict of str to str
        Columns that are not used, and why.

    Attributes
    ----------
    feature_names_in_ : ndarray of str
    missing_ : dict of str to int
        Number of missing cells in each column that is used.
    number_like_ : list of str
        Categories and texts that are numbers in some rows, so that numbers are no error there.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"age": ["31", "?"], "sex": ["f", None]})
    >>> print(Table({"age": "number", "sex": "category"}, {}).fit_transform(table))
        age  sex
    0  31.0    f
    1   NaN  NaN
    """

    def __init__(self, columns: dict[str, cells.Kind], dropped: dict[str, str]) -> None:
        self.columns = columns
        self.dropped = dropped

    def fit(self, X: Any, y: Any = None) -> Table:
        """Learn which cells are missing and which categories look like numbers."""
        self.fit_transform(X)
        return self

    def fit_transform(self, X: Any, y: Any = None) -> pd.DataFrame:
        """Fit, and return the clean table of the used columns."""
        frame = named_frame(X)
        clean = self._clean(frame)
        self.feature_names_in_ = np.array(list(frame.columns), dtype=object)
        self.n_features_in_ = len(self.feature_names_in_)
        self.missing_ = {
            name: int((clean[name] == "").sum() if kind == "text" else clean[name].isna().sum())
            for name, kind in self.columns.items()
        }
        self.number_like_ = [
            name
            for name, kind in self.columns.items()
            if kind in ("category", "text")
            and any(cells.parse_number(v) is not None for v in clean[name].dropna().unique())
        ]
        return clean

    def transform(self, X: Any) -> pd.DataFrame:
        """Return the clean table of the used columns.

        Raises
        ------
        InputError
            A column is missing, or its cells are of another kind than in the table that was fitted.
        """
        frame = named_frame(X)
        absent = [name for name in self.columns if name not in frame.columns]
        if absent:
            raise InputError(_absent(absent, list(frame.columns)))
        for name, kind in self.columns.items():
            of_words = kind in ("category", "text") and name not in self.number_like_
            if of_words and cells.only_numbers(frame[name]):
                raise InputError(
                    f"column {name!r} holds numbers, but held {'text' if kind == 'text' else 'names'} when "
                    "the model was fitted; give the column it was fitted on, or fit again"
                )
        return self._clean(frame)

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray[Any, Any]:
        """Return the names of the columns that are used."""
        return np.array(list(self.columns), dtype=object)

    def _clean(self, frame: pd.DataFrame) -> pd.DataFrame:
        clean: dict[str, pd.Series] = {}
        for name, kind in self.columns.items():
            if kind in ("category", "text"):
                values = cells.as_labels(frame[name])
                clean[name] = pd.Series(values, index=frame.index, dtype=object)
                if kind == "text":
                    clean[name] = clean[name].fillna("")
            else:
                clean[name] = pd.Series(cells.as_numbers(frame[name], kind), index=frame.index)
        return pd.DataFrame(clean, index=frame.index)


def named_frame(X: Any) -> pd.DataFrame:
    """Return pandas, polars and pyarrow tables as a pandas DataFrame with distinct column names, all strings.

    Raises
    ------
    InputError
        X is no table, or two columns share a name.
    """
    frame = X.to_pandas() if hasattr(X, "to_pandas") else X
    if not isinstance(frame, pd.DataFrame):
        raise InputError(
            f"a table with named columns is needed, not {type(X).__name__}; "
            "give the columns that the model was fitted on"
        )
    names = [str(name) for name in frame.columns]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise InputError(f"two columns are named {twice[0]!r}; rename or drop one")
    return frame if names == list(frame.columns) else frame.set_axis(names, axis=1)


def _absent(absent: list[str], present: list[str]) -> str:
    near = get_close_matches(absent[0], present, n=2, cutoff=0.5)
    hint = (
        f"did you mean {' or '.join(map(repr, near))}?" if near else f"there are: {', '.join(present[:12])}"
    )
    others = f" ({len(absent)} columns are missing in all)" if len(absent) > 1 else ""
    return f"column {absent[0]!r}, which the model was fitted on, is missing{others}; {hint}"
