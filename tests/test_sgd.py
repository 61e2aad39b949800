"""Gradient descent: against a few lines of NumPy, and against the exact fit."""

import gzip
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.model_selection import train_test_split

from luce import SoftmaxClassifier
from luce.errors import InputError
from luce.objective import InMemory, Objective
from luce.solvers import SGD, minimize

FASHION = Path("/usr/share/datasets/fashion-mnist")


def data(seed=0, n=120, d=5, c=3):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d)) + rng.normal(size=d)
    y = (X @ rng.normal(size=(d, c)) + rng.gumbel(size=(n, c))).argmax(axis=1)
    return X, y


def objective_of(X, y, reg=1e-2, *, weight=None, fit_intercept=True):
    return Objective(InMemory(X, y, int(y.max()) + 1, weight), reg, fit_intercept=fit_intercept)


def run(objective, solver, n_epochs=None):
    state = solver.init(objective, np.zeros(objective.shape))
    while not state.ended and state.memory["epochs"] != n_epochs:
        state = solver.step(objective, state)
    return state


def gradient(X, y, W, b, reg):
    Z = X @ W + b
    P = np.exp(Z - Z.max(axis=1, keepdims=True))
    P /= P.sum(axis=1, keepdims=True)
    P[np.arange(len(y)), y] -= 1
    return X.T @ P / len(y) + reg * W, P.mean(axis=0)


RATES = {
    "constant": lambda done: 1.0,
    "cosine": lambda done: (1 + np.cos(np.pi * done)) / 2,
    "inverse": lambda done: 1 / (1 + 9 * done),
}


@pytest.mark.parametrize("schedule", RATES)
@pytest.mark.parametrize("batch_size, momentum", [(None, 0.0), (500, 0.5), (32, 0.0), (32, 0.9), (1, 0.9)])
def test_is_the_loop_that_a_student_would_write(schedule, batch_size, momentum):
    X, y = data()
    reg, learning_rate, epochs = 1e-2, 0.05, 3
    W, b = np.zeros((5, 3)), np.zeros(3)
    dW, db = np.zeros_like(W), np.zeros_like(b)
    rng = np.random.RandomState(7)
    order = rng.permutation(len(y))
    size = min(batch_size or len(y), len(y))
    for epoch in range(epochs):
        shuffled = rng.permutation(order)
        for start in range(0, len(y), size):
            rows = shuffled[start : start + size]
            rate = learning_rate * RATES[schedule]((epoch + start / len(y)) / epochs)
            gW, gb = gradient(X[rows], y[rows], W, b, reg)
            dW, db = momentum * dW - rate * gW, momentum * db - rate * gb
            W, b = W + dW, b + db
    solver = SGD(learning_rate, batch_size, momentum, schedule, epochs, random_state=7)
    state = run(objective_of(X, y, reg), solver)
    assert state.ended
    np.testing.assert_allclose(state.theta, np.vstack([W, b]), rtol=1e-11, atol=1e-13)


def test_one_full_step_is_the_source_texts():
    X, y = data()
    W0 = np.random.default_rng(1).normal(size=(5, 3))
    objective = objective_of(X, y, 0.1, fit_intercept=False)
    solver = SGD(1e-3, batch_size=None, momentum=0.0, epochs=1)
    state = solver.step(objective, solver.init(objective, W0))
    W = W0.copy()
    W += -1e-3 * gradient(X, y, W0, 0.0, 0.1)[0]
    np.testing.assert_allclose(state.theta, W, rtol=1e-13)


def test_history_is_the_loss_and_passes_are_counted():
    objective = objective_of(*data())
    solution = minimize(
        objective, SGD(batch_size=None, epochs=5), np.zeros(objective.shape), tol=0.0, max_iter=100
    )
    assert solution.status == "finished" and solution.n_iter == 5
    losses = [p.loss for p in solution.history]
    assert losses[0] == pytest.approx(np.log(3), rel=1e-14)  # before the first step
    assert all(b < a for a, b in pairwise(losses))
    assert all(b.passes - a.passes == 1 for a, b in pairwise(solution.history[:5]))
    best = SoftmaxClassifier(C=1 / (1e-2 * 120), tol=1e-10).fit(*data())
    assert solution.gap >= solution.value - best.loss_


def test_full_batches_reach_the_optimum():
    X, y = data()
    exact = SoftmaxClassifier(C=1 / (1e-2 * len(y)), tol=1e-12).fit(X, y)
    state = run(objective_of(X, y), SGD(batch_size=None, epochs=2000, schedule="constant"))
    np.testing.assert_allclose(state.theta[:-1].T, exact.coef_, atol=1e-6)


@pytest.mark.parametrize("batch_size", [None, 16])
def test_neither_scale_nor_zero_of_the_features_matters(batch_size):
    X, y = data()
    other = X * np.array([1e-4, 1e-2, 1.0, 30.0, 1e4]) + np.array([1e-4, 0.1, -5.0, 100.0, -3e4])
    solver = SGD(batch_size=batch_size, random_state=0)
    theta, moved = (run(objective_of(x, y, 0.0), solver).theta for x in (X, other))
    scores, others = X @ theta[:-1] + theta[-1], other @ moved[:-1] + moved[-1]
    np.testing.assert_allclose(scores, others, atol=1e-6)


def test_sparse_features_are_as_dense_ones():
    X, y = data()
    X = np.where(X > 0.5, X, 0.0)
    dense, sparse = (run(objective_of(x, y), SGD(random_state=0)).theta for x in (X, sp.csr_array(X)))
    np.testing.assert_allclose(dense, sparse, atol=1e-12)


