"""How a fit came to its end: :class:`ConvergenceDisplay`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from luce.errors import InputError
from luce.plot._canvas import BLUE, MUTED, ORANGE, Display, log_axis
from luce.plot._models import classifier_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = np.ndarray[Any, Any]


class ConvergenceDisplay(Display):
    """The objective and its proven distance from the optimum, against passes over the data or seconds.

    The certificate at the end of a fit proves that no weights do better than ``loss_ - gap_``. Measured
    from there, the objective of *every* iteration is proven to be no further from the optimum than drawn.

    Parameters
    ----------
    history : sequence of dict
        ``history_`` of a :class:`luce.SoftmaxClassifier`: iteration, loss, gap, passes, seconds, certified.

    Attributes
    ----------
    bound : float
        What no weights can go below: proven, or minus infinity where nothing was.

    Raises
    ------
    InputError
        The history is empty.

    Examples
    --------
    >>> import luce
    >>> from luce.plot import ConvergenceDisplay
    >>> from sklearn.datasets import load_iris
    >>> display = ConvergenceDisplay.from_estimator(luce.SoftmaxClassifier().fit(*load_iris(return_X_y=True)))
    >>> list(display.frame())
    ['iteration', 'passes', 'seconds', 'objective', 'proven_gap', 'estimated_gap', 'certified']
    >>> figure = display.plot(against="seconds")
    """

    def __init__(self, history: Sequence[Mapping[str, Any]]) -> None:
        if not history:
            raise InputError("the fit has no history; fit again with this luce")
        self._history = [dict(row) for row in history]
        self.bound = max((r["loss"] - _gap(r) for r in self._history if r["certified"]), default=-np.inf)

    @classmethod
    def from_estimator(cls, estimator: Any) -> Self:
        """Show the fit of a classifier, or of the classifier that ends a pipeline."""
        return cls(getattr(classifier_of(estimator), "history_", ()))

    def frame(self) -> pd.DataFrame:
        """Return a row for each iteration; the gap is NaN where it is not known."""
        import pandas as pd

        rows = self._history
        objective = np.array([row["loss"] for row in rows], dtype=np.float64)
        estimated = np.array([_gap(row) for row in rows])
        estimated[[row["certified"] for row in rows]] = np.nan  # that one is no estimate
        return pd.DataFrame(
            {
                "iteration": [row["iteration"] for row in rows],
                "passes": [row["passes"] for row in rows],
                "seconds": [row["seconds"] for row in rows],
                "objective": objective,
                "proven_gap": objective - self.bound if np.isfinite(self.bound) else np.nan,
                "estimated_gap": np.where(np.isfinite(estimated), estimated, np.nan),
                "certified": [bool(row["certified"]) for row in rows],
            }
        )

    def plot(self, ax: Axes | Figure | None = None, *, against: str = "passes") -> Figure:
        """Draw the curves, logarithmic in height, against "passes" or "seconds".

        Raises
        ------
        InputError
            `against` is neither of the two.
        """
        if against not in ("passes", "seconds"):
            raise InputError(f"against = {against!r}: pass 'passes' or 'seconds'")
        table = self.frame()
        x = table[against]
        with self._drawing(ax) as axes:
            log_axis(axes.yaxis)
            marker: dict[str, Any] = {"marker": "o", "markersize": 3} if len(table) < 60 else {}
            axes.plot(x, table["objective"], color=BLUE, label="objective", **marker)
            proven = table["proven_gap"].where(table["proven_gap"] > 0)
            if proven.notna().any():
                axes.plot(x, proven, color=ORANGE, label="proven gap", **marker)
            estimated = table["estimated_gap"].where(table["estimated_gap"] > 0)
            if estimated.notna().any():
                axes.plot(
                    x,
                    estimated,
                    color=MUTED,
                    linewidth=1,
                    linestyle=(0, (2, 2)),
                    label="estimated gap",
                )
            axes.set_xlim(left=0)
            axes.set_xlabel("passes over the data" if against == "passes" else "seconds")
            axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3, fontsize=8, handlelength=1.5)
        return self.figure_


def _gap(row: Mapping[str, Any]) -> float:
    return np.inf if row["gap"] is None else float(row["gap"])  # JSON has no infinity
