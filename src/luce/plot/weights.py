"""What the weights look for: :class:`TemplateDisplay` for images, :class:`FeatureDisplay` for all else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from luce.errors import InputError
from luce.plot._canvas import BLUE, INK, ORANGE, Display, label_ticks, short
from luce.plot._models import feature_names, weights_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = np.ndarray[Any, Any]
MOST_PICTURES = 100


class TemplateDisplay(Display):
    """The weights of each class as a picture: what in an image speaks for the class, and what against it.

    Grey images: blue speaks for the class, orange against it. Colour images: each colour channel from its
    most negative weight to its most positive, mid-grey for none.

    Parameters
    ----------
    templates : array (n, H, W) or (n, H, W, 3)
    classes : array (n,)
        Of two classes the second alone has a template, against the first.

    Examples
    --------
    >>> import luce
    >>> from luce.plot import TemplateDisplay
    >>> from sklearn.datasets import load_digits
    >>> X, y = load_digits(return_X_y=True)
    >>> display = TemplateDisplay.from_estimator(luce.SoftmaxClassifier().fit(X / 16, y), image_shape=(8, 8))
    >>> display.frame().shape  # a row for each pixel; its place, then the weight for each class
    (64, 12)
    >>> figure = display.plot()
    """

    def __init__(self, templates: Array, classes: Array) -> None:
        self.templates = np.asarray(templates, dtype=np.float64)
        self.classes = np.asarray(classes)

    @classmethod
    def from_estimator(cls, estimator: Any, *, image_shape: tuple[int, ...] | None = None) -> Self:
        """Show the weights of a classifier of pixels, or of one that ends a pipeline.

        Parameters
        ----------
        estimator : fitted classifier or pipeline
        image_shape : (H, W) or (H, W, 3), optional
            Needed where the pipeline was not fitted on images.

        Raises
        ------
        InputError
            The shape of the images is not known, or is not that of the weights.
        """
        classes, coef = weights_of(estimator)
        first = estimator.steps[0][1] if hasattr(estimator, "steps") else None
        shape: tuple[int, ...] = getattr(first, "image_shape_", ()) if image_shape is None else image_shape
        if len(shape) not in (2, 3) or int(np.prod(shape)) != coef.shape[1]:
            raise InputError(
                f"weights for {coef.shape[1]} features are no images of shape {tuple(shape)}; "
                "pass image_shape=(height, width) or (height, width, 3)"
            )
        return cls(coef.reshape(-1, *shape), classes)

    def frame(self) -> pd.DataFrame:
        """Return a row for each pixel: row, column (and channel), and the weight for each class."""
        import pandas as pd

        names = ("row", "column", "channel")
        places = np.indices(self.templates.shape[1:]).reshape(self.templates.ndim - 1, -1)
        where = pd.DataFrame(dict(zip(names, places, strict=False)))
        weights = pd.DataFrame(self.templates.reshape(len(self.templates), -1).T, columns=list(self.classes))
        return pd.concat([where, weights], axis=1)

    def plot(self, ax: Axes | Figure | None = None, *, classes: Sequence[object] | None = None) -> Figure:
        """Draw the pictures of some classes; by default of all, of the first 100 where there are more."""
        chosen = _chosen(self.classes, classes)[:MOST_PICTURES]
        n_columns = min(len(chosen), 5 if len(chosen) <= 30 else 10)
        n_rows = -(-len(chosen) // n_columns)
        H, W = self.templates.shape[1:3]
        gap_x, gap_y = max(1, round(0.1 * W)), max(2, round(0.32 * H))
        canvas = np.zeros((n_rows * (H + gap_y), n_columns * (W + gap_x) - gap_x, 4))
        size = (4.4, max(0.6, 4.4 * canvas.shape[0] / canvas.shape[1]))
        with self._drawing(ax, size) as axes:
            for k, i in enumerate(chosen):
                top, left = k // n_columns * (H + gap_y) + gap_y, k % n_columns * (W + gap_x)
                canvas[top : top + H, left : left + W] = _picture(self.templates[i])
                axes.text(
                    left + W / 2 - 0.5, top - 0.5 - 0.04 * H, short(self.classes[i], 60 // n_columns),
                    ha="center", va="bottom", color=INK, fontsize=7 if n_columns <= 5 else 5,
                    parse_math=False,
                )  # fmt: skip
            axes.imshow(canvas, interpolation="none", aspect="equal")
            axes.axis("off")
        return self.figure_


class FeatureDisplay(Display):
    """The features that speak most for and against each class.

    Parameters
    ----------
    table : pandas.DataFrame
        "class", "feature", "weight": for each class its strongest features, by falling weight.
    scaled : bool
        Whether the weights are those of one standard deviation of each feature.
    against : str, optional
        Of two classes, the first, against which the second's weights are.

    Examples
    --------
    >>> import luce
    >>> from luce.plot import FeatureDisplay
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True, as_frame=True)
    >>> display = FeatureDisplay.from_estimator(luce.SoftmaxClassifier().fit(X, y), n_features=2)
    >>> display.frame()["feature"].tolist()[:2]
    ['petal width (cm)', 'petal length (cm)']
    >>> figure = display.plot(classes=[0])
    """

    def __init__(self, table: pd.DataFrame, *, scaled: bool = False, against: str | None = None) -> None:
        self._table = table
        self.scaled = scaled
        self.against = against

    @classmethod
    def from_estimator(cls, estimator: Any, *, n_features: int = 10, scale: Array | None = None) -> Self:
        """Find the strongest features of each class of a classifier, or of one that ends a pipeline.

        Parameters
        ----------
        estimator : fitted classifier or pipeline
        n_features : int
            How many of each class, by the size of their weights; weights of zero are left out.
        scale : array (D,), optional
            Standard deviations by which the weights are multiplied, to compare features on different scales.
        """
        import pandas as pd

        classes, coef = weights_of(estimator)
        if scale is not None:
            coef = coef * scale
        names = feature_names(estimator)
        n = min(n_features, coef.shape[1])
        tables = []
        for label, weights in zip(classes.tolist(), coef, strict=True):
            strongest = np.argpartition(-np.abs(weights), n - 1)[:n]
            strongest = strongest[np.argsort(-weights[strongest], kind="stable")]
            strongest = strongest[weights[strongest] != 0]
            tables.append(
                pd.DataFrame({"class": label, "feature": names[strongest], "weight": weights[strongest]})
            )
        every = estimator.classes_
        against = str(every[0]) if len(every) == 2 else None
        return cls(pd.concat(tables, ignore_index=True), scaled=scale is not None, against=against)

    def frame(self) -> pd.DataFrame:
        """Return a row for each class and feature, by falling weight: class, feature, weight."""
        return self._table.copy()

    def plot(self, ax: Axes | Figure | None = None, *, classes: Sequence[object] | None = None) -> Figure:
        """Draw the weights of some classes as bars; by default of the first six."""
        every = self._table["class"].drop_duplicates().to_numpy()
        chosen = every[_chosen(every, classes)][: 6 if classes is None else None]
        parts = [self._table[self._table["class"] == label] for label in chosen]
        heading = len(chosen) > 1
        heights = [len(part) + 1.6 * heading for part in parts]
        with self._drawing(ax, (4.4, 0.55 + 0.19 * sum(heights))) as axes:
            places: list[float] = []
            y = 0.0
            for label, part in zip(chosen, parts, strict=True):
                if heading:
                    y += 1.6
                    axes.text(
                        -0.02, y - 0.95, short(label), fontsize=9, fontweight="bold", ha="right", va="center",
                        parse_math=False, transform=axes.get_yaxis_transform(),
                    )  # fmt: skip
                rows = y + np.arange(len(part))
                colors = np.where(part["weight"] > 0, BLUE, ORANGE)
                axes.barh(rows, part["weight"], height=0.7, color=colors)
                places += rows.tolist()
                y += len(part)
            names = [str(name) for part in parts for name in part["feature"]]
            label_ticks(axes.set_yticks, places, names, color=INK, fontsize=8)
            axes.tick_params(axis="y", length=0)
            axes.axvline(0, color=INK, linewidth=0.8)
            axes.grid(False, axis="y")
            axes.set_ylim(y - 0.4, -0.6)
            low, high = self._table["weight"].min(), self._table["weight"].max()
            axes.set_xlim(1.05 * min(low, 0), 1.05 * max(high, 0))  # one scale for all classes
            axes.spines["left"].set_visible(False)
            axes.set_xlabel("weight of one standard deviation" if self.scaled else "weight")
        return self.figure_


def _chosen(classes: Array, wanted: Sequence[object] | None) -> list[int]:
    places = {label: i for i, label in enumerate(classes.tolist())}
    if wanted is None:
        return list(range(len(classes)))
    for label in wanted:
        if label not in places:
            raise InputError(f"class {label!r} has no weights of its own; there are: {list(places)[:12]}")
    return [places[label] for label in wanted]


def _picture(template: Array) -> Array:
    """Return a template as (H, W, 4) colours, transparent where a grey weight is zero."""
    most = np.abs(template).max() or 1.0
    picture = np.ones((*template.shape[:2], 4))
    if template.ndim == 3:
        picture[..., :3] = 0.5 + template / (2 * most)
        return picture
    from matplotlib.colors import to_rgb

    picture[..., :3] = np.where((template > 0)[..., None], to_rgb(BLUE), to_rgb(ORANGE))
    picture[..., 3] = np.abs(template / most) ** 0.8
    return picture
