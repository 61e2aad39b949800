"""The numerical gradient, and the whole ladder held against it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from luce.loss.inputs import Array
from luce.loss.naive import softmax_loss_naive
from luce.loss.tiled import softmax_loss
from luce.loss.vectorized import softmax_loss_vectorized


def numerical_gradient(f: Callable[[Array], float], W: Array, h: float = 1e-5) -> Array:
    """Gradient of f at W by central differences, one entry at a time.

    Parameters
    ----------
    f : callable
        Takes an array like W, returns a float.
    W : array of floats
        Left as it was found.
    h : float
        Step; the error is of order h^2 plus rounding over h.

    Returns
    -------
    array of float64, shaped like W

    Examples
    --------
    >>> import numpy as np
    >>> numerical_gradient(lambda W: (W**2).sum(), np.array([1.0, 2.0])).round(6)
    array([2., 4.])
    """
    point = np.array(W, dtype=np.float64)
    gradient = np.zeros_like(point)
    for index in np.ndindex(*point.shape):
        kept = point[index]
        point[index] = kept + h
        above = f(point)
        point[index] = kept - h
        below = f(point)
        point[index] = kept
        gradient[index] = (above - below) / (2 * h)
    return gradient


def relative_error(a: Array, b: Array) -> float:
    """Largest relative difference, ``max |a - b| / max(1e-8, |a| + |b|)``, as in the course CS231n.

    Examples
    --------
    >>> import numpy as np
    >>> relative_error(np.array([1.0, 2.0]), np.array([1.0, 2.0]))
    0.0
    """
    a, b = np.asarray(a), np.asarray(b)
    if a.size == 0:
        return 0.0
    return float(np.max(np.abs(a - b) / np.maximum(1e-8, np.abs(a) + np.abs(b))))


class Rung(NamedTuple):
    """One form of the loss, as checked on this machine."""

    name: str
    case: str
    loss_error: float  # relative to the loops in float64
    gradient_error: float  # relative to the numerical gradient, in the largest entry
    ok: bool


def check_ladder(seed: int = 0) -> list[Rung]:
    """Hold every form of the loss against the loops and against numerical gradients, on this machine."""
    rng = np.random.default_rng(seed)
    rungs: dict[str, Callable[..., tuple[float, Array]]] = {
        "softmax_loss_naive": softmax_loss_naive,
        "softmax_loss_vectorized": softmax_loss_vectorized,
        "softmax_loss": softmax_loss,
    }
    cases: dict[str, tuple[int, int, int, float, type, float]] = {
        "float64, 37 x 11, 5 classes": (37, 11, 5, 0.1, np.float64, 1e-7),
        "float64, one row, 2 classes": (1, 4, 2, 0.0, np.float64, 1e-7),
        "float32, 37 x 11, 5 classes": (37, 11, 5, 0.1, np.float32, 1e-4),
    }
    rows = []
    for case, (n, d, c, reg, dtype, tolerance) in cases.items():
        X: Array = rng.standard_normal((n, d)).astype(dtype)
        y = rng.integers(0, c, n)
        W: Array = rng.standard_normal((d, c)).astype(dtype)
        X64 = X.astype(np.float64)
        true_loss, _ = softmax_loss_naive(W.astype(np.float64), X64, y, reg)
        slope = numerical_gradient(lambda V: softmax_loss_naive(V, X64, y, reg)[0], W)  # noqa: B023
        for name, rung in rungs.items():
            loss, dW = rung(W, X, y, reg)
            loss_error = abs(loss - true_loss) / abs(true_loss)
            gradient_error = float(np.abs(dW - slope).max() / np.abs(slope).max())
            ok = loss_error <= tolerance and gradient_error <= tolerance
            rows.append(Rung(name, case, loss_error, gradient_error, ok))
    return rows
