"""From a table to a matrix: what is done to each column, decided once and said aloud."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from luce.data.pixels import Pixels
from luce.data.words import Words
from luce.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from luce.data.cells import Kind

MAX_CATEGORIES = 1000  # a column; rarer ones share one feature
HUGE_TEXT = 200_000_000  # characters; beyond, words are hashed and no vocabulary is kept
HASHED_FEATURES = 2**18
FEW_ROWS = 20  # below, that every row differs says nothing

_ID_NAME = re.compile(r"(.*[_\W])?(id|uuid|guid|index|row|rowid|nr|no)|unnamed: \d+|", re.IGNORECASE)


def make_pipeline(X: Any, classifier: Any, *, text: str | Sequence[str] | None = None) -> Pipeline:
    """Return an unfitted pipeline that prepares data like `X` and ends in `classifier`.

    In a table (pandas; polars and pyarrow are converted), missing numbers become the mean, with a flag for
    what was missing, and numbers are standardised; dates and durations become days and are treated alike;
    strings, truth values and categorical columns are one-hot encoded, missing cells as a category of their
    own, rare and unseen ones together; text is weighted by TF-IDF. Constant, empty and ID-like columns are
    dropped. A matrix is used as given; one of 8-bit pixels is divided by 255.

    Parameters
    ----------
    X : pandas.DataFrame, array or sparse matrix of shape (N, D), or uint8 array of shape (N, height, width)
        The data to fit, or enough of it to tell the kinds of the columns.
    classifier : scikit-learn classifier
    text : str or sequence of str, optional
        Columns to treat as text. By default those whose strings mostly differ and have three or more words.

    Returns
    -------
    sklearn.pipeline.Pipeline

    Raises
    ------
    InputError
        `text` names no column, column names repeat, cells cannot be used, or no usable column is left.

    Examples
    --------
    >>> import pandas as pd
    >>> from sklearn.linear_model import LogisticRegression
    >>> table = pd.DataFrame({"size": [1.0, 2.5, 4.0, None], "colour": ["red", "blue", "red", "blue"]})
    >>> model = make_pipeline(table, LogisticRegression()).fit(table, [0, 0, 1, 1])
    >>> for line in describe(model):
    ...     print(*line, sep=": ")
    size: number: standardised; 1 missing, set to the mean 2.5 and flagged
    colour: category: one-hot, 2 categories
    """
    if isinstance(X, np.ndarray) or sparse.issparse(X):
        return _matrix_pipeline(X, classifier, text)
    from luce.data.table import Table, named_frame

    frame = named_frame(X)
    if not len(frame.columns) or not len(frame):
        raise InputError(
            f"the table has {len(frame)} rows and {len(frame.columns)} columns; fitting needs both"
        )
    texts = _text_columns(frame, text)
    kinds: dict[str, Kind] = {}
    dropped: dict[str, str] = {}
    for name in frame.columns:
        kind, reason = _plan(frame[name], wants_text=name in texts)
        if reason:
            dropped[name] = reason
        else:
            kinds[name] = kind
    if not kinds:
        reasons = "; ".join(f"{name!r}: {reason}" for name, reason in list(dropped.items())[:5])
        raise InputError(f"no column is left to learn from ({reasons}); add some that tell the classes apart")
    return Pipeline(
        [("table", Table(kinds, dropped)), ("encode", encoder(frame, kinds)), ("classifier", classifier)]
    )


def describe(pipeline: Pipeline) -> list[tuple[str, str, str]]:
    """Say for each column its name, its kind, and what is done to it.

    Parameters
    ----------
    pipeline : Pipeline
        From `make_pipeline`, fitted.

    Returns
    -------
    list of (column, kind, what was done)
        In the order of the table; one line for a whole matrix.
    """
    first = pipeline[0]
    if isinstance(first, Pixels):
        shape = " x ".join(map(str, first.image_shape_))
        return [(f"{first.n_features_in_} columns", "pixels", f"images of {shape}, divided by 255")]
    if not hasattr(first, "dropped"):
        return [(f"{pipeline.n_features_in_} columns", "matrix", "used as given")]
    done = {name: ("dropped", reason) for name, reason in first.dropped.items()}
    for name, steps, used in pipeline["encode"].transformers_:
        names = [used] if isinstance(used, str) else list(used)
        say = {"number": _say_numbers, "category": _say_categories}.get(name, _say_text)
        done |= {
            column: (first.columns[column], what)
            for column, what in zip(names, say(first, names, steps), strict=True)
        }
    return [(name, *done[name]) for name in first.feature_names_in_ if name in done]


def _matrix_pipeline(X: Any, classifier: Any, text: object) -> Pipeline:
    if text is not None:
        raise InputError(f"there is no text column {text!r} in a matrix; give a table with named columns")
    if X.dtype.kind not in "biuf":
        raise InputError(
            f"a matrix of {X.dtype} cannot be fitted; give real numbers, or a table with named columns"
        )
    if X.dtype == np.uint8 and not sparse.issparse(X):
        return Pipeline([("pixels", Pixels()), ("classifier", classifier)])
    if X.ndim != 2:
        raise InputError(
            f"a matrix of shape (rows, columns) is needed, not {X.shape}; reshape it, a row for each example"
        )
    return Pipeline([("classifier", classifier)])


def _text_columns(frame: pd.DataFrame, text: str | Sequence[str] | None) -> list[str]:
    names = [] if text is None else [text] if isinstance(text, str) else list(text)
    for name in names:
        if name not in frame.columns:
            near = get_close_matches(name, frame.columns, n=3, cutoff=0.5) or list(frame.columns)[:12]
            raise InputError(f"there is no column {name!r}; did you mean {' or '.join(map(repr, near))}?")
    return names


def _plan(column: pd.Series, wants_text: bool) -> tuple[Kind, str]:
    """Return the kind of a column, and why it is dropped ("" where it is not)."""
    from luce.data import cells

    kind = cells.kind_of(column)
    if wants_text or kind == "category":
        values = cells.as_labels(column)
        present = values[column.notna().to_numpy()]
    else:
        values = cells.as_numbers(column, kind)
        present = values[~np.isnan(values)]
    if not len(present):
        return kind, "no values"
    if (present == present[0]).all() and len(present) == len(values):
        return kind, f"one value throughout: {cells.label(present[0])[:40]}"
    if wants_text:
        return "text", ""
    if kind == "number":
        return kind, _counter(column, present)
    if kind != "category" or str(column.dtype) == "category":
        return kind, ""
    return _text_or_category(present)


def _counter(column: pd.Series, numbers: np.ndarray[Any, Any]) -> str:
    """Say how numbers merely name the rows ("" if not): whole, all different, named so or without gaps."""
    n = len(numbers)
    span = numbers.max() - numbers.min() + 1
    if column.dtype.kind not in "iu" or n < FEW_ROWS or span < n or len(np.unique(numbers)) < n:
        return ""
    if _ID_NAME.fullmatch(str(column.name)):
        return "an ID: every row has its own number"
    return "a row counter: every row has its own number, nearly without gaps" if span <= 2 * n else ""


def _text_or_category(present: np.ndarray[Any, Any]) -> tuple[Kind, str]:
    from luce.data import cells

    different = set(present)
    if 2 * len(different) > len(present) and cells.looks_like_text(_sample(sorted(different))):
        return "text", ""
    if len(present) >= FEW_ROWS and len(different) >= 0.95 * len(present):
        return "category", "an ID: nearly every row has its own value"
    return "category", ""


def _sample(values: Sequence[str], size: int = 1000) -> Sequence[str]:
    return values[:: max(1, len(values) // size)]


def encoder(frame: pd.DataFrame, kinds: dict[str, Kind], n_rows: int | None = None) -> ColumnTransformer:
    """Return the unfitted encoder of a table's columns, or of one of `n_rows` of which this is a sample."""
    n_rows = n_rows or len(frame)
    numbers = [name for name, kind in kinds.items() if kind not in ("category", "text")]
    categories = [name for name, kind in kinds.items() if kind == "category"]
    texts = [name for name, kind in kinds.items() if kind == "text"]
    # float32 numbers stay float32; a single wider column makes the whole matrix float64.
    single = bool(numbers) and all(frame[name].dtype == np.float32 for name in numbers)
    dtype = np.float32 if single else np.float64
    steps: list[tuple[str, Any, str | list[str]]] = []
    if numbers:
        # not the median: the mean can be had part by part, so a table has one fit wherever it lies
        impute = SimpleImputer(add_indicator=True, keep_empty_features=True)
        steps.append(
            ("number", Pipeline([("impute", impute), ("scale", StandardScaler(copy=False))]), numbers)
        )
    if categories:
        steps.append(("category", _one_hot(n_rows, dtype), categories))
    for i, name in enumerate(texts):
        step = _tfidf(frame[name], dtype, n_rows)
        steps.append(("text" if len(texts) == 1 else f"text{i + 1}", step, name))
    return ColumnTransformer(steps)


