"""The one loop around every solver: history, callbacks, progress, the certificate, the end."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np

from luce.loss.inputs import Array
from luce.loss.memory import recycling
from luce.loss.threads import blas_quiet
from luce.objective import Objective
from luce.solvers.certificate import Certificate, carry, certify, certify_locally
from luce.solvers.conjugate import Inverse

_PRODUCTS = 0.3  # of the Hessian that one certificate may cost, for each pass that the fit has taken so far
_IDLE = 20  # iterations that together lower the objective by no more than rounding: there is no more to gain
_DECADE = 10.0  # passes, about those of a certificate: a gap that falls tenfold in fewer is worth the wait
_WELL_BELOW = 0.05  # of the tolerance: here a certificate is cheap
_STEPWISE = 10.0  # the most that one failed certificate adds to the caution
_SMALL = 2000  # parameters up to which a dense Hessian is no burden


@dataclass
class State:
    """Where a solver stands: the point, the objective there, and what the solver needs to go on.

    Attributes
    ----------
    theta, value : array, float
        The point and the objective there, rough penalty included.
    gap : float
        The solver's own estimate of the distance to the optimum, which costs it no pass; inf if it has none.
    direction : array or None
        An approximate Newton direction at theta, which makes the certificate tight.
    residual : array or None
        The gradient plus the Hessian times the direction, where it is known: then the gap is what the
        direction will prove, to second order, and no better for being tried later.
    inverse : callable or None
        An approximate inverse Hessian at theta, with which the certificate improves the direction.
    stalled : bool
        No further progress is possible in this arithmetic.
    goal : float
        The gap that is asked for, as the driver sets it before a step.
    ended : bool
        The solver has done what it set out to do, exact or not.
    memory : dict of arrays
        Everything else, so that a checkpoint can hold it.
    """

    theta: Array
    value: float
    gap: float = np.inf
    direction: Array | None = None
    residual: Array | None = None
    inverse: Inverse | None = None
    goal: float = 0.0
    stalled: bool = False
    ended: bool = False
    memory: dict[str, Any] = field(default_factory=dict)


class Solver(Protocol):
    """How an objective is minimised: a start and a step; the loop is :func:`minimize`."""

    def init(self, objective: Objective, theta: Array) -> State:
        """Return the state to start from theta."""

    def step(self, objective: Objective, state: State) -> State:
        """Return the state one iteration on."""


@runtime_checkable
class Movable(Protocol):
    """A solver that can make use of a step that was found by other means."""

    def move(self, objective: Objective, state: State, theta: Array) -> State:
        """Return the state at another point, or the same state if that point is no better."""


@runtime_checkable
class Resumable(Protocol):
    """A solver that need not start anew in another arithmetic."""

    def resume(self, objective: Objective, state: State, theta: Array) -> State:
        """Return the state at theta, with all that was learnt on the way to another state."""


@runtime_checkable
class Packing(Protocol):
    """A solver that goes on exactly where it was kept; one without these starts anew from the point."""

    def pack(self, state: State) -> dict[str, Any]:
        """Return what a state's memory holds as arrays and as values for JSON."""

    def unpack(self, objective: Objective, theta: Array, value: float, packed: dict[str, Any]) -> State:
        """Return the state that was packed."""


@dataclass(frozen=True)
class Progress:
    """What a callback is told after each iteration; it may return True to end the fit."""

    iteration: int
    loss: float
    gap: float  # an estimate while the fit runs, proven where `certified`
    passes: float
    seconds: float
    certified: bool = False


Callback = Callable[[Progress], bool | None]


class Keeper(ABC):
    """A callback that keeps the whole state of a fit, and may start a fit from one that it kept."""

    @abstractmethod
    def begin(self, objective: Objective, solver: Solver) -> tuple[State, list[Progress]] | None:
        """Return the state to start from, with the history that led to it; None to start afresh."""

    @abstractmethod
    def __call__(self, progress: Progress) -> bool | None:
        """See :data:`Callback`."""

    @abstractmethod
    def keep(self, state: State, history: Sequence[Progress]) -> None:
        """Take note of the state after an iteration; a later step may change its memory."""

    @abstractmethod
    def end(self, status: str | None) -> None:
        """Take note that the fit is over, see :class:`Solution`; None if an exception ended it."""


