"""Where displays draw: axes in one style, and colours that the colour-blind can tell apart."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from luce.errors import MissingExtraError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#1b1f24"
MUTED = "#5f6b7a"
GRID = "#dfe3e8"
PAPER = "#ffffff"
BLUE = "#0072b2"  # with ORANGE, from the palette of Okabe and Ito
ORANGE = "#d55e00"
SIZE = (4.4, 2.9)  # inches; small, so that the text is still legible on a phone

_STYLE: Any = {
    "font.size": 9,
    "text.color": INK,
    "text.parse_math": False,  # a dollar sign in a class name is a dollar sign
    "axes.edgecolor": GRID,
    "axes.facecolor": "none",
    "axes.labelcolor": MUTED,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "lines.solid_capstyle": "round",
}


class Display:
    """Base of the displays; ``plot`` draws on the axes or the empty figure passed, else on new ones.

    Attributes
    ----------
    figure_, ax_
        The Matplotlib figure and axes of the last `plot`.
    """

    figure_: Figure
    ax_: Axes

    @contextmanager
    def _drawing(self, ax: Axes | Figure | None, size: tuple[float, float] = SIZE) -> Iterator[Axes]:
        """Give the axes to draw on, in the style of luce: those passed, or new ones of this size."""
        try:
            import matplotlib
        except ImportError as error:
            raise MissingExtraError("a picture", "plot") from error
        with matplotlib.rc_context(_STYLE):
            from matplotlib.figure import Figure

            axes = _new_axes(ax, size) if ax is None or isinstance(ax, Figure) else ax
            yield axes
        self.ax_, self.figure_ = axes, cast("Figure", axes.figure)


def _new_axes(figure: Figure | None, size: tuple[float, float]) -> Axes:
    if figure is not None:
        figure.set_size_inches(size)
        return figure.subplots()
    import matplotlib
    from matplotlib import pyplot

    figure, ax = pyplot.subplots(figsize=size, layout="constrained")
    if "inline" in matplotlib.get_backend():
        pyplot.close(figure)  # a notebook shows what plot returns; left open, it would show it twice
    return ax


def short(name: object, length: int = 24) -> str:
    r"""Return a name as one line of at most `length` characters, control characters spelled out.

    Examples
    --------
    >>> short("a\tb"), short("abcdefgh", 5)
    ('a\\tb', 'abcd…')
    """
    joiners = "\u200c\u200d"  # without which Persian words and joined emoji fall apart
    text = "".join(c if c.isprintable() or c in joiners else repr(c)[1:-1] for c in str(name))
    return text if len(text) <= length else text[: length - 1] + "…"


def label_ticks(
    set_ticks: Callable[..., Any], places: Iterable[float], names: Iterable[object], **style: Any
) -> None:
    """Put names at ticks by ``ax.set_xticks`` or ``ax.set_yticks``, as they are and not as mathematics."""
    set_ticks(list(places), [short(name, 20) for name in names], parse_math=False, **style)


def power_of_ten(value: float, _: int = 0) -> str:
    """Return a tick's label on a logarithmic axis.

    Examples
    --------
    >>> [power_of_ten(v) for v in (1e-5, 0.01, 1, 1000, 1e6)]
    ['10⁻⁵', '0.01', '1', '1,000', '10⁶']
    """
    if 0.001 < value < 20_000:
        return f"{value:,.10g}"
    exponent = int(np.rint(np.log10(value)))
    return "10" + str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def log_axis(axis: Any) -> None:
    """Make an axis (``ax.xaxis`` or ``ax.yaxis``) logarithmic, with whole powers of ten at its ticks."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axis._set_axes_scale("log")
    axis.set_major_locator(LogLocator(numticks=7))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(power_of_ten))


def tag(ax: Axes, x: float, y: float, text: str, color: str, **options: Any) -> None:
    """Name a curve where it is, which spares a legend."""
    options = {"xytext": (4, 4), "textcoords": "offset points", "fontsize": 8, **options}
    ax.annotate(short(text, 60), (x, y), color=color, **options)