def _one_hot(n_rows: int, dtype: type) -> OneHotEncoder:
    # A category seen once cannot be told from noise; in more rows, more sightings can be asked for.
    rare = 2 if n_rows < 1000 else 5 if n_rows < 100_000 else 10
    return OneHotEncoder(
        handle_unknown="infrequent_if_exist", min_frequency=rare, max_categories=MAX_CATEGORIES, dtype=dtype
    )


def _tfidf(column: pd.Series, dtype: type, n_rows: int) -> Any:
    from luce.data import cells

    sample = _sample(cells.as_labels(column.dropna()).tolist())
    n_characters = n_rows * sum(map(len, sample)) / len(sample)
    tokens: dict[str, Any] = {"ngram_range": (1, 2), "dtype": dtype}
    if cells.is_unspaced(sample):  # a pair of characters is a word more often than not
        tokens["token_pattern"] = cells.WORD_OR_CHARACTER
    if n_characters > HUGE_TEXT:
        hashed = HashingVectorizer(n_features=HASHED_FEATURES, alternate_sign=False, norm=None, **tokens)
        return Pipeline([("hash", hashed), ("weight", TfidfTransformer(sublinear_tf=True))])
    return Words(sublinear_tf=True, min_df=1 if n_rows < 1000 else 2, **tokens)


