"""Solutions along C, each fit starting from what the last one knew."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from luce.arrays import on_host
from luce.errors import InputError
from luce.loss.inputs import Array
from luce.objective import Objective
from luce.problem import Problem
from luce.solvers import LBFGS, Solution, Solver, State, minimize
from luce.solvers.curvature import Product
from luce.solvers.driver import Callback, Keeper

_AGAIN = 4  # each so many values of C, single precision is tried again


@dataclass(frozen=True)
class Options:
    """What the fits at all C have in common."""

    l1_ratio: float
    choose: Callable[[Objective], Solver]
    tol: float
    max_iter: int
    callbacks: Sequence[Callback] = ()


@dataclass(frozen=True)
class Fits:
    """The solutions of one problem for ascending Cs, with the passes over the data and seconds of each."""

    problem: Problem
    Cs: Array
    solutions: list[Solution]
    passes: Array
    seconds: Array


def follow(problem: Problem, Cs: Array, options: Options, near: Fits | None = None) -> Fits:
    """Fit for each of the ascending Cs: from the strong penalties, whose fits are easy.

    L-BFGS goes on from its own state, since what it knows of the curvature holds under any penalty: its first
    step is then a Newton step along the path. Other solvers start where the last two solutions, drawn on
    along log C, point. With the fits of a problem `near` this one, on the same Cs, all start from those,
    moved by how the two paths have differed so far.
    """
    if any(isinstance(callback, Keeper) for callback in options.callbacks):
        raise InputError("a checkpoint holds one fit, and a path has many: fit SoftmaxClassifier at one C")
    warm: _Resumed | None = None
    ahead = _Ahead(smooth=options.l1_ratio == 0)
    solutions: list[Solution] = []
    passes, seconds = [], []
    for i, C in enumerate(Cs):
        before, start = problem.base.n_passes, time.perf_counter()
        objective = problem.objective(C, options.l1_ratio)
        if i % _AGAIN and len(solutions) > 1 and solutions[-1].dtype == solutions[-2].dtype:
            objective = objective.in_dtype(solutions[-1].dtype)  # neither got by with less
        solver = options.choose(objective)
        base = np.zeros(objective.shape) if near is None else _onto(problem, near, i)
        theta = problem.placed(base + ahead.at(C), solver)
        if isinstance(solver, LBFGS):
            if near is not None:  # whose features differ little; they only say where to look
                problem.base.once("curvature", partial(Product.of, near.problem.base.beside(theta)))
            solver = warm = _Resumed(solver, None if warm is None else warm.state, jump=near is not None)
        solution = minimize(
            objective,
            solver,
            theta,
            tol=options.tol,
            max_iter=options.max_iter,
            rounding=problem.rounding(objective),
            callbacks=options.callbacks,
            caution=max(1.0, 0.5 * solutions[-1].caution) if solutions else 1.0,
        )
        solution = replace(solution, theta=on_host(solution.theta))
        ahead.add(C, solution.theta - base)
        solutions.append(solution)
        passes.append(problem.base.n_passes - before)
        seconds.append(time.perf_counter() - start)
    return Fits(problem, Cs, solutions, np.asarray(passes), np.asarray(seconds))


def _onto(problem: Problem, near: Fits, i: int) -> Array:
    """Return the i-th of the near solutions, for the classes of this problem."""
    return near.solutions[i].theta[:, np.isin(near.problem.classes, problem.classes)]


class _Ahead:
    """A line through the last two points of a path in log C; only the last where the path has corners."""

    def __init__(self, smooth: bool) -> None:
        self._room = 2 if smooth else 1
        self._points: list[tuple[float, Array]] = []

    def add(self, C: float, theta: Array) -> None:
        self._points = [*self._points, (float(np.log(C)), theta)][-self._room :]

    def at(self, C: float) -> Array | float:
        if len(self._points) < 2 or np.isinf(C):
            return self._points[-1][1] if self._points else 0.0
        (before, previous), (at, last) = self._points
        return last + (float(np.log(C)) - at) / (at - before) * (last - previous)


class _Resumed:
    """L-BFGS that starts from the state in which another fit ended, or with its knowledge elsewhere."""

    def __init__(self, solver: LBFGS, state: State | None, jump: bool) -> None:
        self.solver = solver
        self.state = state
        self._jump = jump

    def init(self, objective: Objective, theta: Array) -> State:
        """Return the state to start from."""
        if self.state is None:
            self.state = self.solver.init(objective, theta)
        else:
            self.state = self.solver.resume(objective, self.state, theta if self._jump else None)
        return self.state

    def resume(self, objective: Objective, state: State, theta: Array) -> State:
        """Return the state at theta in another arithmetic."""
        self.state = self.solver.resume(objective, state, theta)
        return self.state

    def step(self, objective: Objective, state: State) -> State:
        """Return the state one iteration on."""
        self.state = self.solver.step(objective, state)
        return self.state

    def move(self, objective: Objective, state: State, theta: Array) -> State:
        """Return the state at another point, or the same state if that point is no better."""
        self.state = self.solver.move(objective, state, theta)
        return self.state
