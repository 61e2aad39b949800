"""The figures of the page: each a picture, a caption, and the table of what is drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup
from sklearn.preprocessing import StandardScaler

from luce.plot import (
    ConfusionDisplay,
    ConvergenceDisplay,
    FeatureDisplay,
    PathDisplay,
    ReliabilityDisplay,
    ScoreDisplay,
    TemplateDisplay,
)
from luce.plot._canvas import short
from luce.plot._models import classifier_of, prepared, weights_of
from luce.report.measures import Measures
from luce.report.subject import Subject
from luce.report.svg import svg

if TYPE_CHECKING:
    import pandas as pd

Array = np.ndarray[Any, Any]
MOST_CELLS = 12_000  # of a table in the page; Python gives the rest
MOST_TEMPLATES = 50
MOST_CLASSES = 12  # whose strongest features are drawn
SCALED_ROWS = 5000  # from which the scale of features is taken


@dataclass(frozen=True)
class Table:
    """A table as text: (name, whether it holds numbers) for each column, the rows, and what was left out."""

    columns: list[tuple[str, bool]]
    rows: list[list[str]]
    note: str


@dataclass(frozen=True)
class Figure:
    """A picture as SVG, what it shows in words, and its table."""

    svg: Markup
    caption: str
    table: Table | None
    title: str = ""
    colour: bool = False  # whether its picture has the colours of the data


def confusion(display: ConfusionDisplay) -> list[Figure]:
    """Return the matrix of counts and that of shares, or one picture for both of many classes."""
    table = table_of(display.frame())
    if len(display.classes) > 40:
        caption = (
            "A dot for each true class (down) and the class that its rows were given instead (across), the "
            "larger the more of its rows. Rows on the line would be right, and are not drawn."
        )
        return [Figure(_drawn(display, "confusion", caption), caption, table)]
    counts = "Rows of each true class (down) that were given each class (across)."
    shares = "The same in percent of the true class: each row adds up to 100."
    return [
        Figure(_drawn(display, "counts", counts), counts, table, "Counts"),
        Figure(_drawn(display, "shares", shares, normalize=True), shares, None, "Percent"),
    ]


def reliability(m: Measures) -> Figure:
    """Return the reliability diagram."""
    display = ReliabilityDisplay(m.confidence, m.correct)
    caption = (
        "Of the rows to which the model gave its answer with a certain probability, how many are right? On "
        "the dashed line it is as right as it is sure; above, too modest; below, too sure. Bars are 95% "
        f"intervals, and a larger dot has more rows. Expected calibration error: {display.ece:.2%}."
    )
    return Figure(_drawn(display, "reliability", caption), caption, table_of(display.frame()))


def scores(m: Measures) -> Figure:
    """Return the histogram of margins."""
    caption = (
        "By how much the true class wins: its score minus the best other. Below zero the row is "
        "misclassified; at +1 the true class is e ≈ 2.7 times as probable as the next."
    )
    display = ScoreDisplay(m.margins)
    return Figure(_drawn(display, "scores", caption), caption, table_of(display.frame()))


def convergence(subject: Subject) -> list[Figure]:
    """Return the course of the fit against passes and against seconds; nothing where it is not known."""
    history = subject.told.get("history") or getattr(classifier_of(subject.model), "history_", None)
    if not history:
        return []
    display = ConvergenceDisplay(history)
    caption = (
        "The objective, and how far above the optimum it is proven to be at most, after each iteration. The "
        "dashed line is what the solver believed on its way."
    )
    passes = _drawn(display, "passes", caption)
    seconds = _drawn(display, "seconds", "The same against seconds.", against="seconds")
    return [
        Figure(passes, caption, table_of(display.frame())),
        Figure(seconds, "The same against seconds.", None),
    ]


def path(subject: Subject) -> Figure | None:
    """Return the path of C, where one was run."""
    source = classifier_of(subject.model) if subject.along_C is None else subject.along_C
    if hasattr(source, "scores_"):
        display = PathDisplay.from_estimator(source)
        caption = (
            "Scores on rows left out of each fit: their mean, one standard error, and each fold in grey. "
            f"Chosen: C = {display.chosen:.4g}."
        )
    elif subject.along_C is not None:
        display = PathDisplay.from_path(subject.along_C)
        caption = "A weaker penalty (larger C) lets the weights grow and the objective fall."
    else:
        return None
    return Figure(_drawn(display, "path", caption), caption, table_of(display.frame()))


def templates(subject: Subject, m: Measures) -> Figure | None:
    """Return the weights as pictures, for images."""
    shape = subject.data.layout.image_shape
    classes, coef = weights_of(subject.model)
    if subject.data.layout.kind != "images" or shape is None or coef.shape[1] != int(np.prod(shape)):
        return None
    display = TemplateDisplay(coef.reshape(-1, *shape), classes)
    shown = _most_frequent(classes, m, MOST_TEMPLATES)
    colour = "each colour from its most negative weight to its most positive" if len(shape) == 3 else (
        "where a class's picture is blue, ink speaks for the class; where it is orange, against it"
    )  # fmt: skip
    caption = f"The weights of each class, laid out as an image: {colour}."
    if len(subject.model.classes_) == 2:
        caption += f" Against “{short(subject.model.classes_[0])}”, which has no picture of its own."
    if len(shown) < len(classes):
        caption += f" The {len(shown)} most frequent of {len(classes):,} classes."
    drawn = _drawn(display, "templates", caption, classes=shown)
    return Figure(drawn, caption, table_of(display.frame().iloc[:, :MOST_TEMPLATES]), colour=len(shape) == 3)


def features(subject: Subject, m: Measures) -> tuple[list[Figure], Table, str]:
    """Return a figure for each of the most frequent classes, one table for all classes, and a caption."""
    scale = _scale(subject)
    display = FeatureDisplay.from_estimator(subject.model, n_features=10, scale=scale)
    classes, _ = weights_of(subject.model)
    shown = _most_frequent(classes, m, MOST_CLASSES)
    drawn = []
    for k, label in enumerate(shown):
        against = f" (blue) or {short(display.against)} (orange)" if display.against is not None else ""
        title = short(label) + against
        drawn.append(
            Figure(_drawn(display, f"weights{k}", f"Weights of {title}", classes=[label]), "", None, title)
        )
    unit = "of one standard deviation of each feature" if scale is not None else "of each feature"
    caption = f"Weights {unit}: blue speaks for the class, orange against it."
    if len(shown) < len(classes):
        caption += f" Drawn are the {len(shown)} most frequent classes; the table has all."
    return drawn, table_of(display.frame()), caption


def table_of(frame: pd.DataFrame) -> Table:
    """Return a frame as text, its first rows where it is large."""
    names = [str(name).replace("_gap", " gap") for name in frame.columns]
    columns = [(name, dtype.kind in "biuf") for name, dtype in zip(names, frame.dtypes, strict=True)]
    head = frame.head(max(1, MOST_CELLS // max(1, len(columns))))
    cells = [_said(head.iloc[:, k]) for k in range(len(columns))]
    note = ""
    if len(head) < len(frame):
        note = f"The first {len(head):,} of {len(frame):,} rows; the display's frame() gives all in Python."
    return Table(columns, [list(row) for row in zip(*cells, strict=True)], note)


def _said(values: pd.Series) -> list[str]:
    """Return a column as text, its decimals one below the other unless it spans many powers of ten."""
    if values.dtype.kind == "b":
        return ["yes" if value else "" for value in values]
    if values.dtype.kind in "iu":
        return [f"{value:,}" for value in values]
    if values.dtype.kind != "f":
        return [short(value, 60) for value in values]
    known = values[np.isfinite(values) & (values != 0)]
    form = ".3g"
    if len(known) and not (known.min() > 0 and known.min() < 1e-3 * known.max()):
        form = f",.{np.clip(3 - np.floor(np.log10(known.abs().max())), 0, 8):.0f}f"
    return ["" if value != value else "∞" if value == np.inf else f"{value:{form}}" for value in values]


def _drawn(display: Any, key: str, label: str, **options: Any) -> Markup:
    """Draw a display in a figure that no window or notebook knows of."""
    from matplotlib.figure import Figure as Canvas

    return svg(display.plot(Canvas(layout="constrained"), **options), key, label)


def _most_frequent(classes: Array, m: Measures, n: int) -> list[Any]:
    """Return up to n classes in their order: the most frequent ones."""
    support = m.evaluation.support[-len(classes) :]
    kept = np.sort(np.argsort(-support, kind="stable")[:n])
    return [classes.tolist()[i] for i in kept]


def _scale(subject: Subject) -> Array | None:
    """Return the standard deviations of features, unless the pipeline brought them to a common scale."""
    n = len(subject.data)
    some = subject.data.rows(np.linspace(0, n - 1, min(n, SCALED_ROWS)).astype(int)).X
    X = prepared(subject.model, some)
    if X is not some and subject.data.layout.kind == "table":
        return None
    return np.asarray(np.sqrt(StandardScaler(with_mean=False).fit(X).var_))
