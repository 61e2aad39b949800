"""The scikit-learn face: :class:`SoftmaxClassifier`."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from numbers import Integral, Real
from typing import Any, Self

import numpy as np
import scipy.sparse as sp
from sklearn.exceptions import ConvergenceWarning

from luce.blocks import Samples, in_tensors, located
from luce.errors import InputError
from luce.loss.inputs import Array, Matrix, as_weights
from luce.objective import InMemory, Objective
from luce.predictions import Predictions
from luce.problem import Problem
from luce.progress import ProgressLine
from luce.solvers import LBFGS, SGD, Newton, NewtonCG, Proximal, Solution, Solver, State, minimize
from luce.solvers.driver import Callback

_ADVICE = {
    "max_iter": "raise max_iter, or tol if this is near enough",
    "stalled": "this is what rounding allows: raise tol, pass float64 features, or scale the largest down",
    "unpenalised": "classes that come apart or features that repeat each other leave no proof without a "
    "penalty: pass a finite C",
    "separable": "without a penalty the weights grow for ever: pass a finite C",
    "stopped": "a callback ended the fit",
}

_THIN = 64  # numbers stored for each feature up to which vectors cost more than passes


class SoftmaxClassifier(Predictions):
    """Softmax (multinomial logistic) classifier, fitted to a proven distance from the optimum.

    Minimises ``C sum_i w_i loss_i + (1 - l1_ratio)/2 ||W||^2 + l1_ratio ||W||_1`` as scikit-learn's
    LogisticRegression does; the intercept is never penalised. Two classes share one vector of weights.

    Parameters
    ----------
    C : float
        Inverse strength of the penalty; ``numpy.inf`` for none. In the terms of :func:`luce.softmax_loss`,
        ``reg = 1 / (C N)``.
    l1_ratio : float
        Share of the absolute penalty, from 0 (squared penalty only) to 1 (absolute penalty only).
    fit_intercept : bool
    class_weight : dict, "balanced" or None
        As in scikit-learn.
    solver : {"auto", "lbfgs", "newton", "newton-cg", "proximal", "sgd"} or an object from :mod:`luce.solvers`
        "auto" needs no tuning and does not mind the scale of the features.
    tol : float
        The fit stops when ``gap_ <= tol * loss_``.
    max_iter : int
    warm_start : bool
        Start from the coefficients of the last fit.
    random_state : int, RandomState instance or None
        Of solver="sgd"; the others draw nothing.
    n_threads : int, optional
        By default all the processors that this process may use.
    memory : int or str, optional
        Bytes, or such as "1GiB", that a fit to data on disk may use; smaller data are held in memory whole.
        By default a quarter of the machine's.
    device : str, optional
        A device of PyTorch's, such as "cuda", to which X is sent for the fit: dense, and small enough for it.
        A tensor as X needs none: it is fitted where it is.
    callbacks : sequence of callables
        Each is called with a :class:`luce.solvers.Progress` after every iteration; True ends the fit. For
        logs, checkpoints and early stopping see :mod:`luce.callbacks`.
    verbose : int
        1 writes progress to stderr once a fit takes over two seconds, 2 every iteration.

    Attributes
    ----------
    coef_ : array (C, D), or (1, D) for two classes
    intercept_ : array (C,), or (1,) for two classes
    classes_ : array (C,)
        The labels of the samples that have a positive weight.
    n_iter_ : array (1,)
    loss_ : float
        The objective at the fit, as a mean: ``mean loss + reg/2 ||W||^2 (+ ...)``, that is the sum above over
        ``C sum_i w_i``.
    gap_ : float
        A proven upper bound on how far loss_ is above the least possible, in the same units.
    converged_ : bool
        Whether ``gap_ <= tol * loss_``, or, without a penalty, the classes were found to be separable.
    status_ : str
        "converged", "separable", "max_iter", "stalled" or "stopped".
    history_ : list of dict
        Per iteration: iteration, loss, gap, passes, seconds, certified.
    n_features_in_, feature_names_in_
        As in scikit-learn.

    Raises
    ------
    InputError
        A ValueError, for parameters or data that cannot be used.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> clf = SoftmaxClassifier().fit(X, y)
    >>> clf.score(X, y) > 0.97, clf.gap_ <= 1e-4 * clf.loss_
    (True, True)
    """

    def __init__(
        self,
        C: float = 1.0,
        *,
        l1_ratio: float = 0.0,
        fit_intercept: bool = True,
        class_weight: Any = None,
        solver: str | Solver = "auto",
        tol: float = 1e-4,
        max_iter: int = 1000,
        warm_start: bool = False,
        random_state: Any = None,
        n_threads: int | None = None,
        memory: int | str | None = None,
        device: str | None = None,
        callbacks: Any = (),
        verbose: int = 0,
    ) -> None:
        self.C = C
        self.l1_ratio = l1_ratio
        self.fit_intercept = fit_intercept
        self.class_weight = class_weight
        self.solver = solver
        self.tol = tol
        self.max_iter = max_iter
        self.warm_start = warm_start
        self.random_state = random_state
        self.n_threads = n_threads
        self.memory = memory
        self.device = device
        self.callbacks = callbacks
        self.verbose = verbose

    def fit(self, X: Matrix, y: Array, sample_weight: Array | None = None) -> Self:
        """Fit to samples X (N, D), dense or sparse, with labels y (N,) and optional weights (N,).

        X may also be a memory-mapped or Zarr array larger than memory, which is read block by block, or a
        Dask array or data frame, which stays on its workers; or a PyTorch tensor, or a GPU's array that gives
        one by DLPack: the passes run on its device, and coef_, intercept_ and predictions are tensors there.
        """
        check_parameters(self.get_params(deep=False))
        X, y = self._labelled(located(X, self.memory), y, reset=True)
        if self.device is not None:
            X = self._sent(X)
        self._stream: dict[str, Any] | None = None
        problem = Problem.of(
            X,
            y,
            sample_weight if isinstance(X, Samples) else as_weights(sample_weight, X.shape[0]),
            class_weight=self.class_weight,
            fit_intercept=self.fit_intercept,
            n_threads=self.n_threads,
        )
        objective = problem.objective(self.C, self.l1_ratio)
        theta = self._start(problem)
        self.classes_ = problem.classes
        solver = chosen_solver(self.solver, objective, self.random_state)
        solution = minimize(
            objective,
            solver,
            problem.placed(theta, solver),
            tol=self.tol,
            max_iter=self.max_iter,
            rounding=problem.rounding(objective),
            callbacks=with_progress(self.callbacks, self.verbose, self.tol),
        )
        self._keep(problem, solution)
        if isinstance(X, Samples):
            self.coef_, self.intercept_ = X.like(self.coef_), X.like(self.intercept_)
        if not self.converged_ or solution.status == "separable":
            self._warn(solution)
        return self

    def partial_fit(
        self, X: Matrix, y: Array, classes: Array | None = None, sample_weight: Array | None = None
    ) -> Self:
        """Learn from more samples by one pass of averaged gradient descent, whatever came before.

        Parameters
        ----------
        X, y, sample_weight
            As in :meth:`fit`.
        classes : array (C,)
            All labels that will ever come; needed at the first call.

        Notes
        -----
        `solver` may be an :class:`luce.solvers.SGD`; otherwise its defaults are used. The penalty counts
        all the samples seen so far. coef_ is an average over the stream, the later the more. loss_ is that of
        the last batch, gap_ is infinite: nothing is proven on a stream. :func:`luce.save` keeps what is
        needed to go on after :func:`luce.load` as if there had been no break.
        """
        check_parameters(self.get_params(deep=False))
        if self.l1_ratio > 0:
            raise InputError(f"partial_fit cannot do l1_ratio={self.l1_ratio}: use fit")
        known = getattr(
            self, "classes_", None
        )  # from an earlier call, or from fit: then it goes on from there
        X, y = self._labelled(X, y, reset=known is None)
        weight = as_weights(sample_weight, X.shape[0])
        if known is None:
            if classes is None:
                raise InputError(
                    "the first call to partial_fit needs classes: all labels that will ever come"
                )
            known = np.unique(classes)
            if len(known) < 2:
                raise InputError("classes has one class only: a classifier needs at least 2 classes")
        elif classes is not None and not np.array_equal(np.unique(classes), known):
            raise InputError("classes are not those of the earlier calls")
        strange = np.flatnonzero(~np.isin(y, known))
        if strange.size:
            raise InputError(
                f"y[{strange[0]}] = {y[strange[0]]!r} is not one of the classes {known.tolist()}"
            )
        data = InMemory(X, np.searchsorted(known, y).astype(np.int64), len(known), weight, self.n_threads)
        problem = Problem(known, data, Objective(data, 0.0, fit_intercept=self.fit_intercept))
        stream: dict[str, Any] | None = getattr(self, "_stream", None)
        seen = data.total_weight + (0.0 if stream is None else stream["weight"])
        objective = problem.objective(self.C * seen / data.total_weight)
        solver = self.solver if isinstance(self.solver, SGD) else SGD()
        if stream is None:
            fitted = hasattr(self, "coef_")
            theta = problem.theta(self.coef_, self.intercept_) if fitted else np.zeros(problem.base.shape)
            state = solver.begin(objective, theta)
        else:
            state = State(stream["theta"], np.inf, memory=stream)
        self.classes_ = known
        state = solver.learn(objective, state)
        calls = 1 if stream is None else stream["calls"] + 1
        theta = problem.rounding(objective)(state.memory["average"])
        self._keep(problem, Solution(theta, state.value, np.inf, calls, "finished", []))
        self._stream = {**state.memory, "theta": state.theta, "calls": calls}
        return self

    def _sent(self, X: Matrix) -> Samples:
        if not isinstance(X, np.ndarray):
            raise InputError(
                f"device = {self.device!r} needs X as a dense array in memory, and X is a "
                f"{type(X).__name__}: leave device out"
            )
        return in_tensors(X, self.device)

    def _start(self, problem: Problem) -> Array:
        if not (self.warm_start and hasattr(self, "coef_")):
            return np.zeros(problem.base.shape)
        if not np.array_equal(self.classes_, problem.classes) or self.coef_.shape[1] != self.n_features_in_:
            return np.zeros(problem.base.shape)
        return problem.theta(self.coef_, self.intercept_)

    def _keep(self, problem: Problem, solution: Solution) -> None:
        super()._keep(problem, solution)
        self.n_iter_ = np.array([max(solution.n_iter, 1)], dtype=np.int32)

    def _warn(self, solution: Solution) -> None:
        if solution.status == "finished":
            return
        unproven = solution.status == "stalled" and np.isinf(self.C)
        advice = _ADVICE["unpenalised" if unproven else solution.status]
        warnings.warn(
            f"The fit is proven to within {solution.gap / max(solution.value, 1e-300):.1e} of its objective, "
            f"not tol={self.tol:g} ({solution.status}): {advice}.",
            ConvergenceWarning,
            stacklevel=3,
        )


_SOLVERS: dict[str, Any] = {
    "auto": None, "lbfgs": LBFGS, "newton": Newton, "newton-cg": NewtonCG, "proximal": Proximal,
    "sgd": SGD,
}  # fmt: skip


def check_parameters(values: dict[str, Any]) -> None:
    """Raise InputError for the first of the parameters of a fit that cannot be used."""
    checks: dict[str, tuple[Callable[[Any], bool], str]] = {
        "C": (lambda v: _number(v) and v > 0, "a positive number, numpy.inf for no penalty"),
        "l1_ratio": (lambda v: _number(v) and 0 <= v <= 1, "a number from 0 to 1"),
        "tol": (lambda v: _number(v) and 0 <= v < np.inf, "a number >= 0"),
        "max_iter": (lambda v: _whole(v) and v >= 0, "an integer >= 0"),
        "n_threads": (
            lambda v: v is None or (_whole(v) and v >= 1),
            "a positive integer, or None for all processors",
        ),
        "fit_intercept": (_flag, "True or False"),
        "warm_start": (_flag, "True or False"),
        "verbose": (lambda v: _flag(v) or _whole(v), "0, 1 or 2"),
        "class_weight": (
            lambda v: v is None or v == "balanced" or isinstance(v, dict),
            "a dict from labels to weights, 'balanced', or None",
        ),
        "random_state": (
            lambda v: v is None or _whole(v) or isinstance(v, np.random.RandomState),
            "an integer, a numpy.random.RandomState, or None",
        ),
        "callbacks": (
            lambda v: isinstance(v, Iterable) and all(callable(f) for f in v),
            "a sequence of callables",
        ),
        "device": (lambda v: v is None or isinstance(v, str), "the name of a device, such as 'cuda'"),
        "solver": (
            lambda v: v in _SOLVERS if isinstance(v, str) else hasattr(v, "init") and hasattr(v, "step"),
            f"one of {', '.join(_SOLVERS)}, or an object from luce.solvers",
        ),
    }
    for name, (fits, wanted) in checks.items():
        if name in values and not fits(values[name]):
            raise InputError(f"{name} = {values[name]!r}: pass {wanted}")


def _number(value: Any) -> bool:
    return isinstance(value, (Real, np.number)) and not _flag(value) and value == value


def _whole(value: Any) -> bool:
    return isinstance(value, (Integral, np.integer)) and not _flag(value)


def _flag(value: Any) -> bool:
    return isinstance(value, (bool, np.bool_))


def chosen_solver(solver: str | Solver, objective: Objective, random_state: Any = None) -> Solver:
    """Return the solver of a name, "auto" included, or the object passed; InputError if it cannot do l1."""
    if not isinstance(solver, str):
        chosen = solver
    elif solver == "sgd":
        chosen = SGD(random_state=random_state)
    elif solver != "auto":
        chosen = _SOLVERS[solver]()
    elif objective.l1 > 0:
        chosen = Proximal()
    else:
        small = np.prod(objective.shape) <= 300
        chosen = Newton() if small else NewtonCG() if _thin(objective) else LBFGS()
    if objective.l1 > 0 and isinstance(chosen, (LBFGS, Newton, NewtonCG)):
        raise InputError(
            f"solver={type(chosen).__name__} cannot do an l1_ratio above 0: the absolute penalty has no "
            "gradient; pass solver='proximal' or 'auto'"
        )
    return chosen


def _thin(objective: Objective) -> bool:
    """Whether X is so sparse that what L-BFGS does with its vectors costs more than its passes."""
    X: Any = getattr(objective.data, "X", None)
    return bool(sp.issparse(X) and X.nnz <= _THIN * X.shape[1])


def with_progress(callbacks: Iterable[Callback], verbose: int, tol: float) -> list[Callback]:
    """Return the callbacks, with a line on stderr that says how the fit is getting on if `verbose`."""
    return [*callbacks, *([ProgressLine(verbose, tol)] if verbose else [])]
