"""Which classes are taken for which: :class:`ConfusionDisplay`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np

from luce.data.labels import codes_of
from luce.errors import InputError
from luce.plot._canvas import BLUE, GRID, INK, ORANGE, PAPER, Display, label_ticks

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = np.ndarray[Any, Any]
SHOWN_WHOLE = 40  # classes up to which each has its name, and each cell its number
MOST_DOTS = 4000


class ConfusionDisplay(Display):
    """The confusion matrix: a row for each true class, a column for each predicted one.

    Up to 40 classes each cell shows its number. Beyond, each confusion is a dot, the larger the more of the
    true class it takes (the 4,000 largest are drawn); :meth:`frame` names them, the most frequent first.

    Parameters
    ----------
    confusion : array (C, C), int
    classes : array (C,)

    Examples
    --------
    >>> import numpy as np
    >>> from luce.plot import ConfusionDisplay
    >>> y_true, y_pred = np.array(["a", "a", "b", "b"]), np.array(["a", "b", "b", "b"])
    >>> display = ConfusionDisplay.from_predictions(y_true, y_pred)
    >>> display.confusion.tolist()
    [[1, 1], [0, 2]]
    >>> display.frame().iloc[0].to_dict()
    {'true': 'a', 'predicted': 'b', 'rows': 1, 'share': 0.5}
    >>> figure = display.plot(normalize=True)
    """

    def __init__(self, confusion: Array, classes: Array) -> None:
        self.confusion = np.asarray(confusion)
        self.classes = np.asarray(classes)
        if self.confusion.shape != (len(self.classes),) * 2:
            raise InputError(
                f"{len(self.classes)} classes do not fit a matrix of shape {self.confusion.shape}"
            )

    @classmethod
    def from_predictions(cls, y_true: Array, y_pred: Array, *, classes: Array | None = None) -> Self:
        """Count true (N,) and predicted labels (N,); true labels that are none of `classes` are left out."""
        y_true, y_pred = np.asarray(y_true), np.asarray(y_pred)
        if classes is None:
            classes = np.unique(np.concatenate([y_true, y_pred]))
        truth, predicted = codes_of(y_true, classes), codes_of(y_pred, classes)
        known = (truth >= 0) & (predicted >= 0)
        C = len(classes)
        counts = np.bincount(truth[known] * C + predicted[known], minlength=C * C)
        return cls(counts.reshape(C, C), classes)

    @classmethod
    def from_estimator(cls, estimator: Any, X: Any, y: Array) -> Self:
        """Count what a fitted classifier predicts for X against labels y."""
        return cls.from_predictions(y, estimator.predict(X), classes=estimator.classes_)

    @property
    def shares(self) -> Array:
        """The matrix with each row divided by its sum, (C, C); 0 for a class without rows."""
        rows = self.confusion.sum(axis=1, keepdims=True)
        shares: Array = np.divide(self.confusion, rows, out=np.zeros(self.confusion.shape), where=rows > 0)
        return shares

    def frame(self) -> pd.DataFrame:
        """Return the cells that are not zero: confusions, the most frequent first, then the diagonal.

        true, predicted; rows; share of the rows of the true class.
        """
        import pandas as pd

        i, j = np.nonzero(self.confusion)
        order = np.lexsort((j, i, -self.shares[i, j], -self.confusion[i, j], i == j))
        i, j = i[order], j[order]
        cells = {"rows": self.confusion[i, j], "share": self.shares[i, j]}
        return pd.DataFrame({"true": self.classes[i], "predicted": self.classes[j], **cells})

    def plot(self, ax: Axes | Figure | None = None, *, normalize: bool = False) -> Figure:
        """Draw the matrix: counts, or with `normalize` the percent of the rows of each true class.

        The colour is the share either way, so that large classes do not outshine small ones.
        """
        C = len(self.classes)
        side = float(np.clip(1.4 + 0.36 * C, 3.2, 7.5)) if C <= SHOWN_WHOLE else 4.8
        with self._drawing(ax, (side, 0.95 * side)) as axes:
            axes.set(xlabel="predicted class", ylabel="true class")
            axes.grid(False)
            axes.spines[:].set_visible(False)
            axes.tick_params(length=0)
            if C <= SHOWN_WHOLE:
                self._draw_cells(axes, normalize)
            else:
                self._draw_dots(axes)
        return self.figure_

    def _draw_cells(self, ax: Axes, normalize: bool) -> None:
        from matplotlib.patches import Rectangle

        C, shares = len(self.classes), self.shares
        size = 8 if C <= 12 else 6 if C <= 20 else 4.5
        for i, j in zip(*np.nonzero(self.confusion), strict=True):
            share, count = shares[i, j], self.confusion[i, j]
            # a floor under the colour, so that a rare confusion is still seen
            ax.add_patch(
                Rectangle(
                    (j - 0.48, i - 0.48), 0.96, 0.96, color=BLUE, alpha=0.12 + 0.84 * share, linewidth=0
                )
            )
            said = _percent(share) if normalize else f"{count:,}"
            color = PAPER if share > 0.5 else INK
            ax.text(j, i, said, ha="center", va="center", fontsize=size, color=color)
        ax.set(xlim=(-0.5, C - 0.5), ylim=(C - 0.5, -0.5), aspect="equal")
        upright = max(len(str(name)) for name in self.classes) * C > 40
        small = {"fontsize": max(size, 6)}
        label_ticks(ax.set_xticks, range(C), self.classes, rotation=90 if upright else 0, **small)
        label_ticks(ax.set_yticks, range(C), self.classes, **small)

    def _draw_dots(self, ax: Axes) -> None:
        C = len(self.classes)
        table = self.shares * ~np.eye(C, dtype=bool)
        i, j = np.nonzero(table)
        worst = np.argsort(-table[i, j], kind="stable")[:MOST_DOTS]
        i, j = i[worst], j[worst]
        ax.plot([0, C - 1], [0, C - 1], color=GRID, linewidth=1)
        ax.scatter(j, i, s=3 + 60 * table[i, j], color=ORANGE, alpha=0.7, linewidth=0)
        ax.set(xlim=(-1, C), ylim=(C, -1), aspect="equal")
        named = np.linspace(0, C - 1, 7).round().astype(int)
        label_ticks(ax.set_xticks, named, self.classes[named], rotation=90, fontsize=7)
        label_ticks(ax.set_yticks, named, self.classes[named], fontsize=7)


def _percent(share: float) -> str:
    return "<1" if share < 0.005 else f"{100 * share:.0f}"