@dataclass(frozen=True)
class Solution:
    """The end of a fit.

    `status` is "converged" (the proven gap is within tolerance), "separable" (without a penalty there is no
    optimum: the loss goes to zero as the weights grow), "max_iter", "stalled" (rounding allows no better),
    "stopped" (by a callback) or "finished" (a solver that does not aim at the optimum, like SGD, is done).
    """

    theta: Array
    value: float
    gap: float
    n_iter: int
    status: str
    history: list[Progress]
    caution: float = 1.0  # by which the estimates were too low; a fit near this one may start from it
    dtype: Any = np.float64  # of the last products; a harder fit near this one may start in it


def minimize(
    objective: Objective,
    solver: Solver,
    theta: Array,
    *,
    tol: float,
    max_iter: int,
    rounding: Callable[[Array], Array] = np.copy,
    callbacks: Iterable[Callback] = (),
    caution: float = 1.0,
) -> Solution:
    """Run a solver until the proven gap is at most ``tol * value``, its vectors where theta lies.

    Parameters
    ----------
    objective : Objective
    solver : Solver
    theta : array
        Where to start.
    tol : float
        Relative to the objective.
    max_iter : int
    rounding : callable
        From a solver's theta to the one that is kept and certified, say in fewer digits.
    callbacks : iterable of callables
        Called with a :class:`Progress` after each iteration; one that returns True ends the fit. A
        :class:`Keeper` among them also sees the solver's state.
    caution : float
        How many times below the tolerance a solver's estimate must be before a certificate is tried. Each
        one that fails adds to it.

    Returns
    -------
    Solution
    """
    objective = objective.beside(theta)
    callbacks = list(callbacks)
    keepers = [callback for callback in callbacks if isinstance(callback, Keeper)]
    try:
        with recycling(), blas_quiet(getattr(objective.data, "n_threads", None)):
            solution = _minimize(
                objective, solver, theta, tol, max_iter, rounding, callbacks, keepers, caution
            )
    except BaseException:
        for keeper in keepers:
            keeper.end(None)
        raise
    for keeper in keepers:
        keeper.end(solution.status)
    return solution


