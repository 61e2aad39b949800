"""Proximal Newton: for the absolute penalty, which has no gradient where a weight is zero."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from luce.loss.inputs import Array
from luce.objective import Objective
from luce.solvers.certificate import expect
from luce.solvers.driver import State
from luce.solvers.linesearch import Point

_LEFT = 0.1  # of the decrease that the model promises, how much its minimisation may leave
_MAX_ROUNDS = 30
_MAX_PRODUCTS = 50  # of the Hessian, in one round
_MAX_HALVINGS = 30
_LEAST_GAIN = 0.05  # of conjugate gradients so far, that one more product must bring
_SUFFICIENT = 1e-4
_FAR = 1e-10  # relative decrease below which the model is minimised as well as it can be
_MAX_IDLE = 5  # rounds that do not improve the bound, and steps that bring nothing either


@dataclass(frozen=True)
class Proximal:
    """Proximal Newton for ``f(theta) + l1 ||W||_1``, f smooth: elastic net and pure L1.

    Each step minimises the second-order model of f plus the penalty, and searches along the way there. The
    model is minimised in rounds. A proximal gradient step says which weights are zero and the signs of the
    others; with those fixed the model is a plain quadratic, and conjugate gradients go towards its minimum.
    Rounds end when the certificate along the step, to second order, is within a tenth of the decrease that
    the step promises, so that it also proves the fit; or, far from the optimum, when they bring little more.

    It needs the Hessian's products alone, and no more memory than a few copies of the weights.
    """

    def init(self, objective: Objective, theta: Array) -> State:
        """Return the state at theta."""
        memory = {"damping": 0.1, "reach": 1.0, "value": np.inf, "gap": np.inf, "idle": 0}
        return _state(objective, Point(theta, *objective.value_and_gradient(theta)), memory)

    def step(self, objective: Objective, state: State) -> State:
        """Go along the direction as far as the objective falls."""
        assert state.direction is not None
        memory = state.memory
        start = Point(state.theta, memory["smooth"], memory["gradient"])
        step, point = _search(objective, start, state.direction)
        if point is None:
            state.stalled = True
            return state
        damping = memory["damping"] * 0.2 if step == 1.0 else memory["damping"] / step
        return _state(objective, point, {**memory, "damping": max(damping, 1e-10)})


def _state(objective: Objective, point: Point, memory: dict[str, Any]) -> State:
    """Minimise the model at a point."""
    theta, smooth, gradient = point
    model = _Model(objective, theta, gradient, memory["damping"], memory["reach"])
    gap = least = np.inf
    idle = 0
    for _ in range(_MAX_ROUNDS):
        promised, last = model.promised, gap
        model.descend()
        model.solve_face()
        gap = expect(objective, theta, smooth, gradient, *model.way())
        idle = 0 if gap < 0.9 * least else idle + 1
        least = min(gap, least)
        little = _FAR * abs(smooth) < model.promised <= 1.2 * promised and gap > 0.5 * last
        if gap - model.promised <= _LEFT * model.promised or little or idle >= _MAX_IDLE:
            break
    direction, _ = model.way()
    value = smooth + objective.rough_penalty(theta)
    rounding = max(_FAR, float(np.finfo(objective.dtype).eps)) * abs(value)
    falls = value < memory["value"] - rounding or gap < 0.9 * memory["gap"]
    memory = {
        "smooth": smooth,
        "gradient": gradient,
        "damping": memory["damping"],
        "reach": model.reach,
        "value": min(value, memory["value"]),
        "gap": min(gap, memory["gap"]),
        "idle": 0 if falls else memory["idle"] + 1,
    }
    return State(theta, value, gap, direction, stalled=memory["idle"] >= _MAX_IDLE, memory=memory)


class _Model:
    """The second-order model along a direction d, ``g.d + d.H d / 2 + l1 (||W + d||_1 - ||W||_1)``.

    Its coordinates are those of centred features, where the intercept stands apart from the weights: raw
    features are no harder than standardised ones. A little of the diagonal is added to the Hessian, the more
    the less its model was right before, since it may be flat along directions in which the loss is not.
    """

    def __init__(
        self, objective: Objective, theta: Array, gradient: Array, damping: float, reach: float
    ) -> None:
        self.objective, self.theta = objective, theta
        self.reach = reach  # of a proximal gradient step; 1 is right for a diagonal Hessian
        self.l1 = np.full(theta.shape, objective.l1)
        self.l1[objective.data.n_features :] = 0.0
        self.mean, width = objective.moments()
        if objective.fit_intercept:
            width = np.append(width - np.square(self.mean), 1.0)
        self.diagonal = np.multiply.outer(width, objective.class_curvature(theta).diagonal())
        objective.weights(self.diagonal)[...] += objective.reg
        self.diagonal = np.maximum(self.diagonal, 1e-12 * self.diagonal.max(initial=1e-300))
        self.damping = damping * self.diagonal
        self.at, self.slope = theta, self._centre(gradient)
        self.product = np.zeros_like(theta)
        self.promised = 0.0

    def _centre(self, gradient: Array) -> Array:
        if not self.objective.fit_intercept:
            return gradient
        out = gradient.copy()
        out[:-1] -= np.outer(self.mean, gradient[-1])
        return out

    def way(self) -> tuple[Array, Array]:
        """Return the direction so far and the Hessian's product with it, in the coordinates of theta."""
        move = self.at - self.theta  # so that theta and it add up to zero where a weight is
        direction, product = move.copy(), self.product - self.damping * move
        if self.objective.fit_intercept:
            direction[-1] -= self.mean @ direction[:-1]
            product[:-1] += np.outer(self.mean, product[-1])
        return direction, product

    def _times(self, move: Array) -> Array:
        """Return the damped Hessian times a move."""
        direction = move
        if self.objective.fit_intercept:
            direction = move.copy()
            direction[-1] -= self.mean @ move[:-1]
        return self._centre(self.objective.hessian_product(self.theta, direction)) + self.damping * move

    def _go(self, target: Array, product: Array, enough: float = -np.inf) -> bool:
        """Go to a target, the Hessian's product with the move there known, if the model falls enough."""
        move = target - self.at
        fall = -float(np.vdot(self.slope + product / 2, move))
        fall -= float(np.sum(self.l1 * (np.abs(target) - np.abs(self.at))))
        if not fall > enough:
            return False
        self.at, self.slope, self.product = target, self.slope + product, self.product + product
        self.promised += fall
        return True

    def descend(self) -> None:
        """Take a proximal gradient step, scaled by the diagonal."""
        for _ in range(_MAX_HALVINGS):
            reach = self.reach / self.diagonal
            target = self.at - reach * self.slope
            target = np.sign(target) * np.maximum(np.abs(target) - reach * self.l1, 0.0)
            move = target - self.at
            product = self._times(move)
            if float(np.vdot(move, product)) <= float(np.vdot(move, move / reach)):
                self._go(target, product)
                self.reach *= 1.2
                return
            self.reach /= 2

    def solve_face(self) -> None:
        """Go towards the minimum of the model with the zeros and the signs that it has."""
        sign = np.sign(self.at)
        penalised = self.l1 > 0
        slope = self.slope + self.l1 * sign
        step, product = self._conjugate_gradients(slope, (self.at != 0) | ~penalised)
        target = self.at + step
        crossed = (target * sign < 0) & penalised
        if not crossed.any():
            self._go(target, product)
            return
        clipped = np.where(crossed, 0.0, target)
        fall = -float(np.vdot(step, slope))
        if not self._go(clipped, self._times(clipped - self.at), enough=0.1 * fall):
            length = self._length(step, -fall, float(np.vdot(step, product)))
            target = self.at + length * step
            target[crossed & (np.abs(target) <= 1e-12 * np.abs(self.at))] = 0.0
            self._go(target, length * product, enough=0.0)

    def _conjugate_gradients(self, slope: Array, free: Array) -> tuple[Array, Array]:
        """Return a step that goes nearly to where the slope is zero, among free entries, and its product."""
        step, product = np.zeros_like(slope), np.zeros_like(slope)
        residual = np.where(free, slope, 0.0)
        z = residual / self.diagonal
        along = -z
        rz = first = float(np.vdot(residual, z))
        total = 0.0
        for _ in range(_MAX_PRODUCTS):
            times = self._times(along)
            curvature = float(np.vdot(along, times))
            if not (rz > 0 and curvature > 0):
                break
            share = rz / curvature
            step += share * along
            product += share * times
            residual += np.where(free, share * times, 0.0)
            total += share * rz
            if share * rz < _LEAST_GAIN * total:
                break
            z = residual / self.diagonal
            rz, last = float(np.vdot(residual, z)), rz
            if rz < 1e-2 * first:
                break
            along = -z + (rz / last) * along
        return step, product

    def _length(self, step: Array, slope: float, curvature: float) -> float:
        """Return how far along a step the model is least: it is a parabola between any two kinks."""
        towards = (self.at * step < 0) & (self.l1 > 0)
        kinks = -self.at[towards] / step[towards]
        order = np.argsort(kinks)
        kinks = kinks[order]
        slopes = slope + np.append(0.0, np.cumsum(2 * (self.l1 * np.abs(step))[towards][order]))
        rises = slopes[:-1] + curvature * kinks >= 0  # at the end of each parabola
        k = int(np.argmax(np.append(rises, True)))
        return float(max(kinks[k - 1] if k else 0.0, -slopes[k] / curvature))


def _search(objective: Objective, start: Point, direction: Array) -> tuple[float, Point | None]:
    """Return a step with sufficient decrease and the point there, or None where rounding hides any."""
    before = objective.rough_penalty(start.theta)
    slope = float(np.vdot(start.gradient, direction))
    slope += objective.rough_penalty(start.theta + direction) - before
    noise = 8 * float(np.finfo(objective.dtype).eps) * (abs(start.value) + before)
    D = objective.weights(direction)
    step = 1.0
    for _ in range(_MAX_HALVINGS):
        theta = start.theta + step * direction
        value, gradient = objective.value_and_gradient(theta)
        fall = start.value - value + before - objective.rough_penalty(theta)
        sign = np.sign(objective.weights(theta))
        end = float(np.vdot(gradient, direction))
        end += objective.l1 * float(np.sum(np.where(sign == 0, np.abs(D), sign * D)))
        falls = fall >= -_SUFFICIENT * step * slope
        flat = fall >= -noise and end <= (2 * _SUFFICIENT - 1) * slope
        if np.isfinite(value) and slope < 0 and (falls or flat):
            return step, Point(theta, value, gradient)
        step /= 2
    return step, None
