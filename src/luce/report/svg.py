"""Matplotlib figures as inline SVG that takes its colours and its fonts from the page around it."""

from __future__ import annotations

import base64
import io
import re
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup

from luce.plot import _canvas

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_VARIABLES = {
    _canvas.INK: "var(--ink)",
    _canvas.MUTED: "var(--muted)",
    _canvas.GRID: "var(--line)",
    _canvas.PAPER: "var(--paper)",
    _canvas.BLUE: "var(--blue)",
    _canvas.ORANGE: "var(--orange)",
}
_NOTHING = dict.fromkeys(("Date", "Creator", "Format", "Type"))  # of Matplotlib's own metadata
_COLOUR = re.compile("|".join(_VARIABLES))
_TAG = re.compile(r"<[^>]*>")


def svg(figure: Figure, key: str, label: str) -> Markup:
    """Return a figure as SVG markup; `key` tells its identifiers from those of the page's other figures."""
    import matplotlib

    text = io.StringIO()
    style: Any = {"svg.fonttype": "none", "svg.hashsalt": key, "font.family": ["sans-serif"]}
    with matplotlib.rc_context(style), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # the browser has fonts of its own
        figure.savefig(text, format="svg", transparent=True, metadata=_NOTHING)
    body = text.getvalue()
    body = body[body.index("<g ") :]
    # Text of the data stands between tags, escaped, and is left alone.
    body = _TAG.sub(_tidied, body)
    body = re.sub(r">\s+<", "><", body)
    width, height = (72 * inches for inches in figure.get_size_inches())
    opening = Markup(
        '<svg viewBox="0 0 {:.0f} {:.0f}" style="--natural: {:.0f}px" role="img" aria-label="{}">'
    ).format(width, height, width, label)
    return opening + Markup(body)


def _tidied(match: re.Match[str]) -> str:
    tag = match[0]
    if tag.startswith("<!--"):
        return ""
    if "base64" in tag:
        return tag.replace("\n", "")
    tag = re.sub(r' id="(?:[a-z0-9]+_\d+|matplotlib[^"]*)"', "", tag)
    tag = re.sub(r' transform="rotate\(-0 [^"]*"', "", tag)
    tag = re.sub(r"font-family:[^;\"]*;?", "", tag)
    tag = re.sub(r"font: (\d+ )?([\d.]+px)[^;\"]*", _font, tag)
    tag = re.sub(r"(\.\d\d)\d+", r"\1", tag)
    tag = _COLOUR.sub(lambda found: _VARIABLES[found[0]], tag).replace("\n", " ")
    # as text the colour of what is wrong has to be darker than as an area
    return tag.replace("var(--orange)", "var(--wrong)") if tag.startswith("<text") else tag


def _font(match: re.Match[str]) -> str:
    weight = f"font-weight: {match[1]}; " if match[1] else ""
    return f"{weight}font-size: {match[2]}"


def png(pixels: np.ndarray[Any, Any]) -> str:
    """Return an image, (H, W) or (H, W, 3), as a data URI; floats are spread over all shades."""
    from PIL import Image

    if pixels.dtype != np.uint8:
        low, high = float(np.min(pixels)), float(np.max(pixels))
        pixels = np.rint((pixels - low) * (255 / max(high - low, 1e-300))).astype(np.uint8)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
