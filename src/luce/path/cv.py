"""C chosen by cross-validation: :class:`SoftmaxClassifierCV`."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from scipy.special import softmax
from sklearn.metrics import get_scorer
from sklearn.model_selection import check_cv
from sklearn.utils import Bunch
from sklearn.utils.metadata_routing import (
    UNUSED,
    MetadataRouter,
    MethodMapping,
    _raise_for_params,
    _routing_enabled,
    process_routing,
)
from sklearn.utils.validation import _check_method_params, check_is_fitted

from luce.errors import InputError
from luce.estimator import SoftmaxClassifier, check_parameters, chosen_solver, with_progress
from luce.loss.inputs import Array, Matrix, as_weights
from luce.path.follow import Fits, Options, follow
from luce.path.grid import SoftmaxPath, as_grid, warn_if_loose
from luce.path.loo import left_out_scores, step_error
from luce.predictions import Predictions
from luce.problem import Problem
from luce.solvers import Solution, Solver

if TYPE_CHECKING:
    import pandas as pd


class SoftmaxClassifierCV(Predictions):
    """Softmax classifier that chooses C from a grid by cross-validation, on shared work.

    The path through the grid is fitted once to all samples; each fold's fits start from it.

    Parameters
    ----------
    Cs : int or array (n,)
        Values of C; an integer stands for so many from 1e-4 to 1e4, evenly spaced in their logarithms.
    cv : int, splitter, iterable of (train, test) indices, "loo" or None
        As in scikit-learn, None for 5 stratified folds. "loo" leaves each sample out in turn, approximately:
        by one Newton step from the fit to all, so that it costs little more than one fit for each C.
    scoring : str, callable or None
        As in scikit-learn; None for accuracy.
    refit : bool
        Whether to keep the fit to all samples at the C with the best mean score (the first of them at a tie);
        otherwise the coefficients of each fold's best C are averaged. "loo" has no folds and ignores it.
    l1_ratio, fit_intercept, class_weight, solver, tol, max_iter, random_state, n_threads, callbacks, verbose
        As in :class:`luce.SoftmaxClassifier`, for each of the fits; "balanced" weights count all samples.

    Attributes
    ----------
    coef_, intercept_, classes_, n_features_in_, feature_names_in_
        As in :class:`luce.SoftmaxClassifier`.
    Cs_ : array (n,)
    C_ : float
        The C of the best mean score; without refit, the mean of the folds' best.
    scores_ : array (n_folds, n)
        One row for "loo": the score of all samples' left-out predictions together.
    coefs_paths_ : array (n_folds, n, C, D + 1), or (n_folds, n, 1, D + 1) for two classes
        Of each fold, the intercept (if any) last; minus infinity for a class that a fold lacks. As n_iter_,
        losses_ and gaps_, of the fits to all samples for "loo".
    n_iter_ : array (n_folds, n)
    losses_, gaps_ : array (n_folds, n)
        As loss_ and gap_ of :class:`luce.SoftmaxClassifier`, of each fold's fits.
    path_ : SoftmaxPath or None
        The fits to all samples; None without refit.
    loss_, gap_, status_, converged_, history_
        As in :class:`luce.SoftmaxClassifier`, of the fit that was kept; with refit or "loo" only.
    loo_proba_ : array (N, C)
        For "loo": the left-out probabilities of the samples at C_.
    loo_error_ : float
        For "loo": the relative error of the Newton steps at C_, measured on a few samples; 0 for small
        problems, whose Hessian is factored whole. How far a Newton step is from a whole fit is not in it.

    Raises
    ------
    InputError
        A ValueError, for parameters or data that cannot be used.

    References
    ----------
    Rad & Maleki, "A scalable estimate of the out-of-sample prediction error via approximate leave-one-out
    cross-validation", J. R. Statist. Soc. B, 2020.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> clf = SoftmaxClassifierCV([0.01, 1, 100], scoring="neg_log_loss").fit(X, y)
    >>> clf.C_, clf.scores_.shape
    (100.0, (5, 3))
    """

    __metadata_request__score = {"sample_weight": UNUSED}  # noqa: RUF012 - scikit-learn reads it so

    def __init__(
        self,
        Cs: Any = 10,
        *,
        cv: Any = None,
        scoring: Any = None,
        refit: bool = True,
        l1_ratio: float = 0.0,
        fit_intercept: bool = True,
        class_weight: Any = None,
        solver: str | Solver = "auto",
        tol: float = 1e-4,
        max_iter: int = 1000,
        random_state: Any = None,
        n_threads: int | None = None,
        callbacks: Any = (),
        verbose: int = 0,
    ) -> None:
        self.Cs = Cs
        self.cv = cv
        self.scoring = scoring
        self.refit = refit
        self.l1_ratio = l1_ratio
        self.fit_intercept = fit_intercept
        self.class_weight = class_weight
        self.solver = solver
        self.tol = tol
        self.max_iter = max_iter
        self.random_state = random_state
        self.n_threads = n_threads
        self.callbacks = callbacks
        self.verbose = verbose

    def fit(self, X: Matrix, y: Array, sample_weight: Array | None = None, **params: Any) -> Self:
        """Fit to samples X (N, D), dense or sparse, with labels y (N,) and optional weights (N,).

        The weights count in the fits and in the scores. Other parameters, such as groups, reach the splitter
        and the scorer by scikit-learn's metadata routing.
        """
        _raise_for_params(params, self, "fit")
        check_parameters(self.get_params(deep=False))
        left_out = isinstance(self.cv, str) and self.cv == "loo"
        if left_out and self.l1_ratio > 0:
            raise InputError(f"cv='loo' cannot do l1_ratio={self.l1_ratio}: its steps need a smooth penalty")
        self.Cs_ = as_grid(self.Cs)
        X, y = self._labelled(X, y, reset=True)
        problem = Problem.of(
            X,
            y,
            as_weights(sample_weight, X.shape[0]),
            class_weight=self.class_weight,
            fit_intercept=self.fit_intercept,
            n_threads=self.n_threads,
        )
        self.classes_ = problem.classes
        routed = self._route(sample_weight, params)
        scorer = _knowing(self._scorer(), self.classes_)

        def score(model: Predictions, rows: Array) -> float:
            return float(
                scorer(model, X[rows], y[rows], **_check_method_params(X, routed.scorer.score, rows))
            )

        options = Options(
            self.l1_ratio,
            lambda objective: chosen_solver(self.solver, objective, self.random_state),
            self.tol,
            self.max_iter,
            with_progress(self.callbacks, self.verbose, self.tol),
        )
        whole = follow(problem, np.unique(self.Cs_), options) if self.refit or left_out else None
        self.path_ = None if whole is None else SoftmaxPath.of(whole, self.Cs_)
        if left_out:
            assert whole is not None
            self._leave_one_out(whole, score)
        else:
            splits = check_cv(self.cv, y, classifier=True).split(X, y, **routed.splitter.split)
            self._cross_validate(problem, options, whole, splits, score)
        return self

    def _cross_validate(
        self,
        problem: Problem,
        options: Options,
        whole: Fits | None,
        splits: Iterable[tuple[Array, Array]],
        score: Callable[[Predictions, Array], float],
    ) -> None:
        folds, scores, paths = [], [], []
        for number, (train, test) in enumerate(splits):
            try:
                part = problem.take(train)
            except InputError as error:
                raise InputError(
                    f"fold {number}: {error}; use fewer folds or a stratified splitter"
                ) from error
            fold = follow(part, np.unique(self.Cs_), options, whole)
            models = [_model(problem, part, solution.theta) for solution in self._in_order(fold)]
            folds.append(fold)
            scores.append([score(model, test) for model in models])
            paths.append([np.hstack([model.coef_, model.intercept_[:, None]]) for model in models])
        self._record(np.array(scores), np.array(paths), folds)
        if whole is not None:
            self._choose(whole)
        else:
            best = self.scores_.argmax(axis=1)
            mean = np.mean([path[i] for path, i in zip(paths, best, strict=True)], axis=0)
            self.C_ = float(self.Cs_[best].mean())
            self.coef_, self.intercept_ = mean[:, :-1], mean[:, -1]
        warn_if_loose(folds if whole is None else [whole, *folds], self.tol)

    def _leave_one_out(self, whole: Fits, score: Callable[[Predictions, Array], float]) -> None:
        problem, every = whole.problem, np.arange(whole.problem.data.n_samples)
        scores, kept = {}, (-np.inf, every)
        for C in self.Cs_:
            if C in scores:
                continue
            theta = whole.solutions[int(np.searchsorted(whole.Cs, C))].theta
            Z = left_out_scores(problem, problem.objective(C), theta)
            scores[C] = score(_LeftOut(problem.classes, Z), every)
            if scores[C] > kept[0]:
                kept = (scores[C], Z)
        assert self.path_ is not None
        paths = np.concatenate([self.path_.coefs, self.path_.intercepts[:, :, None]], axis=2)
        self._record(np.array([[scores[C] for C in self.Cs_]]), paths[None], [whole])
        self._choose(whole)
        Z = kept[1]
        self.loo_proba_ = np.asarray(softmax(Z, axis=1))
        solution = whole.solutions[int(np.searchsorted(whole.Cs, self.C_))]
        self.loo_error_ = step_error(problem, problem.objective(self.C_), solution.theta, Z)
        warn_if_loose([whole], self.tol)

    def _in_order(self, fits: Fits) -> list[Solution]:
        return [fits.solutions[i] for i in np.searchsorted(fits.Cs, self.Cs_)]

    def _record(self, scores: Array, paths: Array, folds: list[Fits]) -> None:
        solutions = [self._in_order(fold) for fold in folds]
        self.scores_ = scores
        self.coefs_paths_ = paths if self.fit_intercept else paths[..., :-1]
        self.n_iter_ = np.array([[max(s.n_iter, 1) for s in row] for row in solutions])
        self.losses_ = np.array([[s.value for s in row] for row in solutions])
        self.gaps_ = np.array([[s.gap for s in row] for row in solutions])

    def _choose(self, whole: Fits) -> None:
        best = int(np.argmax(self.scores_.sum(axis=0)))
        self.C_ = float(self.Cs_[best])
        self._keep(whole.problem, self._in_order(whole)[best])

    def frame(self) -> pd.DataFrame:
        """Return a pandas table, a row for each fold and C: fold, C, score, loss, gap, n_iter."""
        import pandas as pd

        check_is_fitted(self)
        n_folds, n = self.scores_.shape
        return pd.DataFrame(
            {
                "fold": np.repeat(np.arange(n_folds), n),
                "C": np.tile(self.Cs_, n_folds),
                "score": self.scores_.ravel(),
                "loss": self.losses_.ravel(),
                "gap": self.gaps_.ravel(),
                "n_iter": self.n_iter_.ravel(),
            }
        )

    def score(self, X: Matrix, y: Array, sample_weight: Array | None = None, **params: Any) -> float:
        """Return the score of the predictions for X against y, by `scoring`."""
        _raise_for_params(params, self, "score")
        if sample_weight is not None:
            params["sample_weight"] = sample_weight
        if _routing_enabled():
            params = process_routing(self, "score", **params).scorer.score
        return float(_knowing(self._scorer(), self.classes_)(self, X, y, **params))

    def _scorer(self) -> Any:
        return get_scorer("accuracy" if self.scoring is None else self.scoring)

    def _route(self, sample_weight: Array | None, params: dict[str, Any]) -> Any:
        if _routing_enabled():
            return process_routing(self, "fit", sample_weight=sample_weight, **params)
        weights = {} if sample_weight is None else {"sample_weight": sample_weight}
        return Bunch(splitter=Bunch(split={}), scorer=Bunch(score=weights))

    def get_metadata_routing(self) -> Any:
        """Return how metadata are routed, as scikit-learn does."""
        split = MethodMapping().add(caller="fit", callee="split")
        score = MethodMapping().add(caller="fit", callee="score").add(caller="score", callee="score")
        router = MetadataRouter(owner=self).add_self_request(self)
        return router.add(splitter=self.cv, method_mapping=split).add(
            scorer=self._scorer(), method_mapping=score
        )


class _LeftOut(Predictions):
    """A classifier that has scored each of its samples without having seen it."""

    def __init__(self, classes: Array, scores: Array) -> None:
        self.classes_ = classes
        self._scores = scores

    def decision_function(self, X: Matrix) -> Array:
        return self._scores[:, 1] - self._scores[:, 0] if len(self.classes_) == 2 else self._scores


def _model(problem: Problem, part: Problem, theta: Array) -> SoftmaxClassifier:
    """Return the classifier that a fit to some of the samples is, for the classes of all."""
    present = np.isin(problem.classes, part.classes)
    spread = np.zeros(problem.base.shape)
    spread[:, present] = theta
    spread[-1:, ~present] = -np.inf  # only an intercept can be missing: see Problem.take
    model = SoftmaxClassifier()
    model.classes_ = problem.classes
    model.n_features_in_ = problem.data.n_features
    model.coef_, model.intercept_ = problem.coefficients(spread)
    return model


def _knowing(scorer: Any, classes: Array) -> Any:
    """Return a scorer that is told all classes: some samples that it scores may not have them all."""
    accepted = inspect.signature(scorer._score_func).parameters if hasattr(scorer, "_score_func") else {}
    known: dict[str, Any] = {}
    if "labels" in accepted:
        known["labels"] = classes
        if "pos_label" in accepted and len(classes) == 2:
            known["pos_label"] = classes[-1]
    if known:
        scorer = copy.copy(scorer)
        scorer._kwargs = {**known, **scorer._kwargs}
    return scorer