def _minimize(
    objective: Objective,
    solver: Solver,
    theta: Array,
    tol: float,
    max_iter: int,
    rounding: Callable[[Array], Array],
    callbacks: list[Callback],
    keepers: list[Keeper],
    caution: float,
) -> Solution:
    start = time.perf_counter()
    history: list[Progress] = []
    iteration = 0
    begun = objective.n_passes
    last = unproven = Certificate(np.inf, np.inf)  # of the last attempt that proved too little
    hoped = np.inf  # the estimate then
    rest = 0.0  # passes at which the next attempt may begin, lest the attempts cost more than the iterations

    def report(iteration: int, value: float, gap: float, certified: bool = False) -> bool:
        if gap == np.inf and history:
            gap = history[-1].gap  # no new estimate at this iteration
        progress = Progress(iteration, value, gap, objective.n_passes, time.perf_counter() - start, certified)
        history.append(progress)
        return any(callback(progress) for callback in callbacks)

    def certified(state: State, rounded: Array) -> Certificate:
        return _certify(objective, state, rounded, tol, 4 + int(_PRODUCTS * (objective.n_passes - begun)))

    def finish(state: State, iteration: int, status: str, certificate: Certificate | None = None) -> Solution:
        rounded = rounding(state.theta)
        if certificate is None:
            certificate = certified(state, rounded)
        if certificate.direction is not None:  # the step that it was proven along is there to be taken
            beyond = rounding(rounded + certificate.direction)
            carried = carry(objective, certificate, beyond)
            if carried.gap < certificate.gap:
                rounded, certificate = beyond, carried
        report(iteration, certificate.value, certificate.gap, certified=True)
        if certificate.gap <= tol * certificate.value:
            status = "converged"
        return Solution(
            rounded, certificate.value, certificate.gap, iteration, status, history, caution, objective.dtype
        )

    kept = [found for keeper in keepers if (found := keeper.begin(objective, solver))]
    if kept:
        state, history = kept[0]
        iteration = history[-1].iteration
        start -= history[-1].seconds
        objective.count_passes(history[-1].passes)
    else:
        state = solver.init(objective, theta)
    fresh = iteration  # when this arithmetic began
    while True:
        rounding_error = np.finfo(objective.dtype).eps * state.value
        exhausted = state.stalled or state.gap <= rounding_error
        if iteration - fresh >= _IDLE and state.gap < np.inf:
            exhausted |= history[-_IDLE].loss - state.value <= 4 * rounding_error
        level = 0.7 / caution * tol * state.value
        rested = objective.n_passes - begun >= rest or state.gap <= 0.1 * hoped
        ready = state.gap <= level and rested
        surely = state.residual is not None
        if exhausted or (ready and (surely or not _soon(history, state, _WELL_BELOW * level))):
            attempt = objective.n_passes - begun
            tried = exhausted and objective.dtype != np.float64 and state.gap >= hoped
            certificate = last if tried else certified(state, rounding(state.theta))
            if certificate.gap <= tol * certificate.value:
                return finish(state, iteration, "converged", certificate)
            gained = last.value - certificate.value
            exhausted |= state.gap > 0.5 * hoped and not gained > 4 * rounding_error
            if exhausted and objective.dtype == np.float64:
                return finish(state, iteration, "stalled", certificate)
            if exhausted:  # single precision has given all it can
                objective = objective.in_dtype(np.float64)
                if isinstance(solver, Resumable):
                    state = solver.resume(objective, state, state.theta)
                else:
                    state = solver.init(objective, state.theta)
                last, hoped = unproven, np.inf
                fresh = iteration
            else:
                caution *= float(np.clip(certificate.gap / max(state.gap, rounding_error), 2.0, _STEPWISE))
                rest = 2 * (objective.n_passes - begun) - attempt
                last, hoped = certificate, state.gap
                if certificate.direction is not None and isinstance(solver, Movable):
                    state = solver.move(objective, state, state.theta + certificate.direction)
        if _separates(objective, state, tol):
            return finish(state, iteration, "separable")
        if iteration >= max_iter or state.ended:
            return finish(state, iteration, "finished" if state.ended else "max_iter")
        state.goal = level
        state = solver.step(objective, state)
        iteration += 1
        stop = report(iteration, state.value, state.gap)
        for keeper in keepers:
            keeper.keep(state, history)
        if stop:
            return finish(state, iteration, "stopped")


def _soon(history: Sequence[Progress], state: State, level: float) -> bool:
    """Whether the gap, by how it fell over the last passes, will soon be at a level."""
    if not history or state.gap <= level:
        return False
    now = history[-1].passes
    since = next(entry for entry in history if entry.passes >= now - _DECADE / 2)
    fallen = since.loss - state.value  # so the gap was by so much larger then
    return bool(fallen > state.gap * (10 ** ((now - since.passes) / _DECADE) - 1) and now > since.passes)


def _certify(
    objective: Objective, state: State, rounded: Array, tol: float, most_products: int
) -> Certificate:
    def onward() -> Array:
        """Return the direction from the rounded point to where it led before rounding."""
        direction: Array = state.theta - rounded
        if state.direction is not None:
            direction += state.direction
        return direction

    certificate = certify(objective, rounded, onward(), state.inverse, tol, most_products, state.residual)
    if certificate.gap > tol * certificate.value and objective.l1 == 0 and np.prod(objective.shape) <= _SMALL:
        local = certify_locally(objective, rounded)
        if local.gap < certificate.gap:
            return local
    return certificate


def _separates(objective: Objective, state: State, tol: float) -> bool:
    """Whether, without a penalty, the loss goes to zero: each sample has more than half the probability."""
    if objective.reg > 0 or objective.l1 > 0 or state.value > tol:
        return False
    return bool(state.value * objective.data.total_weight < np.log(2) * objective.data.least_weight)
