"""Newton's method by conjugate gradients, for sparse data with few numbers to a feature, as text has."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from luce.arrays import astype, copy_as, dot, namespace, on_host, products, row_sum
from luce.loss.inputs import Array
from luce.objective import Objective
from luce.solvers.conjugate import conjugate
from luce.solvers.curvature import Product
from luce.solvers.driver import State
from luce.solvers.linesearch import Point, search

_FORCE = 0.5  # a direction is good enough where one more product adds this part of what they add on average
_EXACT = 0.05  # or this, where it may be the last
_TURN = 0.5  # times the slope at the start is how steep the end of a step may be: a direction is dear
_MOST = 200  # products for one direction


@dataclass(frozen=True)
class NewtonCG:
    """Newton's method, its steps by conjugate gradients from the start that L-BFGS takes too.

    A product with the Hessian costs about a pass over the data, as a step of L-BFGS does, but only a few sums
    of vectors and no memory of earlier steps: where X stores few numbers for each feature, as of text, those
    cost more than the passes. What is left of the Newton system says what its direction will prove.
    """

    def init(self, objective: Objective, theta: Array) -> State:
        """Return the state at theta."""
        theta = copy_as(theta, objective.dtype)
        if objective.reg > 0:
            theta -= namespace(theta).mean(theta, axis=1, keepdims=True)  # shared, it only costs penalty
        return _state(objective, Point(theta, *objective.value_and_gradient(theta)), 0.0)

    def step(self, objective: Objective, state: State) -> State:
        """Go along the Newton direction, and find the next."""
        assert state.direction is not None
        start = Point(state.theta, state.value, state.memory["gradient"])
        point = search(objective, start, state.direction, short=_TURN, long=_TURN)
        if point is None:
            state.stalled = True
            return state
        return _state(objective, point, state.goal)

    def move(self, objective: Objective, state: State, theta: Array) -> State:
        """Return the state at another point, or the same if it is no better."""
        theta = astype(theta, objective.dtype)
        point = Point(theta, *objective.value_and_gradient(theta))
        return _state(objective, point, state.goal) if point.value < state.value else state


def _state(objective: Objective, point: Point, goal: float) -> State:
    """Return the state with the direction onward, found as exactly as the goal asks for."""
    product = Product.of(objective)
    inverse = product.inverse(objective, product.classes(objective, point.theta))
    residual = copy_as(point.gradient, objective.dtype)
    direction = namespace(residual).zeros_like(residual)
    decrease = 0.0
    steps = conjugate(objective.products_at(point.theta), direction, residual, inverse)
    for count, step in zip(range(1, _MOST + 1), steps, strict=False):
        decrease += step.decrease
        near = decrease <= goal
        if count * step.decrease <= (_EXACT if near else _FORCE) * decrease:
            break
        if near and _bound(objective, point.gradient, direction, residual) <= goal:
            break
    return State(
        point.theta,
        point.value,
        gap=_bound(objective, point.gradient, direction, residual),
        direction=direction,
        residual=residual,
        inverse=inverse,
        memory={"gradient": point.gradient},
    )


def _bound(objective: Objective, gradient: Array, direction: Array, residual: Array) -> float:
    """Return the bound of :mod:`luce.solvers.certificate` along a direction d, to second order.

    It is ``d.H0 d / 2 + ||g + H0 d||^2 / (2 reg)`` with the loss's part H0 of the Hessian, and what the
    intercept will have to settle, see :meth:`luce.solvers.history.History.estimate`; `residual` is g + H d.
    """
    reg = objective.reg
    if not reg > 0:
        return np.inf
    r, d = objective.weights(residual), objective.weights(direction)
    (rr, rd), (_, dd) = products([r, d], [r, d])
    square = rr - 2 * reg * rd + reg * reg * dd  # of g + H0 d in the weights
    twice = dot(residual, direction) - reg * dd - dot(gradient, direction)  # d.H0 d
    if objective.fit_intercept:
        mean, last = objective.moments()[0], on_host(residual[-1]).astype(np.float64)
        pulled = row_sum(mean, r) - reg * row_sum(mean, d)
        square += dot(mean, mean) * (last @ last) - 2 * (pulled @ last)
        share = on_host(objective.class_means()[1]) + on_host(gradient[-1])
        twice += np.sum(last**2 / np.maximum(share, 1e-300))
    return float(0.5 * twice + max(square, 0.0) / (2 * reg))
