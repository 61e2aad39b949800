"""Newton's method with the whole Hessian, for problems with few parameters."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from luce.loss.inputs import Array
from luce.objective import Objective
from luce.solvers.driver import State
from luce.solvers.factor import Factor
from luce.solvers.linesearch import Point, search


@dataclass(frozen=True)
class Newton:
    """Newton's method: the exact Hessian, a Cholesky factorisation and a line search.

    It does not see the scale of the features and needs some ten iterations; each costs N (D C)^2
    multiplications and the memory of a (D C, D C) matrix, so it is for small D C.
    """

    def init(self, objective: Objective, theta: Array) -> State:
        """Return the state at theta."""
        return _state(objective, Point(theta, *objective.value_and_gradient(theta)))

    def step(self, objective: Objective, state: State) -> State:
        """Go along the Newton direction as far as it descends."""
        assert state.direction is not None
        start = Point(state.theta, state.value, state.memory["gradient"])
        point = search(objective, start, state.direction)
        if point is None:
            state.stalled = True
            return state
        return _state(objective, point)


def _state(objective: Objective, point: Point) -> State:
    factor = Factor(objective, point.theta)
    direction = -factor.solve(point.gradient)
    decrement = -float(np.vdot(point.gradient, direction))
    return State(
        point.theta,
        point.value,
        gap=decrement / 2,
        direction=direction,
        inverse=factor.solve,
        memory={"gradient": point.gradient},
    )
