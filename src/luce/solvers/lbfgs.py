"""L-BFGS that starts from the curvature of the problem instead of a multiple of the identity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from luce.arrays import astype, dot, namespace, norm, plus_times
from luce.loss.inputs import Array
from luce.objective import Objective
from luce.solvers.curvature import Blocks, Product, Whole
from luce.solvers.driver import State
from luce.solvers.history import History
from luce.solvers.linesearch import Point, search

_ROOM = 100_000_000  # numbers in all steps that are kept
_SETTLE = 20  # iterations after which to look at the curvature again where the last penalty took long
_RATE = 5  # iterations over which to see how fast a gap falls
_WAIT = 1.5  # times what a look costs is how long to wait with it, iterations to come included


@dataclass(frozen=True)
class LBFGS:
    """L-BFGS on the curvature of the problem, with a free estimate of the gap from its own pairs.

    Parameters
    ----------
    history : int
        How many pairs of steps and gradient differences are kept, at most.
    """

    history: int = 30

    def init(self, objective: Objective, theta: Array) -> State:
        """Return the state at theta: one gradient, one Gram matrix."""
        if objective.reg > 0:
            theta = theta - namespace(theta).mean(
                theta, axis=1, keepdims=True
            )  # shared, it only costs penalty
        point = Point(theta, *objective.value_and_gradient(theta))
        memory: dict[str, Any] = {"reg": objective.reg, "count": 0, "begun": 0, "looked": 0, "gaps": []}
        room = max(3, min(self.history, _ROOM // int(np.prod(objective.shape))))  # fewer if each is large
        memory["pairs"] = History(room, objective.dtype)
        state = _state(objective, point, memory)
        _refresh(objective, state)
        return state

    def resume(self, objective: Objective, state: State, theta: Array | None = None) -> State:
        """Return a state under another penalty, at the same theta, which costs no gradient, or another.

        A penalty changes the gradient by a multiple of the weights and a pair's difference by one of its
        step, so all that was learnt stays true; so it does in another dtype.
        """
        more = objective.reg - state.memory["reg"]
        weights = objective.weights(state.theta)
        gradient = objective.penalised(state.memory["gradient"], state.theta, more)
        pairs = _under(objective, state.memory["pairs"], more, state.value)
        memory = {**state.memory, "reg": objective.reg, "pairs": pairs}
        point = Point(state.theta, state.value + 0.5 * more * dot(weights, weights), gradient)
        if theta is not None:
            point = Point(theta, *objective.value_and_gradient(theta))
            _learn(pairs, state.theta, gradient, point)
        state = _state(objective, point, memory)
        took, memory["begun"] = memory["count"] - memory["begun"], memory["count"]
        if memory["worth"]:
            soon = _SETTLE if took > memory["worth"] else memory["worth"]
            memory["due"] = min(memory["due"], memory["count"] + soon)
        else:
            _refresh(objective, state)
        return state

    def step(self, objective: Objective, state: State) -> State:
        """Go along the quasi-Newton direction; now and then, look at the curvature again."""
        memory, pairs, goal = state.memory, state.memory["pairs"], state.goal
        start = Point(state.theta, state.value, memory["gradient"])
        assert state.inverse is not None
        direction = state.inverse(start.gradient)
        direction *= -1
        point = search(objective, start, direction)
        if point is None:
            state.stalled = not pairs or objective.dtype != np.float64  # better arithmetic, if there is any
            if not state.stalled:
                pairs.clear()  # what they say may be rounding by now
            return state
        _learn(pairs, start.theta, start.gradient, point)
        count = memory["count"] = memory["count"] + 1
        del start, direction
        state = _state(objective, point, memory)
        if state.gap < np.inf:
            memory["gaps"].append((count, state.gap))
        if count >= memory["due"]:
            # of a fit that goes on from another the next one may profit too
            _refresh(objective, state, np.inf if memory["begun"] else _left(memory["gaps"], goal))
        return state

    def move(self, objective: Objective, state: State, theta: Array) -> State:
        """Return the state at another point, having learnt from the way, or the same if it is no better."""
        point = Point(theta, *objective.value_and_gradient(theta))
        if not point.value < state.value:
            return state
        _learn(state.memory["pairs"], state.theta, state.memory["gradient"], point)
        return _state(objective, point, {**state.memory})


def _learn(pairs: History, theta: Array, gradient: Array, point: Point) -> None:
    """Add what the way to a point says of the curvature."""
    step = plus_times(point.theta, -1.0, theta, pairs.dtype)
    pairs.add(step, plus_times(point.gradient, -1.0, gradient, pairs.dtype))


def _under(objective: Objective, pairs: History, more: float, loss: float) -> History:
    """Return the pairs under a penalty stronger by `more`, but for those that are mostly rounding.

    The loss's part of y is a difference of two means of x (p - y), whose terms are about as large as it.
    """
    size = float(np.sqrt(float(objective.moments()[1].sum()) + objective.fit_intercept))
    noise = 10 * float(np.finfo(objective.dtype).eps) * loss * size
    moved = pairs.empty()
    for s, y in pairs:
        y = astype(objective.penalised(y, s, more), moved.dtype)
        weights = objective.weights(s)
        if dot(s, y) - objective.reg * dot(weights, weights) > noise * norm(s):
            moved.add(s, y)
    return moved


def _left(gaps: list[tuple[int, float]], goal: float) -> float:
    """Return about how many iterations are left, by how the gap fell over the last third; inf if unknown."""
    count, gap = gaps[-1] if gaps else (0, np.inf)
    since = [entry for entry in gaps if entry[0] <= count - max(_RATE, (count - gaps[0][0]) // 3)]
    if not since or not gap < since[-1][1]:
        return np.inf
    rate = np.log(since[-1][1] / gap) / (count - since[-1][0])
    return float(np.log(max(gap / max(goal, 1e-300), 1.0)) / rate)


def _refresh(objective: Objective, state: State, left: float = np.inf) -> None:
    """Look at the curvature at this point, and say after which iteration to look again.

    A look that takes much longer than the iterations that are `left` is put off, but not for long.
    """
    memory, count = state.memory, state.memory["count"]
    blocks, whole = max(10.0, Blocks.cost(objective)), max(10.0, Whole.cost(objective))
    kind, worth = (Whole, whole) if count >= whole else (Blocks, blocks) if count >= blocks else (None, 0.0)
    if kind is not None and count - memory["looked"] + left < _WAIT * kind.cost(objective):
        memory["due"] = count + max(_RATE, left)
        return
    A = Product.of(objective).classes(objective, state.theta)
    if "worth" in memory and A.max() < 1e-12:  # all samples are settled: there is hardly any curvature left
        memory["due"] = np.inf
        return
    memory["worth"] = worth  # iterations before it has paid for itself
    if kind is None:
        memory["pairs"].restart(Product.of(objective).inverse(objective, A))
        memory["due"] = min(max(2 * count, 3), blocks, whole)
        return
    memory["pairs"].restart(kind(objective, state.theta, A).inverse)
    memory["looked"] = count
    memory["due"] = count + max(worth, 0.25 * (count - memory["begun"]))
    if count < whole:
        memory["due"] = min(memory["due"], whole)


def _state(objective: Objective, point: Point, memory: dict[str, Any]) -> State:
    """Return a state that has the direction, among those spanned by the pairs, whose bound is least."""
    memory["gradient"], pairs = point.gradient, memory["pairs"]
    gap, direction = pairs.estimate(objective, point.gradient)
    return State(point.theta, point.value, gap, direction, inverse=pairs.inverse, memory=memory)
