"""How far to go along a descent direction."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from luce.arrays import dot, plus_times
from luce.loss.inputs import Array
from luce.objective import Objective

_SUFFICIENT = 1e-4
_TOO_SHORT = 0.9
_MAX_TRIALS = 25
_FEW_TRIALS = 4  # where there is better arithmetic, and this one may hide what there is to gain
_NEAR = 100  # times the rounding of the values is what there is to gain
_LOST = 4  # times the rounding is all that the values differ by


class Point(NamedTuple):
    """A point with the objective and its gradient there."""

    theta: Array
    value: float
    gradient: Array


def search(objective: Objective, start: Point, direction: Array, step: float = 1.0) -> Point | None:
    """Return a point with sufficient decrease along a direction, or None where rounding hides any.

    The step is accepted by Armijo's rule or, where the decrease is as small as the rounding of the values, by
    the slopes alone (the approximate Wolfe condition; Hager & Zhang, 2005). It is doubled while the
    slope says that the minimum is far ahead. In less than double precision, None comes early.
    """
    slope = dot(start.gradient, direction)
    if not slope < 0:
        return None
    noise = 8 * float(np.finfo(objective.dtype).eps) * abs(start.value)
    low, high, best = 0.0, np.inf, None
    value = start.value
    for trial in range(_MAX_TRIALS):
        hidden = -slope <= _NEAR * noise or abs(value - start.value) <= _LOST * noise
        if trial >= _FEW_TRIALS and hidden and objective.dtype != np.float64:
            return None
        theta = plus_times(start.theta, step, direction)
        value, gradient = objective.value_and_gradient(theta)
        end = dot(gradient, direction)
        falls = value <= start.value + _SUFFICIENT * step * slope
        flat = value <= start.value + noise and end <= (2 * _SUFFICIENT - 1) * slope
        if np.isfinite(value) and np.isfinite(end) and (falls or flat):
            best = Point(theta, value, gradient)
            if end >= _TOO_SHORT * slope:
                return best
            low = step  # the slope has hardly changed: go further
        else:
            high = step
        if high == np.inf:
            step *= 2
            continue
        if best is not None and high < 4 * low:
            return best
        # the parabola through both slopes, or halving where it does not help
        guess = low + (step - low) * slope / (slope - end) if end > 0 and low == 0 else 0.5 * (low + high)
        step = float(np.clip(guess, low + 0.1 * (high - low), low + 0.5 * (high - low)))
    return best
