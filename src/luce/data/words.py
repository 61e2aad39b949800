"""The words of a text column that are worth a feature, the same however the rows were read."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer, TfidfVectorizer

MAX_WORDS = 100_000  # words and pairs of a text column
_ROOM = 1 << 17  # words that are counted in memory, about 20 MB
_RUNS = 64  # files that are merged at once

Array = np.ndarray[Any, Any]


class Words(TfidfVectorizer):  # type: ignore[misc]
    """TF-IDF of the words that are in at least `min_df` rows: of those in most rows, where they are many.

    It differs from its base in what it leaves out beyond `MAX_WORDS`: of words in as many rows the first by
    alphabet stay, so that the choice depends neither on the machine nor on the order of the rows, and can be
    made from counts that were gathered part by part.
    """

    def fit(self, raw_documents: Iterable[str], y: object = None) -> Words:
        """Learn the words and their weights; `y` is ignored."""
        self.fit_transform(raw_documents)
        return self

    def fit_transform(self, raw_documents: Iterable[str], y: object = None) -> Any:
        """Learn the words and their weights, and return the weighted rows; `y` is ignored."""
        counts = CountVectorizer.fit_transform(self, raw_documents)
        rows = np.bincount(counts.indices, minlength=counts.shape[1])  # that a word is in
        kept = np.sort(np.argsort(-rows, kind="stable")[:MAX_WORDS])
        words = self.get_feature_names_out()[kept]
        self.vocabulary_ = {word: i for i, word in enumerate(words.tolist())}
        counts = counts[:, kept]
        self._tfidf = TfidfTransformer(
            norm=self.norm, use_idf=self.use_idf, smooth_idf=self.smooth_idf, sublinear_tf=self.sublinear_tf
        ).fit(counts)
        return self._tfidf.transform(counts, copy=False)

    def rows_with(self, documents: Iterable[str]) -> Counter[str]:
        """Return in how many of some rows each word is."""
        words, found = self.build_analyzer(), Counter[str]()
        for document in documents:
            found.update(set(words(document)))
        return found

    def chosen(self, counts: Iterable[tuple[str, int]]) -> dict[str, int]:
        """Return the words that are worth a feature, sorted, with how many rows each of them is in."""
        enough = ((-rows, word) for word, rows in counts if rows >= self.min_df)
        found = {word: -rows for rows, word in heapq.nsmallest(MAX_WORDS, enough)}
        if not found:
            raise ValueError("empty vocabulary")  # as the base says it
        return dict(sorted(found.items()))

    def weigh(self, rows: Array, n_rows: int) -> None:
        """Set the weights of the words, which are in so many of all the rows."""
        self.idf_ = idf(rows, n_rows, self.dtype)


def idf(rows: Array, n_rows: int, dtype: Any) -> Array:
    """Return the weights of words that are in so many rows: scikit-learn's, as if one more row held all."""
    weights: Array = np.log(np.asarray(1 + n_rows, dtype) / (1 + rows).astype(dtype)) + 1
    return weights


class WordCounts:
    """In how many rows each word is, for any number of words: what has no room lies on disk, sorted."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._scratch: Any = None
        self._runs: list[Path] = []
        self._made = 0

    def update(self, counts: Mapping[str, int]) -> None:
        """Add the counts of other rows."""
        self._counts.update(counts)
        if len(self._counts) > _ROOM:
            self._write(sorted(self._counts.items()))
            self._counts = Counter()
        if len(self._runs) == _RUNS:
            runs, self._runs = self._runs, []
            self._write(_merged(map(_read, runs)))
            for run in runs:
                run.unlink()

    def items(self) -> Iterator[tuple[str, int]]:
        """Yield each word, in order, with its count."""
        return _merged([sorted(self._counts.items()), *map(_read, self._runs)])

    def _write(self, counts: Iterable[tuple[str, int]]) -> None:
        from luce.blocks.cache import Scratch

        self._scratch = self._scratch or Scratch()
        path = self._scratch.path / f"words{self._made}"
        self._made += 1
        with self._scratch.written(), open(path, "w", encoding="utf-8", errors="surrogatepass") as file:
            file.writelines(f"{count}\t{word}\n" for word, count in counts)
        self._runs.append(path)


def _read(path: Path) -> Iterator[tuple[str, int]]:
    with open(path, encoding="utf-8", errors="surrogatepass", newline="\n") as file:
        for line in file:
            count, word = line[:-1].split("\t", 1)
            yield word, int(count)


def _merged(runs: Iterable[Iterable[tuple[str, int]]]) -> Iterator[tuple[str, int]]:
    """Yield the words of sorted runs, in order, with the sums of their counts."""
    for word, same in groupby(heapq.merge(*runs), key=itemgetter(0)):
        yield word, sum(count for _, count in same)
