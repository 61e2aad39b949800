"""How good are predictions: accuracy, log-loss, macro-F1, each class, and the majority baseline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from luce.data.dataset import Dataset

Array = np.ndarray[Any, Any]
_PIECE = 1 << 16  # rows


@dataclass(frozen=True)
class Evaluation:
    """Measures of predicted probabilities against true labels.

    Attributes
    ----------
    classes : ndarray of shape (C,)
        The classes of the model.
    confusion : ndarray of shape (C, C), int
        Row: true class, column: predicted class.
    unknown : int
        Rows whose label is none of the classes: wrong in the accuracy, left out of the rest.
    log_loss : float
        Mean of -log p(true class), in nats.
    baseline_accuracy, baseline_log_loss, baseline_macro_f1 : float
        The same measures for always predicting the frequencies of the classes in the fitted rows.
    """

    classes: Array
    confusion: Array
    unknown: int
    log_loss: float
    baseline_accuracy: float
    baseline_log_loss: float
    baseline_macro_f1: float

    @property
    def rows(self) -> int:
        """Number of rows, unknown labels included."""
        return int(self.confusion.sum()) + self.unknown

    @property
    def accuracy(self) -> float:
        """Fraction of rows whose class is predicted."""
        return float(np.trace(self.confusion) / self.rows)

    @property
    def support(self) -> Array:
        """Number of rows of each class."""
        return self.confusion.sum(axis=1)  # type: ignore[no-any-return]

    @property
    def precision(self) -> Array:
        """Fraction of the rows predicted as a class that belong to it; 0 where none is predicted."""
        return _ratio(np.diag(self.confusion), self.confusion.sum(axis=0))

    @property
    def recall(self) -> Array:
        """Fraction of the rows of a class that are predicted as it; 0 for a class without rows."""
        return _ratio(np.diag(self.confusion), self.support)

    @property
    def f1(self) -> Array:
        """Harmonic mean of precision and recall."""
        return _f1(self.confusion)

    @property
    def macro_f1(self) -> float:
        """Mean F1 of the classes that occur, in truth or prediction."""
        return _macro(self.confusion)


def evaluate(pipeline: Any, data: Dataset, frequencies: Array, *, rows: int = 16384) -> Evaluation:
    """Predict data in batches of `rows`, or fewer, and measure the predictions.

    Parameters
    ----------
    pipeline : fitted scikit-learn classifier
    data : Dataset
        With labels.
    frequencies : ndarray of shape (C,)
        Fractions of the classes in the data that were fitted, for the baseline.
    """
    classes = pipeline.classes_
    truth = data.codes(classes)
    predicted = np.empty(len(truth), np.min_scalar_type(len(classes)))
    log_likelihood = np.empty(len(truth))
    for part, X in data.batches(rows):
        log_proba = pipeline.predict_log_proba(X)
        predicted[part] = log_proba.argmax(axis=1)
        log_likelihood[part] = log_proba[np.arange(len(log_proba)), truth[part]]
    return measure(truth, predicted, log_likelihood, classes, frequencies)


def measure(
    truth: Array, predicted: Array, log_likelihood: Array, classes: Array, frequencies: Array
) -> Evaluation:
    """Measure predictions.

    Parameters
    ----------
    truth, predicted : ndarray of shape (N,), int
        Indices into `classes`; a true one may be -1, unknown.
    log_likelihood : ndarray of shape (N,)
        log p of the true class, anything where that is unknown.
    classes : ndarray of shape (C,)
    frequencies : ndarray of shape (C,)
        Fractions of the classes in the data that were fitted, for the baseline.

    Returns
    -------
    Evaluation

    Examples
    --------
    >>> truth, predicted = np.array([0, 1, 1]), np.array([0, 1, 0])
    >>> log_likelihood = np.log([0.9, 0.6, 0.2])
    >>> result = measure(truth, predicted, log_likelihood, np.array(["a", "b"]), np.array([0.25, 0.75]))
    >>> round(result.accuracy, 3), round(result.log_loss, 3), round(result.baseline_accuracy, 3)
    (0.667, 0.742, 0.667)
    """
    C, rows = len(classes), len(truth)
    known = truth >= 0
    truth, predicted = truth[known], predicted[known]
    majority = int(np.argmax(frequencies))
    always = np.zeros((C, C), np.intp)
    always[:, majority] = np.bincount(truth, minlength=C)
    with np.errstate(divide="ignore"):
        log_frequencies = np.log(frequencies)
    return Evaluation(
        classes=classes,
        confusion=np.bincount(truth.astype(np.intp) * C + predicted, minlength=C * C).reshape(C, C),
        unknown=int((~known).sum()),
        log_loss=_mean(-log_likelihood[known]),
        baseline_accuracy=float(always[majority, majority] / max(1, rows)),
        baseline_log_loss=_mean(-log_frequencies[truth]),
        baseline_macro_f1=_macro(always),
    )


def split(y: Array, test_size: float, seed: int) -> tuple[Array, Array]:
    """Return the indices of training and test rows, each class in proportion.

    Rows are shuffled, sorted by class, and test rows taken at even steps: classes of any size, a single row
    included, need no exception. A class keeps at least one row to train on.

    Parameters
    ----------
    y : ndarray of shape (N,)
    test_size : float
        Fraction of the rows, 0 <= test_size < 1.
    seed : int

    Examples
    --------
    >>> train, test = split(np.array(["a", "a", "a", "a", "b"]), 0.25, seed=0)
    >>> len(train), len(test)
    (4, 1)
    """
    classes, counts = np.unique(y, return_counts=True)
    # Of large data, what has a value for each row must be small.
    codes = np.empty(len(y), np.min_scalar_type(len(classes)))
    is_test = np.empty(len(y), dtype=bool)
    narrow = np.int32 if len(y) < 2**31 else np.int64
    rng = np.random.default_rng(seed)
    order = rng.permutation(np.arange(len(y), dtype=narrow))
    # Row k is a test row where the line (k + start) * test_size crosses a whole number.
    begin = rng.random()
    for start in range(0, len(y), _PIECE):
        part = slice(start, start + _PIECE)
        codes[part] = np.searchsorted(classes, y[part])
        k = np.arange(start, start + len(codes[part]) + 1)
        is_test[part] = np.diff(np.floor((k + begin) * test_size)) > 0
    order = order[np.argsort(codes[order], kind="stable")]
    first = np.cumsum([0, *counts[:-1]])
    trained = np.add.reduceat(~is_test, first)
    is_test[first[trained == 0]] = False
    return np.sort(order[~is_test]), np.sort(order[is_test])


def _ratio(part: Array, whole: Array) -> Array:
    return np.divide(part, whole, out=np.zeros(len(whole)), where=whole > 0)


def _f1(confusion: Array) -> Array:
    return _ratio(2 * np.diag(confusion), confusion.sum(axis=0) + confusion.sum(axis=1))


def _macro(confusion: Array) -> float:
    occurs = confusion.sum(axis=0) + confusion.sum(axis=1) > 0
    return _mean(_f1(confusion)[occurs])


def _mean(values: Array) -> float:
    return float(values.mean()) if values.size else float("nan")
