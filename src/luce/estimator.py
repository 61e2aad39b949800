"""The scikit-learn face: :class:`SoftmaxClassifier`."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Self

import numpy as np
from scipy.special import log_softmax, softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from luce.errors import InputError
from luce.loss.inputs import Array, Matrix, as_weights
from luce.objective import InMemory, Objective
from luce.progress import ProgressLine
from luce.solvers import LBFGS, Newton, Solution, Solver, minimize
try:
    from luce.solvers import SGD, Proximal
except ImportError:
    SGD = Proximal = None

_ADVICE = {
    "max_iter": "raise max_iter, or tol if this is near enough",
    "stalled": "this is what rounding allows: raise tol, pass float64 features, or scale the largest ones down",
    "separable": "without a penalty the weights grow for ever: pass a finite C",
    "stopped": "a callback ended the fit",
}


class SoftmaxClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
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
    solver : {"auto", "lbfgs", "newton", "proximal", "sgd"} or an object from :mod:`luce.solvers`
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
    callbacks : sequence of callables
        Each is called with a :class:`luce.solvers.Progress` after every iteration; True ends the fit.
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
        self.callbacks = callbacks
        self.verbose = verbose

    def fit(self, X: Matrix, y: Array, sample_weight: Array | None = None) -> Self:
        """Fit to samples X (N, D), dense or sparse, with labels y (N,) and optional weights (N,)."""
        self._check_parameters()
        X, y = validate_data(
            self, X, y, accept_sparse="csr", dtype=[np.float64, np.float32], accept_large_sparse=True
        )
        check_classification_targets(y)
        weight = as_weights(sample_weight, X.shape[0])
        classes, labels, weight = self._labels(y, weight)
        data = InMemory(X, labels, len(classes), weight, self.n_threads)
        objective = self._objective(data)
        theta = self._start(objective, classes)
        callbacks = [*self.callbacks, *([ProgressLine(self.verbose)] if self.verbose else [])]
        self.classes_ = classes
        solver = self._solver(objective)
        solution = minimize(
            objective,
            solver,
            theta,
            tol=self.tol,
            max_iter=self.max_iter,
            rounding=self._rounding(objective, X.dtype),
            callbacks=callbacks,
        )
        self._keep(solution, X.dtype)
        if not self.converged_ or solution.status == "separable":
            self._warn(solution)
        return self

    def _check_parameters(self) -> None:
        checks: dict[str, tuple[Callable[[Any], bool], str]] = {
            "C": (lambda v: v > 0, "a positive number, numpy.inf for no penalty"),
            "l1_ratio": (lambda v: 0 <= v <= 1, "a number from 0 to 1"),
            "tol": (lambda v: 0 <= v < np.inf, "a number >= 0"),
            "max_iter": (lambda v: v >= 1 and v == int(v), "a positive integer"),
            "n_threads": (lambda v: v is None or v >= 1, "a positive integer, or None for all processors"),
        }
        for name, (fits, wanted) in checks.items():
            value = getattr(self, name)
            try:
                fine = bool(fits(value))
            except (TypeError, ValueError):
                fine = False
            if not fine:
                raise InputError(f"{name} = {value!r}: pass {wanted}")
        if isinstance(self.solver, str) and self.solver not in _SOLVERS:
            raise InputError(f"solver = {self.solver!r}: pass one of {', '.join(_SOLVERS)}")

    def _labels(self, y: Array, weight: Array | None) -> tuple[Array, Array, Array | None]:
        """Return the classes, each sample's number among them, and the weights with class_weight in them."""
        counted = y if weight is None else y[weight > 0]
        classes = np.unique(counted)
        if len(classes) < 2:
            only = "none" if weight is not None and not len(classes) else repr(classes[0].item())
            raise InputError(
                f"y has one class only ({only}): a classifier needs samples of at least 2 classes"
            )
        labels = np.searchsorted(classes, y)
        labels[labels == len(classes)] = 0
        if self.class_weight is not None:
            ones = np.ones(len(y)) if weight is None else weight
            if isinstance(self.class_weight, str) and self.class_weight == "balanced":
                totals = np.bincount(labels, ones, minlength=len(classes))
                per_class = ones.sum() / (len(classes) * totals)
            else:
                per_class = compute_class_weight(self.class_weight, classes=classes, y=counted)
            weight = as_weights(ones * per_class[labels], len(y))
        return classes, labels.astype(np.int64), weight

    def _objective(self, data: InMemory) -> Objective:
        strength = 0.0 if np.isinf(self.C) else 1.0 / (self.C * data.total_weight)
        # two classes as two columns -w/2 and w/2: ||w||^2 = 2 ||W||^2, while the absolute values agree
        double = 2.0 if data.n_classes == 2 else 1.0
        return Objective(
            data,
            double * (1.0 - self.l1_ratio) * strength,
            l1=self.l1_ratio * strength,
            fit_intercept=self.fit_intercept,
        )

    def _start(self, objective: Objective, classes: Array) -> Array:
        theta = np.zeros(objective.shape)
        if not (self.warm_start and hasattr(self, "coef_")):
            return theta
        if not np.array_equal(self.classes_, classes) or self.coef_.shape[1] != objective.data.n_features:
            return theta
        coef, intercept = self.coef_, self.intercept_
        if len(classes) == 2:
            coef, intercept = np.vstack([-coef, coef]) / 2, np.hstack([-intercept, intercept]) / 2
        objective.weights(theta)[...] = coef.T
        if self.fit_intercept:
            theta[-1] = intercept
        return theta

    def _solver(self, objective: Objective) -> Solver:
        if not isinstance(self.solver, str):
            solver = self.solver
        elif self.solver == "sgd":
            solver = SGD(random_state=self.random_state)
        elif self.solver != "auto":
            solver = _SOLVERS[self.solver]()
        elif objective.l1 > 0:
            solver = Proximal()
        else:
            size = int(np.prod(objective.shape))
            work = objective.data.n_samples * float(size) ** 2
            solver = Newton() if size <= 100 or (size <= 1500 and work <= 2e9) else LBFGS()
        if objective.l1 > 0 and isinstance(solver, (LBFGS, Newton)):
            raise InputError(
                f"solver={type(solver).__name__} cannot do l1_ratio={self.l1_ratio}: the absolute penalty has "
                "no gradient; pass solver='proximal' or 'auto'"
            )
        return solver

    def _rounding(self, objective: Objective, dtype: Any) -> Callable[[Array], Array]:
        """Return the map from a solver's theta to the one that the fitted coefficients stand for."""

        def rounding(theta: Array) -> Array:
            if theta.shape[1] == 2:
                half = (theta[:, 1] - theta[:, 0]).astype(dtype).astype(np.float64) / 2
                return np.column_stack([-half, half])
            theta = theta.copy()
            free = theta if objective.reg == objective.l1 == 0 else theta[objective.data.n_features :]
            free -= free.mean(axis=1, keepdims=True)  # what all classes share changes no probability
            return theta.astype(dtype).astype(np.float64)

        return rounding

    def _keep(self, solution: Solution, dtype: Any) -> None:
        theta, D = solution.theta, self.n_features_in_
        if theta.shape[1] == 2:
            theta = theta[:, 1:] - theta[:, :1]
        theta = theta.astype(dtype)
        self.coef_ = np.ascontiguousarray(theta[:D].T)
        self.intercept_ = theta[D].copy() if self.fit_intercept else np.zeros(theta.shape[1], dtype=dtype)
        self.n_iter_ = np.array([max(solution.n_iter, 1)], dtype=np.int32)
        self.loss_ = float(solution.value)
        self.gap_ = float(solution.gap)
        self.status_ = solution.status
        self.converged_ = solution.status in ("converged", "separable")
        self.history_ = [asdict(progress) for progress in solution.history]

    def _warn(self, solution: Solution) -> None:
        if solution.status == "finished":
            return
        warnings.warn(
            f"The fit is proven to within {solution.gap / max(solution.value, 1e-300):.1e} of its objective, "
            f"not tol={self.tol:g} ({solution.status}): {_ADVICE[solution.status]}.",
            ConvergenceWarning,
            stacklevel=3,
        )

    def decision_function(self, X: Matrix) -> Array:
        """Return the scores: (N, C), or for two classes (N,), positive for the second class."""
        check_is_fitted(self)
        X = validate_data(self, X, accept_sparse="csr", dtype=[np.float64, np.float32], reset=False)
        scores = np.asarray(X @ self.coef_.T) + self.intercept_
        return scores.ravel() if scores.shape[1] == 1 else scores

    def predict(self, X: Matrix) -> Array:
        """Return the most probable class of each sample, (N,)."""
        scores = self.decision_function(X)
        return self.classes_[(scores > 0).astype(int) if scores.ndim == 1 else scores.argmax(axis=1)]

    def predict_proba(self, X: Matrix) -> Array:
        """Return the probabilities of the classes, (N, C), ordered as classes_."""
        return np.asarray(softmax(self._scores_of_all(X), axis=1))

    def predict_log_proba(self, X: Matrix) -> Array:
        """Return the logarithms of the probabilities, (N, C): exact where a probability underflows to 0."""
        return np.asarray(log_softmax(self._scores_of_all(X), axis=1))

    def _scores_of_all(self, X: Matrix) -> Array:
        scores = self.decision_function(X)
        return np.column_stack([np.zeros_like(scores), scores]) if scores.ndim == 1 else scores

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


_SOLVERS: dict[str, Any] = {
    "auto": None, "lbfgs": LBFGS, "newton": Newton, "proximal": Proximal, "sgd": SGD,
}  # fmt: skip
