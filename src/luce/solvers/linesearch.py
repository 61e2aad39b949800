"""How far to go along a descent direction."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from luce.arrays import dot, plus_times
from luce.loss.inputs import Array
from luce.objective import Objective

_SUFFICIENT = 1e-4
_MAX_TRIALS = 25
_FEW_TRIALS = 4  # where there is better arithmetic, and this one may hide what there is to gain
_NEAR = 100  # times the rounding of the values is what there is to gain
_LOST = 4  # times the rounding is all that the values differ by


class Point(NamedTuple):
    """A point with the objective and its gradient there."""

    theta: Array
    value: float
    gradient: Array


def search(
    objective: Objective,
    start: Point,
    direction: Array,
    step: float = 1.0,
    *,
    short: float = 0.9,
    long: float = np.inf,
) -> Point | None:
    """Return a point with sufficient decrease along a direction, or None where rounding hides any.

    The step is accepted by Armijo's rule or, where the decrease is as small as the rounding of the values, by
    the slopes alone (the approximate Wolfe condition; Hager & Zhang, 2005). It is lengthened while the slope
    still is more than `short` times the first one, and shortened while it has turned to more than `long`
    times that: the dearer a direction, the closer these. In less than double precision, None comes early.
    """
    slope = dot(start.gradient, direction)
    if not slope < 0:
        return None
    noise = 8 * float(np.finfo(objective.dtype).eps) * abs(start.value)
    low, of_low, high, best = 0.0, slope, np.inf, None
    value = start.value
    for trial in range(_MAX_TRIALS):
        hidden = -slope <= _NEAR * noise or abs(value - start.value) <= _LOST * noise
        if trial >= _FEW_TRIALS and hidden and objective.dtype != np.float64:
            return best
        theta = plus_times(start.theta, step, direction)
        value, gradient = objective.value_and_gradient(theta)
        end = dot(gradient, direction)
        falls = value <= start.value + _SUFFICIENT * step * slope
        flat = value <= start.value + noise and end <= (2 * _SUFFICIENT - 1) * slope
        good = np.isfinite(value) and np.isfinite(end) and (falls or flat)
        if good and short * slope <= end <= -long * slope:
            return Point(theta, value, gradient)
        crossing = None  # where the line through the slopes at both ends is zero
        if good and end < short * slope:
            low, of_low = step, end
            best = Point(theta, value, gradient)
        else:
            high = step
            if end > 0 and (good or low == 0):
                crossing = low + (high - low) * of_low / (of_low - end)
            if good and (best is None or value < best.value):
                best = Point(theta, value, gradient)
        if high == np.inf:
            step *= 2
            continue
        if best is not None and high < 4 * low:
            return best
        middle = 0.5 * (low + high)
        most = low + 0.9 * (high - low) if good else middle
        step = middle if crossing is None else float(np.clip(crossing, low + 0.1 * (high - low), most))
    return best
