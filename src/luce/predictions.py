"""What all softmax classifiers share: checked samples in, a solution kept, predictions out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from functools import partial, wraps
from typing import Any

import numpy as np
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from luce.blocks import Samples, applied, in_blocks, is_tensor, on_host
from luce.loss.inputs import Array, Matrix, require_finite
from luce.problem import Problem
from luce.solvers import Solution

_ACCEPTED = {"accept_sparse": "csr", "dtype": [np.float64, np.float32], "ensure_all_finite": False}


def _blockwise(method: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Let a method take samples on disk or on a Dask cluster, of which it sees a block at a time."""

    @wraps(method)
    def run(self: Any, X: Any) -> Any:
        if not in_blocks(X):
            return method(self, X)
        check_is_fitted(self)
        return applied(partial(run, self), X, self.n_features_in_)

    return run


class Predictions(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """The part of a classifier that does not depend on how it was fitted."""

    classes_: Array
    coef_: Array
    intercept_: Array

    @_blockwise
    def decision_function(self, X: Matrix) -> Any:
        """Return the scores: (N, C), or for two classes (N,), positive for the second class.

        Here and below, a tensor as X gives tensors, and a Dask array or data frame a Dask array that is not
        computed yet; a mapped file or a Zarr array is read block by block.
        """
        check_is_fitted(self)
        if is_tensor(X):
            from luce.blocks import tensors

            return tensors.decision_function(self.coef_, self.intercept_, X)
        X = validate_data(self, X, reset=False, **_ACCEPTED)
        require_finite(X)
        scores = np.asarray(X @ on_host(self.coef_).T) + on_host(self.intercept_)
        return scores.ravel() if scores.shape[1] == 1 else scores

    @_blockwise
    def predict(self, X: Matrix) -> Any:
        """Return the most probable class of each sample, (N,)."""
        if is_tensor(X):
            from luce.blocks import tensors

            check_is_fitted(self)
            return tensors.predict(self.coef_, self.intercept_, self.classes_, X)
        scores = self.decision_function(X)
        best = (scores > 0).astype(int) if scores.ndim == 1 else scores.argmax(axis=1)
        return np.asarray(self.classes_[best])

    @_blockwise
    def predict_proba(self, X: Matrix) -> Any:
        """Return the probabilities of the classes, (N, C), ordered as classes_."""
        if is_tensor(X):
            return self.predict_log_proba(X).exp()
        return np.asarray(softmax(self._scores_of_all(X), axis=1))

    @_blockwise
    def predict_log_proba(self, X: Matrix) -> Any:
        """Return the logarithms of the probabilities, (N, C): exact where a probability underflows to 0."""
        if is_tensor(X):
            from luce.blocks import tensors

            return tensors.log_probabilities(self.decision_function(X))
        scores = self._scores_of_all(X)
        rows, best = np.arange(len(scores)), scores.argmax(axis=1)
        scores = scores - scores[rows, best][:, None]
        others = np.exp(scores)
        others[rows, best] = 0.0  # log1p keeps what is left of them beside the best one's 1
        return np.asarray(scores - np.log1p(others.sum(axis=1))[:, None])

    def score(self, X: Matrix, y: Array, sample_weight: Array | None = None) -> float:
        """Return the share of samples whose class is predicted, weighted if there are weights (N,)."""
        if not in_blocks(X):
            return float(super().score(X, y, sample_weight))
        return float(accuracy_score(np.asarray(y), np.asarray(self.predict(X)), sample_weight=sample_weight))

    def _scores_of_all(self, X: Matrix) -> Array:
        scores = self.decision_function(X)
        return np.column_stack([np.zeros_like(scores), scores]) if scores.ndim == 1 else scores

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    def _labelled(self, X: Matrix, y: Array, *, reset: bool) -> tuple[Matrix, Array]:
        """Check samples and labels as scikit-learn does, and say where a NaN is."""
        if isinstance(X, Samples):
            self.n_features_in_ = X.n_features
            if X.feature_names is not None:
                self.feature_names_in_ = X.feature_names
            return X, y
        X, y = validate_data(self, X, y, reset=reset, **_ACCEPTED)
        require_finite(X)
        check_classification_targets(y)
        return X, y

    def _keep(self, problem: Problem, solution: Solution) -> None:
        self.coef_, self.intercept_ = problem.coefficients(solution.theta)
        self.loss_ = float(solution.value)
        self.gap_ = float(solution.gap)
        self.status_ = solution.status
        self.converged_ = solution.status in ("converged", "separable")
        self.history_ = [asdict(progress) for progress in solution.history]
