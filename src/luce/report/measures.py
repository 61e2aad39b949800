"""Everything that is measured, in one pass over the rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from luce.data.labels import codes_of
from luce.errors import InputError
from luce.evaluation import Evaluation, measure
from luce.plot.predictions import margins_of, wilson
from luce.report.subject import Subject

Array = np.ndarray[Any, Any]
BATCH = 16384


@dataclass(frozen=True)
class Measures:
    """Predictions against labels.

    Attributes
    ----------
    truth, predicted : ndarray of shape (N,), int
        Indices of classes; -1 for a label that the model does not know.
    confidence, own : ndarray of shape (N,)
        Probability of the predicted and of the true class; the latter is anything where that is unknown.
    margins : ndarray of shape (N,)
        Score of the true class minus the best other; NaN where the true class is unknown.
    evaluation : Evaluation
    fitted : ndarray of shape (C,) or None
        Rows of each class in the fit, where known.
    """

    truth: Array
    predicted: Array
    confidence: Array
    own: Array
    margins: Array
    evaluation: Evaluation
    fitted: Array | None

    @property
    def correct(self) -> Array:
        """Whether each row is classified as it should be, (N,)."""
        correct: Array = self.truth == self.predicted
        return correct

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95% interval of the accuracy."""
        low, high = wilson(np.array([self.correct.sum()]), np.array([len(self.truth)]))
        return float(low[0]), float(high[0])

    @property
    def majority(self) -> int:
        """The most frequent class of the fit, or of the measured rows where that is not known."""
        counts = self.evaluation.support if self.fitted is None else self.fitted
        return int(np.argmax(counts))


def measures_of(subject: Subject) -> Measures:
    """Predict the rows of a subject, in batches, and measure the predictions.

    Raises
    ------
    InputError
        No row has a label that the model knows.
    """
    model, data = subject.model, subject.data
    classes = model.classes_
    truth = codes_of(data.y, classes)
    if not (truth >= 0).any():
        known, given = ", ".join(map(str, classes[:5])), data.y[0]
        raise InputError(
            f"no label is one of the model's ({known}), but {given!s} and so on; pass the labels"
        )
    predicted = np.empty(len(truth), np.intp)
    confidence, log_own, margins = (np.empty(len(truth)) for _ in range(3))
    for start in range(0, len(truth), BATCH):
        part = np.arange(start, min(start + BATCH, len(truth)))
        log_proba = model.predict_log_proba(data.rows(part).X)
        rows = np.arange(part.size)
        predicted[part] = log_proba.argmax(axis=1)
        confidence[part] = np.exp(log_proba[rows, predicted[part]])
        log_own[part] = log_proba[rows, truth[part]]
        margins[part] = margins_of(truth[part], log_proba)
    margins[truth < 0] = np.nan
    told = subject.told.get("class_counts")
    fitted = np.asarray(told) if told is not None and len(told) == len(classes) else None
    counts = np.bincount(truth[truth >= 0], minlength=len(classes)) if fitted is None else fitted
    evaluation = measure(truth, predicted, log_own, classes, counts / max(1, counts.sum()))
    return Measures(truth, predicted, confidence, np.exp(log_own), margins, evaluation, fitted)
