"""Whether probabilities can be believed: :class:`ReliabilityDisplay` and :class:`ScoreDisplay`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np

from luce.data.labels import codes_of
from luce.errors import InputError
from luce.plot._canvas import BLUE, MUTED, ORANGE, Display, tag

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = np.ndarray[Any, Any]
Z95 = 1.959964


class ReliabilityDisplay(Display):
    """How often the predicted class is right, against the probability that the model gave it.

    Parameters
    ----------
    confidence : array (N,)
        Probability of the predicted class.
    correct : array (N,), bool
    n_bins : int
        Bins of equal width between 0 and 1.

    Attributes
    ----------
    ece : float
        Expected calibration error: the mean over all samples of the distance between confidence and
        accuracy in their bin (Guo, Pleiss, Sun & Weinberger, "On calibration of modern neural networks",
        ICML 2017).

    Raises
    ------
    InputError
        There are no samples.

    Examples
    --------
    >>> import numpy as np
    >>> from luce.plot import ReliabilityDisplay
    >>> display = ReliabilityDisplay(np.array([0.95, 0.95, 0.65, 0.65]), np.array([True, True, True, False]))
    >>> round(display.ece, 3)
    0.1
    >>> figure = display.plot()
    """

    def __init__(self, confidence: Array, correct: Array, *, n_bins: int = 10) -> None:
        self.confidence = np.asarray(confidence, dtype=np.float64)
        self.correct = np.asarray(correct, dtype=bool)
        if not self.confidence.size:
            raise InputError("there are no samples to measure; pass some with labels that the model knows")
        self.n_bins = n_bins

    @classmethod
    def from_predictions(cls, y_true: Array, proba: Array, classes: Array, *, n_bins: int = 10) -> Self:
        """Measure probabilities (N, C) of `classes` (C,) against labels (N,); unknown ones count as wrong."""
        proba = np.asarray(proba)
        best = proba.argmax(axis=1)
        correct = codes_of(np.asarray(y_true), np.asarray(classes)) == best
        return cls(proba[np.arange(len(best)), best], correct, n_bins=n_bins)

    @classmethod
    def from_estimator(cls, estimator: Any, X: Any, y: Array, *, n_bins: int = 10) -> Self:
        """Measure the probabilities that a fitted classifier gives to X against labels y."""
        return cls.from_predictions(y, estimator.predict_proba(X), estimator.classes_, n_bins=n_bins)

    @property
    def ece(self) -> float:
        """Expected calibration error."""
        table = self.frame()
        return float(
            (table["rows"] * (table["confidence"] - table["accuracy"]).abs()).sum() / table["rows"].sum()
        )

    def frame(self) -> pd.DataFrame:
        """Return a row for each bin that is not empty.

        from, to; rows; mean confidence; accuracy, and Wilson's interval around it, which holds the true
        rate in 95 of 100 cases: low, high.
        """
        import pandas as pd

        places = np.minimum((self.confidence * self.n_bins).astype(int), self.n_bins - 1)
        rows = np.bincount(places, minlength=self.n_bins)
        used = np.flatnonzero(rows)
        rows, n_right = rows[used], np.bincount(places, self.correct, self.n_bins)[used]
        low, high = wilson(n_right, rows)
        return pd.DataFrame(
            {
                "from": used / self.n_bins,
                "to": (used + 1) / self.n_bins,
                "rows": rows,
                "confidence": np.bincount(places, self.confidence, self.n_bins)[used] / rows,
                "accuracy": n_right / rows,
                "low": low,
                "high": high,
            }
        )

    def plot(self, ax: Axes | Figure | None = None) -> Figure:
        """Draw accuracy against confidence; the area of a dot is the share of the rows in it."""
        table = self.frame()
        with self._drawing(ax, (4.4, 3.3)) as axes:
            axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (2, 2)))
            tag(axes, 0.5, 0.5, "as right as it is sure", MUTED, xytext=(12, -16))
            axes.vlines(
                table["confidence"], table["low"], table["high"], color=BLUE, linewidth=1.2, alpha=0.6
            )
            area = 12 + 260 * table["rows"] / table["rows"].sum()
            axes.plot(table["confidence"], table["accuracy"], color=BLUE, linewidth=1)
            axes.scatter(table["confidence"], table["accuracy"], s=area, color=BLUE, zorder=3)
            tag(
                axes,
                0.98,
                0.03,
                f"expected calibration error {self.ece:.1%}",
                BLUE,
                ha="right",
                xytext=(0, 0),
            )
            axes.set(
                xlim=(0, 1.02),
                ylim=(0, 1.04),
                xlabel="probability of the predicted class",
                ylabel="share right",
            )
            for axis in (axes.xaxis, axes.yaxis):
                axis.set_major_formatter(lambda value, _: f"{value:.0%}")
        return self.figure_


class ScoreDisplay(Display):
    """By how much the true class wins or loses: its score minus the best other score, as a histogram.

    A row below zero is misclassified; a margin of m means odds of exp(m) for the true class against the next.

    Parameters
    ----------
    margins : array (N,)
    n_bins : int, optional
        By default more for more samples, from 8 to 40.

    Raises
    ------
    InputError
        There are no samples.

    Examples
    --------
    >>> import luce
    >>> from luce.plot import ScoreDisplay
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> display = ScoreDisplay.from_estimator(luce.SoftmaxClassifier().fit(X, y), X, y)
    >>> int(display.frame()["rows"].sum())
    150
    >>> figure = display.plot()
    """

    def __init__(self, margins: Array, *, n_bins: int | None = None) -> None:
        margins = np.asarray(margins, dtype=np.float64)
        self.margins = margins[np.isfinite(margins)]
        if not self.margins.size:
            raise InputError("there are no samples to measure; pass some with labels that the model knows")
        self.n_bins = n_bins or int(np.clip(1.5 * np.sqrt(self.margins.size), 8, 40))

    @classmethod
    def from_predictions(
        cls, y_true: Array, scores: Array, classes: Array, *, n_bins: int | None = None
    ) -> Self:
        """Take margins from scores (N, C) of `classes` (C,); labels that are none of these are left out."""
        truth = codes_of(np.asarray(y_true), np.asarray(classes))
        return cls(margins_of(truth, scores)[truth >= 0], n_bins=n_bins)

    @classmethod
    def from_estimator(cls, estimator: Any, X: Any, y: Array, *, n_bins: int | None = None) -> Self:
        """Measure the margins that a fitted classifier gives to X with labels y."""
        return cls.from_predictions(y, estimator.predict_log_proba(X), estimator.classes_, n_bins=n_bins)

    def frame(self) -> pd.DataFrame:
        """Return a row for each bin, one of whose edges is zero: from, to, rows."""
        import pandas as pd

        # Far outliers would press all else into a few bins; they are counted in the outermost.
        low, high = np.quantile(self.margins, [0.001, 0.999])
        low, high = min(low, 0.0), max(high, 0.0)
        width = (high - low) / self.n_bins or 1.0
        edges = width * np.arange(np.floor(low / width), np.ceil(high / width) + 1)
        if len(edges) < 2:
            edges = np.array([0.0, width])
        rows, _ = np.histogram(np.clip(self.margins, edges[0], edges[-1]), edges)
        return pd.DataFrame({"from": edges[:-1], "to": edges[1:], "rows": rows})

    def plot(self, ax: Axes | Figure | None = None) -> Figure:
        """Draw the histogram, misclassified rows in orange."""
        table = self.frame()
        with self._drawing(ax, (4.4, 3.3)) as axes:
            from matplotlib.ticker import MaxNLocator

            wrong = table["to"] <= 1e-12
            width = table["to"] - table["from"]
            axes.bar(
                table["from"], table["rows"], 0.88 * width, align="edge", color=np.where(wrong, ORANGE, BLUE)
            )
            axes.axvline(0, color=MUTED, linewidth=1)
            axes.set_xlabel("score of the true class minus the best other")
            axes.set_ylabel("rows")
            axes.yaxis.set_major_locator(MaxNLocator(integer=True))
            axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")
            axes.grid(False, axis="x")
            top = axes.get_ylim()[1]
            axes.set_ylim(top=1.12 * top)
            n_wrong = int((self.margins < 0).sum())
            tag(axes, 0, 1.12 * top, f"right {len(self.margins) - n_wrong:,}", BLUE, va="top", xytext=(4, -2))
            tag(axes, 0, 1.12 * top, f"wrong {n_wrong:,}", ORANGE, va="top", ha="right", xytext=(-4, -2))
        return self.figure_


def margins_of(truth: Array, scores: Array) -> Array:
    """Return the score of the true class minus the best other, (N,); anything where `truth` is negative."""
    scores = np.array(scores, dtype=np.float64)
    if scores.ndim == 1:  # of two classes, a decision function
        scores = np.column_stack([np.zeros_like(scores), scores])
    rows = np.arange(len(scores))
    own = scores[rows, truth].copy()
    scores[rows, truth] = -np.inf
    return np.asarray(own - scores.max(axis=1))


def wilson(part: Array, whole: Array) -> tuple[Array, Array]:
    """Return Wilson's 95% interval of a rate: low and high.

    Examples
    --------
    >>> low, high = wilson(np.array([9]), np.array([10]))
    >>> low.round(2), high.round(2)
    (array([0.6]), array([0.98]))
    """
    rate, z2 = part / whole, Z95**2 / whole
    middle = (rate + z2 / 2) / (1 + z2)
    half = np.sqrt(z2 * (rate * (1 - rate) + z2 / 4)) / (1 + z2)
    return np.asarray(np.clip(middle - half, 0, 1)), np.asarray(np.clip(middle + half, 0, 1))
