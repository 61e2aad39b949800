"""What C does: :class:`PathDisplay`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np

from luce.errors import InputError
from luce.plot._canvas import BLUE, GRID, MUTED, ORANGE, Display, label_ticks, log_axis, power_of_ten, tag
from luce.plot._models import classifier_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = np.ndarray[Any, Any]


class PathDisplay(Display):
    """Scores along C with the point that was chosen, or, of a path without scores, losses and norms.

    Parameters
    ----------
    table : pandas.DataFrame
        A row for each C: "C", and "mean", "low", "high" (one standard error around the mean of the folds), or
        "loss" and "norm".
    folds : pandas.DataFrame, optional
        A row for each fold and C: "fold", "C", "score".
    chosen : float, optional
        The C that was chosen.
    score : str
        What the score is called.

    Examples
    --------
    >>> import luce
    >>> from luce.plot import PathDisplay
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> clf = luce.SoftmaxClassifierCV([0.01, 1, 100], scoring="neg_log_loss").fit(X, y)
    >>> display = PathDisplay.from_estimator(clf)
    >>> display.frame()["C"].tolist(), display.chosen
    ([0.01, 1.0, 100.0], 100.0)
    >>> figure = display.plot()
    """

    def __init__(
        self,
        table: pd.DataFrame,
        *,
        folds: pd.DataFrame | None = None,
        chosen: float | None = None,
        score: str = "score",
    ) -> None:
        self._table = table.sort_values("C", ignore_index=True)
        self.folds = folds
        self.chosen = chosen
        self.score = score

    @classmethod
    def from_estimator(cls, estimator: Any) -> Self:
        """Show the cross-validation of a :class:`luce.SoftmaxClassifierCV`, alone or at a pipeline's end.

        Raises
        ------
        InputError
            The estimator chose no C.
        """
        classifier = classifier_of(estimator)
        if not hasattr(classifier, "scores_"):
            raise InputError(
                f"{type(classifier).__name__} holds no scores along C; pass a fitted SoftmaxClassifierCV, "
                "or give what softmax_path returned to PathDisplay.from_path"
            )
        folds = classifier.frame()[["fold", "C", "score"]]
        scores = folds.groupby("C")["score"]
        table = scores.mean().rename("mean").reset_index()
        error = (scores.std() / np.sqrt(scores.count())).fillna(0.0).to_numpy()
        table["low"], table["high"] = table["mean"] - error, table["mean"] + error
        return cls(table, folds=folds, chosen=float(classifier.C_), score=_named(classifier))

    @classmethod
    def from_path(cls, path: Any) -> Self:
        """Show what :func:`luce.softmax_path` returned: losses and norms of the weights."""
        return cls(path.frame())

    def frame(self) -> pd.DataFrame:
        """Return a row for each C."""
        return self._table.copy()

    def plot(self, ax: Axes | Figure | None = None) -> Figure:
        """Draw the path against C on a logarithmic axis; C = inf stands at its right end."""
        with self._drawing(ax) as axes:
            log_axis(axes.xaxis)
            axes.set_xlabel("C (penalty: strong on the left, weak on the right)")
            draw = self._draw_scores if "mean" in self._table else self._draw_losses
            draw(axes, self._places(self._table["C"]))
            if np.isinf(self._table["C"].iloc[-1]):
                ticks = [t for t in axes.get_xticks() if axes.get_xlim()[0] <= t < self._places(np.inf) / 2]
                label_ticks(axes.set_xticks, [*ticks, self._places(np.inf)], [*map(power_of_ten, ticks), "∞"])
        return self.figure_

    def _places(self, C: Any) -> Any:
        finite = self._table["C"][np.isfinite(self._table["C"])]
        return np.where(np.isinf(C), 10 * finite.max() if len(finite) else 1.0, C)[()]

    def _draw_scores(self, ax: Axes, x: Array) -> None:
        table = self._table
        if self.folds is not None and self.folds["fold"].nunique() > 1:
            for _, fold in self.folds.groupby("fold"):
                fold = fold.sort_values("C")
                ax.plot(self._places(fold["C"]), fold["score"], color=GRID, linewidth=1, zorder=1)
        ax.fill_between(x, table["low"], table["high"], color=BLUE, alpha=0.15, linewidth=0)
        ax.plot(x, table["mean"], color=BLUE, marker="o", markersize=3)
        ax.set_ylabel(self.score)
        if self.chosen is not None:
            place = self._places(self.chosen)
            near = table["mean"].iloc[int(np.abs(np.log(x / place)).argmin())]
            ax.axvline(place, color=ORANGE, linewidth=1)
            ax.plot([place], [near], color=ORANGE, marker="o", markersize=6)
            left = place > np.sqrt(x[0] * x[-1])
            tag(
                ax, place, ax.get_ylim()[0], f"C = {self.chosen:.4g}", ORANGE,
                ha="right" if left else "left", xytext=(-5 if left else 5, 4),
            )  # fmt: skip

    def _draw_losses(self, ax: Axes, x: Array) -> None:
        log_axis(ax.yaxis)
        ax.plot(x, self._table["loss"], color=BLUE, marker="o", markersize=3, label="objective")
        norm = self._table["norm"]
        ax.plot(x, norm.where(norm > 0), color=MUTED, marker="o", markersize=3, label="norm of the weights")
        ax.legend(fontsize=8)


def _named(classifier: Any) -> str:
    scoring = classifier.scoring
    name = "accuracy" if scoring is None else scoring if isinstance(scoring, str) else "score"
    name = f"minus {name[4:]}" if name.startswith("neg_") else name
    kind = "left-one-out" if isinstance(classifier.cv, str) else "cross-validated"
    return f"{kind} {name.replace('_', ' ')}"
