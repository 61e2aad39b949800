"""The absolute penalty: against scikit-learn, the optimality conditions and the true gap."""

from itertools import pairwise

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from luce import SoftmaxClassifier
from luce.objective import InMemory, Objective
from luce.solvers import Proximal, minimize
from luce.solvers.certificate import certify

LOADERS = {"digits": load_digits, "iris": load_iris, "wine": load_wine, "breast_cancer": load_breast_cancer}


def load(name, *, scaled=False):
    X, y = LOADERS[name](return_X_y=True)
    return (StandardScaler().fit_transform(X) if scaled else np.ascontiguousarray(X)), y


def objective_of(X, y, l1, reg, *, weight=None, fit_intercept=True):
    data = InMemory(X, y, int(y.max()) + 1, weight)
    return Objective(data, reg, l1=l1, fit_intercept=fit_intercept)


def fit(objective, tol=1e-8, max_iter=100, theta=None):
    start = np.zeros(objective.shape) if theta is None else theta
    return minimize(objective, Proximal(), start, tol=tol, max_iter=max_iter)


def smooth_gradient(X, y, theta, reg):
    """The gradient of the mean loss and the squared penalty, in plain NumPy; theta has an intercept."""
    X1 = np.hstack([X, np.ones((len(X), 1))])
    Z = X1 @ theta
    P = np.exp(Z - Z.max(axis=1, keepdims=True))
    P /= P.sum(axis=1, keepdims=True)
    P[np.arange(len(y)), y] -= 1
    G = X1.T @ P / len(X)
    G[:-1] += reg * theta[:-1]
    return G


@pytest.mark.parametrize("l1_ratio", [1.0, 0.7])
@pytest.mark.parametrize("name, C", [("iris", 1.0), ("wine", 0.3), ("digits", 0.05)])
def test_agrees_with_saga(name, C, l1_ratio):
    X, y = load(name, scaled=True)
    X, y = X[:500], y[:500]
    saga = LogisticRegression(
        C=C, l1_ratio=l1_ratio, solver="saga", tol=1e-10, max_iter=100_000, random_state=0
    ).fit(X, y)
    strength = 1 / (C * len(y))
    solution = fit(objective_of(X, y, l1_ratio * strength, (1 - l1_ratio) * strength), tol=1e-10)
    assert solution.status in ("converged", "stalled") and solution.gap <= 1e-9 * solution.value
    W = solution.theta[:-1].T
    np.testing.assert_allclose(W, saga.coef_, rtol=0, atol=1e-4 * np.abs(W).max())
    assert np.array_equal(W != 0, np.abs(saga.coef_) > 1e-8)
    b = solution.theta[-1] - solution.theta[-1].mean()
    np.testing.assert_allclose(b, saga.intercept_ - saga.intercept_.mean(), rtol=0, atol=1e-4)


@pytest.mark.parametrize("l1, reg", [(1e-2, 1e-3), (1e-3, 1e-5), (1e-3, 0.0), (1e-4, 0.0)])
@pytest.mark.parametrize("name", ["wine", "breast_cancer", "digits"])
def test_raw_features(name, l1, reg):
    X, y = load(name)
    solution = fit(objective_of(X, y, l1, reg), tol=1e-6)
    assert solution.status == "converged"
    theta = solution.theta
    # a relative gap of 1e-6 leaves slopes of sqrt(2 gap curvature); the features' own scale is the curvature
    G = smooth_gradient(X, y, theta, reg)
    slack = np.sqrt(2 * solution.gap) * np.sqrt(np.square(X).mean(axis=0) / 2 + reg)[:, None]
    W = theta[:-1]
    off = np.where(W == 0, np.maximum(np.abs(G[:-1]) - l1, 0), np.abs(G[:-1] + l1 * np.sign(W)))
    assert (off <= slack + 1e-12).all()
    assert 0 < np.count_nonzero(W) < 0.7 * W.size


@pytest.mark.parametrize("l1, reg", [(1e-2, 1e-3), (1e-3, 0.0)])
@pytest.mark.parametrize("name", ["wine", "digits"])
def test_certificate_is_above_the_true_gap_and_near_it(name, l1, reg):
    X, y = load(name)
    objective = objective_of(X, y, l1, reg)
    best = fit(objective, tol=1e-10)
    solver = Proximal()
    state = solver.init(objective, np.zeros(objective.shape))
    ratios = []
    for _ in range(30):
        certificate = certify(objective, state.theta, state.direction)
        true = certificate.value - (best.value - best.gap)  # at least the true gap
        assert certificate.gap >= certificate.value - best.value
        assert abs(state.value - certificate.value) <= 1e-12
        if true < 1e-3 * best.value and certificate.value - best.value > 100 * best.gap:
            ratios.append(certificate.gap / true)
        if state.gap < 1e-8 * state.value:
            break
        state = solver.step(objective, state)
    assert ratios
    if reg > 0:  # without a squared penalty the bound is of first order in what the model's minimum leaves
        assert min(ratios) < 1.5


def test_each_step_descends():
    objective = objective_of(*load("wine"), 1e-3, 1e-4)
    seen = []
    minimize(
        objective, Proximal(), np.zeros(objective.shape), tol=1e-8, max_iter=100, callbacks=[seen.append]
    )
    values = [p.loss for p in seen]
    assert all(b <= a * (1 + 1e-14) for a, b in pairwise(values))


