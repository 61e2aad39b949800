"""The mistakes that the model was surest of, with what it saw."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from luce.data.images import image_files
from luce.plot._canvas import short
from luce.plot._models import classifier_of, feature_names, prepared
from luce.report.measures import Measures
from luce.report.subject import Subject
from luce.report.svg import png

Array = np.ndarray[Any, Any]
MOST = 12
REASONS = 3
LONG_TEXT = 280  # characters of a text; the middle of a longer one is left out
WORDY = 40  # characters beyond which a cell is shown as text


@dataclass(frozen=True)
class Mistake:
    """One row that was misclassified.

    Attributes
    ----------
    place : str
        Its file in a folder of images, otherwise its number in the data, from 1.
    true, predicted : str
    own, confidence : float
        Probability of the true class and of the predicted one.
    picture : str
        A data URI, or "".
    cells : list of (str, str)
        Columns and what is in them.
    texts : list of (str, str)
        Columns of text.
    reasons : list of (str, float)
        Features that spoke most for the predicted class against the true one, and by how much in the score.
    """

    place: str
    true: str
    predicted: str
    own: float
    confidence: float
    picture: str
    cells: list[tuple[str, str]]
    texts: list[tuple[str, str]]
    reasons: list[tuple[str, float]]


def mistakes_of(subject: Subject, m: Measures) -> list[Mistake]:
    """Return the misclassified rows to which the model gave the highest probability, surest first."""
    wrong = np.flatnonzero((m.truth >= 0) & ~m.correct)
    wrong = wrong[np.argsort(-m.confidence[wrong], kind="stable")][:MOST]
    if not wrong.size:
        return []
    part = subject.data.rows(wrong)
    numbers = wrong if subject.rows is None else subject.rows[wrong]
    names = subject.model.classes_
    is_images = part.layout.kind == "images"
    files = _files(subject) if is_images else []
    reasons: list[list[tuple[str, float]]] = [[] for _ in wrong]
    if not is_images:
        reasons = _reasons(subject.model, part.X, m.truth[wrong], m.predicted[wrong])
    wordy = {c["name"] for c in subject.columns if c["kind"] == "text"}
    found = []
    for k, i in enumerate(wrong):
        cells, texts = _row(part, k, wordy)
        because = [name for name, _ in reasons[k]]
        cells.sort(key=lambda cell: not any(_is_of(name, cell[0]) for name in because))
        found.append(
            Mistake(
                place=files[numbers[k]] if files else f"row {numbers[k] + 1:,}",
                true=short(names[m.truth[i]]),
                predicted=short(names[m.predicted[i]]),
                own=float(m.own[i]),
                confidence=float(m.confidence[i]),
                picture=png(np.asarray(part.X[k]).reshape(part.layout.image_shape)) if is_images else "",
                cells=cells,
                texts=texts,
                reasons=reasons[k],
            )
        )
    return found


def _files(subject: Subject) -> list[str]:
    """Return the names of the files that the rows come from, or none if that is not known."""
    root = Path(subject.data.name)
    files = [str(file.relative_to(root)) for file in image_files(root)] if root.is_dir() else []
    rows = len(subject.data) if subject.rows is None else subject.told["data"]["rows"]
    return [short(file, 60) for file in files] if len(files) == rows else []


def _row(part: Any, k: int, wordy: set[str]) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    if part.layout.kind != "table":
        return [], []
    row = part.X.iloc[k]
    cells: list[tuple[str, str]] = []
    texts: list[tuple[str, str]] = []
    for name, value in zip(map(str, part.X.columns), row.tolist(), strict=True):
        said = _cell(value)
        (texts if name in wordy or len(said) > WORDY else cells).append((short(name, 40), said))
    return cells, texts


def _is_of(feature: str, column: str) -> bool:
    return feature == column or feature.startswith((f"{column} = ", f"{column} is missing"))


def _cell(value: Any) -> str:
    import pandas as pd

    if pd.api.types.is_scalar(value) and pd.isna(value):
        return "missing"
    if isinstance(value, float):
        return f"{value:.6g}"
    text = short(value, 10_000)
    if len(text) > LONG_TEXT:
        text = f"{text[: LONG_TEXT * 2 // 3]} … {text[-LONG_TEXT // 3 :]}"
    return text


def _reasons(model: Any, X: Any, truth: Array, predicted: Array) -> list[list[tuple[str, float]]]:
    """Split the difference of the two scores into what each feature adds."""
    coef = np.asarray(classifier_of(model).coef_, dtype=np.float64)
    if len(coef) == 1:
        coef = np.vstack([np.zeros_like(coef), coef])
    features = prepared(model, X)
    features = features.toarray() if sparse.issparse(features) else np.asarray(features, dtype=np.float64)
    added = (coef[predicted] - coef[truth]) * features
    names = feature_names(model)
    told = []
    for row in added:
        strongest = np.argsort(-row, kind="stable")[:REASONS]
        told.append([(short(names[j], 40), float(row[j])) for j in strongest if row[j] > 0])
    return told
