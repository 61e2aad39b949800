"""What preprocessing learns from a table, gathered part by part: parts may be read as a stream, or apart."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import Pipeline

from luce.data import cells
from luce.data.columns import MAX_CATEGORIES
from luce.data.table import Table
from luce.data.words import WordCounts, Words, idf
from luce.errors import InputError

Array = np.ndarray[Any, Any]
MOST_VALUES = 1_000_000  # different values of a column of categories that are counted


@dataclass
class Numbers:
    """Count, mean and squared deviations of the cells that are not missing."""

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0

    @classmethod
    def of(cls, values: Array) -> Numbers:
        """Return the statistics of one part of a column."""
        present = values[~np.isnan(values)].astype(np.float64)
        if not len(present):
            return cls()
        mean = float(present.mean())
        return cls(len(present), mean, float(np.square(present - mean).sum()))

    def __add__(self, other: Numbers) -> Numbers:
        """Return the statistics of two parts together (Chan, Golub and LeVeque, 1979)."""
        count = self.count + other.count
        if not count:
            return self
        shift = other.mean - self.mean
        mean = self.mean + shift * other.count / count
        squares = self.squares + other.squares + shift**2 * self.count * other.count / count
        return Numbers(count, mean, squares)


@dataclass
class Statistics:
    """What a table's pipeline learns from some of its rows; those of others can be added, see `update`."""

    rows: int = 0
    missing: Counter[str] = field(default_factory=Counter)
    number_like: set[str] = field(default_factory=set)
    numbers: dict[str, Numbers] = field(default_factory=dict)
    categories: dict[str, Counter[Any]] = field(default_factory=dict)
    # in how many rows each word is, of one part a Counter, and the same where words are hashed
    words: dict[str, Any] = field(default_factory=dict)
    hashed: dict[str, Array] = field(default_factory=dict)

    @classmethod
    def of(cls, frame: pd.DataFrame, kinds: dict[str, cells.Kind], encode: ColumnTransformer) -> Statistics:
        """Return the statistics of some rows, whose columns have these kinds and will be encoded so."""
        table = Table(kinds, {})
        clean = table.fit_transform(frame)
        found = cls(len(frame), Counter(table.missing_), set(table.number_like_))
        texts = {column: step for _, step, column in encode.transformers if isinstance(column, str)}
        for name, kind in kinds.items():
            values = clean[name].to_numpy()
            if kind == "category":
                found.categories[name] = Counter("" if v != v else f"={v}" for v in values)
            elif kind == "text" and isinstance(texts[name], Words):
                found.words[name] = texts[name].rows_with(values)
            elif kind == "text":
                hashed = texts[name]["hash"].transform(values) > 0
                found.hashed[name] = np.asarray(hashed.sum(axis=0)).ravel()
            else:
                found.numbers[name] = Numbers.of(values)
        return found

    def update(self, other: Statistics) -> None:
        """Add the statistics of other rows of the same table."""
        self.rows += other.rows
        self.number_like |= other.number_like
        for name, numbers in other.numbers.items():
            self.numbers[name] = self.numbers.get(name, Numbers()) + numbers
        self.missing.update(other.missing)
        for name, counts in other.categories.items():
            known = self.categories.setdefault(name, Counter())
            known.update(counts)
            if len(known) > MOST_VALUES:
                raise InputError(
                    f"column {name!r} has more than {MOST_VALUES:,} different values: drop it, or name it "
                    "with --text"
                )
        for name, rows in other.words.items():
            self.words.setdefault(name, WordCounts()).update(rows)
        for name, hashed in other.hashed.items():
            self.hashed[name] = self.hashed.get(name, 0) + hashed

    def fit(self, table: Table, encode: ColumnTransformer, sample: pd.DataFrame) -> None:
        """Fit the steps of a pipeline as they would be fitted to all the rows.

        `sample` are some of the rows, from which only the layout of the result, sparse or dense, is told.
        """
        chosen = {}
        for _, step, column in encode.transformers:
            if isinstance(step, Words):
                chosen[column] = step.chosen(self.words[column].items())
                step.set_params(vocabulary=list(chosen[column]))
        clean = table.fit_transform(sample)
        table.missing_ = {name: self.missing[name] for name in table.columns}
        table.number_like_ = [name for name in table.columns if name in self.number_like]
        encode.fit_transform(self._condensed(table, encode, clean))
        for name, step, columns in encode.transformers_:
            if name == "number":
                self._fit_numbers(step, columns)
            elif isinstance(step, Words):
                step.set_params(vocabulary=None)  # as if it had chosen its words itself
                step.weigh(np.array(list(chosen[columns].values())), self.rows)
            elif isinstance(columns, str):
                step["weight"].idf_ = idf(self.hashed[columns], self.rows, step["hash"].dtype)
        for _, step, _ in encode.transformers:
            if isinstance(step, Words):
                step.set_params(vocabulary=None)
        encode.sparse_output_ = any(isinstance(c, str) or n == "category" for n, _, c in encode.transformers_)
        if encode.sparse_output_:
            X = encode.transform(clean)
            encode.sparse_output_ = sparse.issparse(X) and X.nnz < encode.sparse_threshold * np.prod(X.shape)

    def _condensed(self, table: Table, encode: ColumnTransformer, like: pd.DataFrame) -> pd.DataFrame:
        """Return a small table of the same categories, means and missing cells."""
        rarest = {n: s.min_frequency for n, s, _ in encode.transformers if n == "category"}.get("category", 0)
        values: dict[str, list[Any]] = {}
        for name, kind in table.columns.items():
            if kind == "category":
                values[name] = _condensed_categories(self.categories[name], rarest)
            elif kind == "text":
                values[name] = [""]
            else:
                mean = self.numbers[name].mean
                values[name] = [np.nan, mean] if self.missing[name] else [mean]
        rows = max(2, *(len(column) for column in values.values()))
        filled = {name: column + [column[-1]] * (rows - len(column)) for name, column in values.items()}
        return pd.DataFrame({name: pd.Series(c, dtype=like[name].dtype) for name, c in filled.items()})

    def _fit_numbers(self, step: Pipeline, columns: list[str]) -> None:
        impute, scale = step["impute"], step["scale"]
        flagged = [columns[i] for i in impute.indicator_.features_]
        share = np.array([self.missing[name] / self.rows for name in flagged])
        means = np.array([self.numbers[name].mean for name in columns])
        variances = np.array([self.numbers[name].squares / self.rows for name in columns])
        impute.statistics_ = means.astype(impute.statistics_.dtype)
        scale.mean_, scale.var_ = np.append(means, share), np.append(variances, share * (1 - share))
        noise = self.rows * np.finfo(np.float64).eps
        constant = scale.var_ <= noise * scale.var_ + np.square(noise * scale.mean_)
        scale.scale_ = np.where(constant, 1.0, np.sqrt(scale.var_))
        scale.n_samples_seen_ = self.rows


def _condensed_categories(counts: Counter[Any], rarest: int) -> list[Any]:
    """Return a column with the same categories, rare or not, and the same order of how often they occur.

    The commonest is last, so that it can be repeated.
    """
    order = sorted(counts, key=lambda label: counts[label])
    steps = {
        count: i for i, count in enumerate(sorted({counts[label] for label in order[-MAX_CATEGORIES - 1 :]}))
    }
    column: list[Any] = []
    for label in order:
        count = counts[label]
        often = count if count < rarest else rarest + steps.get(count, -1) + 1
        column += [label[1:] if label else np.nan] * often
    return column