def test_weights_count_samples():
    X, y = data()
    weight = np.random.default_rng(0).integers(0, 4, len(y)).astype(float)
    rows = np.repeat(np.arange(len(y)), weight.astype(int))
    solver = SGD(0.1, batch_size=None)
    weighted, repeated = (
        run(objective_of(X, y, weight=weight), solver),
        run(objective_of(X[rows], y[rows]), solver),
    )
    np.testing.assert_allclose(weighted.theta, repeated.theta, atol=1e-12)


def test_weights_in_small_batches_are_right_on_average():
    X, y = data()
    weight = np.random.default_rng(0).integers(0, 4, len(y)).astype(float)  # some batches weigh nothing
    objective = objective_of(X, y, weight=weight)
    solver = SGD(1e-6, batch_size=1, momentum=0.0, schedule="constant", epochs=1, random_state=0)
    moved = run(objective, solver).theta
    _, slope = objective.value_and_gradient(np.zeros(objective.shape))
    # steps so small that the gradient does not change
    np.testing.assert_allclose(moved, -1e-6 * len(y) * slope, rtol=1e-3, atol=1e-9)


def test_same_seed_same_bits():
    objective = objective_of(*data())
    one, two = (run(objective, SGD(random_state=3)).theta for _ in range(2))
    assert np.array_equal(one, two)
    assert not np.array_equal(one, run(objective, SGD(random_state=4)).theta)


def test_early_stopping_keeps_the_best_held_out_point():
    X, y = data(n=60, d=30)  # more than enough features to overfit
    solver = SGD(epochs=200, batch_size=4, validation_fraction=0.3, patience=4, random_state=0)
    objective = objective_of(X, y, 0.0)
    state = solver.init(objective, np.zeros(objective.shape))
    rows = np.random.RandomState(0).permutation(len(y))
    held_out = objective.take(rows[:18])
    losses = []
    while not state.ended:
        last = solver.step(objective, state)
        losses.append(held_out.value(last.theta))
        state = last
    losses[-1] = np.inf  # the last epoch was not the best: theta is back at the best already
    assert len(losses) < 200
    assert len(losses) - 1 - int(np.argmin(losses)) == 4
    assert held_out.value(state.theta) == min(losses)


def test_a_stream_is_learned_batch_by_batch():
    X, y = data(n=2000)
    solver = SGD(0.1, batch_size=10, momentum=0.5)
    whole = solver.learn(objective_of(X, y), solver.begin(objective_of(X, y), np.zeros((6, 3))))
    state = solver.begin(objective_of(X[:100], y[:100]), np.zeros((6, 3)))
    for start in range(0, len(y), 100):
        rows = slice(start, start + 100)
        state = solver.learn(objective_of(X[rows], y[rows]), state)
    np.testing.assert_allclose(state.theta, whole.theta, rtol=1e-12)  # momentum goes on between the batches


def test_a_stream_may_begin_with_a_single_sample():
    X, y = load_wine(return_X_y=True)
    X, Xt, y, yt = train_test_split(X, y, random_state=0, stratify=y)
    clf = SoftmaxClassifier()
    for _ in range(5):
        for i in range(len(y)):
            clf.partial_fit(X[i : i + 1], y[i : i + 1], classes=[0, 1, 2])
    assert clf.score(Xt, yt) > 0.9  # raw features, some in the thousands; exact: 0.96


@pytest.mark.parametrize("load", [load_digits, load_wine, load_breast_cancer])
def test_defaults_come_within_a_point_of_the_exact_fit(load):
    X, y = load(return_X_y=True)
    split = train_test_split(X, y, test_size=0.4, random_state=0, stratify=y)
    _near_the_exact_fit(*split, {"C": 1.0})


@pytest.mark.parametrize("scale", [1, 255])
def test_fashion_mnist_within_a_point_of_the_exact_fit(scale):
    if not FASHION.exists():
        pytest.skip(f"{FASHION} is absent")

    def read(name, *shape):
        raw = gzip.decompress((FASHION / f"{name}-ubyte.gz").read_bytes())
        return np.frombuffer(raw, np.uint8, offset=8 if shape == () else 16).reshape(-1, *shape)

    X, Xt = (read(f"{part}-images-idx3", 784).astype(np.float32) / scale for part in ("train", "t10k"))
    y, yt = read("train-labels-idx1"), read("t10k-labels-idx1")
    C = 0.1 * (scale / 255) ** 2  # the same penalty on both scales
    _near_the_exact_fit(X[:10_000], Xt, y[:10_000], yt, {"C": C, "tol": 1e-2})


def _near_the_exact_fit(X, Xt, y, yt, options):
    exact = SoftmaxClassifier(**options).fit(X, y)
    clf = SoftmaxClassifier(solver="sgd", random_state=0, **options).fit(X, y)
    assert clf.score(Xt, yt) >= exact.score(Xt, yt) - 0.01


@pytest.mark.parametrize(
    "wrong",
    [
        {"learning_rate": 0.0},
        {"learning_rate": "fast"},
        {"learning_rate": np.inf},
        {"batch_size": 0},
        {"batch_size": 1.5},
        {"momentum": 1.0},
        {"schedule": "linear"},
        {"epochs": 0},
        {"validation_fraction": 1.0},
        {"patience": 0},
    ],
)
def test_wrong_options_are_named(wrong):
    (name,) = wrong
    with pytest.raises(InputError, match=name):
        SGD(**wrong)


def test_the_absolute_penalty_is_refused():
    with pytest.raises(InputError, match="proximal"):
        SoftmaxClassifier(solver="sgd", l1_ratio=0.5).fit(*data())
