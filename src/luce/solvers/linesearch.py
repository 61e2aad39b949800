"""How far to go along a descent direction."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from luce.arrays import dot
from luce.loss.inputs import Array
from luce.objective import Objective

_SUFFICIENT = 1e-4
_TOO_SHORT = 0.9
_MAX_TRIALS = 25
_FEW_TRIALS = 4  # where what there is to gain is near rounding, and better arithmetic is at hand
_NEAR = 100  # times the rounding of the values


class Point(NamedTuple):
    """A point with the objective and its gradient there."""

    theta: Array
    value: float
    gradient: Array


def search(objective: Objective, start: Point, direction: Array, step: float = 1.0) -> Point | None:
    """Return a point with sufficient decrease along a direction, or None where rounding hides any.

    The step is accepted by Armijo's rule or, where the decrease is as small as the rounding of the values, by
    the slopes alone (the approximate Wolfe condition; Hager & Zhang, 2005). It is doubled while the
    slope says that the minimum is far ahead.
    """
    slope = dot(start.gradient, direction)
    if not slope < 0:
        return None
    noise = 8 * float(np.finfo(objective.dtype).eps) * abs(start.value)
    low, high, best = 0.0, np.inf, None
    hopeful = -slope > _NEAR * noise or objective.dtype == np.float64
    for _ in range(_MAX_TRIALS if hopeful else _FEW_TRIALS):
        theta = start.theta + step * direction
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