@pytest.mark.parametrize("reg", [0.0, 0.1])
def test_a_strong_penalty_leaves_the_class_frequencies_alone(reg):
    X, y = load("iris")
    objective = objective_of(X, y, 10.0, reg)
    solution = fit(objective)
    assert solution.status == "converged"
    assert (solution.theta[:-1] == 0).all()
    np.testing.assert_allclose(np.exp(solution.theta[-1]) / np.exp(solution.theta[-1]).sum(), 1 / 3)


def test_sparse_features_are_as_dense_ones():
    rng = np.random.default_rng(0)
    X = sp.random_array((300, 2000), density=0.02, rng=rng, format="csr")
    y = np.asarray((X[:, :40] @ rng.normal(size=(40, 5))).argmax(axis=1))
    sparse, dense = (fit(objective_of(x, y, 2e-4, 1e-5), tol=1e-9) for x in (sp.csr_array(X), X.toarray()))
    assert sparse.status == dense.status == "converged"
    np.testing.assert_allclose(sparse.theta, dense.theta, atol=1e-3 * np.abs(dense.theta).max())
    assert np.count_nonzero(sparse.theta) < 0.1 * sparse.theta.size


def test_text_with_many_features_and_classes():
    rng = np.random.default_rng(0)
    N, D, C = 300, 20_000, 20
    y = rng.integers(0, C, N)
    topic = rng.integers(0, D, (C, 50))
    columns = np.concatenate(
        [rng.integers(0, D, (N, 30)), np.array([rng.choice(topic[k], 6) for k in y])], axis=1
    )
    X = sp.csr_array((np.ones(N * 36), (np.repeat(np.arange(N), 36), columns.ravel())), shape=(N, D))
    solution = fit(objective_of(X, y, 2e-3, 1e-4), tol=1e-3)
    assert solution.status == "converged"
    assert (np.asarray(X @ solution.theta[:-1] + solution.theta[-1]).argmax(axis=1) == y).mean() > 0.9


def test_without_intercept():
    X, y = load("iris", scaled=True)
    C = 0.5
    saga = LogisticRegression(
        C=C, l1_ratio=1.0, solver="saga", tol=1e-10, max_iter=100_000, fit_intercept=False, random_state=0
    ).fit(X, y)
    solution = fit(objective_of(X, y, 1 / (C * len(y)), 0.0, fit_intercept=False))
    np.testing.assert_allclose(solution.theta.T, saga.coef_, atol=1e-4 * np.abs(saga.coef_).max())


def test_weights_count_samples():
    X, y = load("wine", scaled=True)
    weight = np.random.default_rng(0).integers(0, 4, len(y)).astype(float)
    repeated = np.repeat(np.arange(len(y)), weight.astype(int))
    weighted = fit(objective_of(X, y, 1e-2, 1e-3, weight=weight), tol=1e-10)
    plain = fit(objective_of(X[repeated], y[repeated], 1e-2, 1e-3), tol=1e-10)
    # strongly convex in the weights: ||W - W*||^2 <= 2 gap / reg
    np.testing.assert_allclose(
        weighted.theta[:-1], plain.theta[:-1], atol=2 * np.sqrt(2 * 1e-10 * plain.value / 1e-3)
    )


def test_starts_from_where_it_is_told():
    objective = objective_of(*load("digits"), 1e-3, 1e-4)
    first = fit(objective, tol=1e-8)
    again = fit(objective, tol=1e-6, theta=first.theta)
    assert again.n_iter <= 1 and again.status == "converged"


@pytest.mark.parametrize("l1, reg, tol", [(1e-2, 1e-3, 1e-9), (1e-3, 0.0, 1e-6)])
def test_single_precision_is_polished_in_double(l1, reg, tol):
    X, y = load("digits")
    solution = fit(objective_of(X.astype(np.float32), y, l1, reg), tol=tol)
    assert solution.status == "converged" and solution.n_iter < 50


@pytest.mark.parametrize("C, l1_ratio", [(0.1, 0.5), (0.1, 1.0)])
def test_two_classes_are_one_vector(C, l1_ratio):
    X, y = load("breast_cancer", scaled=True)
    saga = LogisticRegression(
        C=C, l1_ratio=l1_ratio, solver="saga", tol=1e-8, max_iter=100_000, random_state=0
    ).fit(X, y)
    clf = SoftmaxClassifier(C=C, l1_ratio=l1_ratio, tol=1e-9).fit(X, y)
    assert clf.coef_.shape == (1, 30)
    np.testing.assert_allclose(clf.coef_, saga.coef_, rtol=0, atol=1e-4 * np.abs(saga.coef_).max())


def test_no_absolute_penalty_is_plain_newton():
    X, y = load("iris", scaled=True)
    ridge = LogisticRegression(C=1.0, tol=1e-10, max_iter=10_000).fit(X, y)
    solution = fit(objective_of(X, y, 0.0, 1 / len(y)), tol=1e-12)
    np.testing.assert_allclose(solution.theta[:-1].T, ridge.coef_, atol=1e-4 * np.abs(ridge.coef_).max())