def _say_numbers(table: Any, names: list[str], steps: Pipeline) -> Iterable[str]:
    units = {"decimal comma": "decimal comma; ", "date": "days since 1970; ", "duration": "days; "}
    for name, mean in zip(names, steps["impute"].statistics_, strict=True):
        missing = table.missing_[name]
        imputed = f"; {missing:,} missing, set to the mean {mean:.6g} and flagged"
        yield f"{units.get(table.columns[name], '')}standardised{imputed if missing else ''}"


def _say_categories(table: Any, names: list[str], encoder: OneHotEncoder) -> Iterable[str]:
    for name, categories, rare in zip(
        names, encoder.categories_, encoder.infrequent_categories_, strict=True
    ):
        missing = table.missing_[name]
        said = f"one-hot, {len(categories):,} {'category' if len(categories) == 1 else 'categories'}"
        said += f", {len(rare):,} of them rare and taken together" if rare is not None else ""
        yield said + (f"; {missing:,} missing, a category of their own" if missing else "")


def _say_text(table: Any, names: list[str], step: Any) -> Iterable[str]:
    from luce.data import cells

    if isinstance(step, Pipeline):
        yield f"TF-IDF of words and pairs, hashed into {HASHED_FEATURES:,} features"
    else:
        unspaced = step.token_pattern == cells.WORD_OR_CHARACTER
        yield f"TF-IDF of {len(step.vocabulary_):,} {'characters, ' if unspaced else ''}words and pairs"
