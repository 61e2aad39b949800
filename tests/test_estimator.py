"""SoftmaxClassifier against scikit-learn's LogisticRegression, and in the company that it must keep."""

import copy
import pickle
import time
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse as sp
import sklearn
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine, make_classification
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score, cross_validate
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

import oracles
from luce import SoftmaxClassifier
from luce.errors import InputError

LOADERS = {"digits": load_digits, "wine": load_wine, "breast_cancer": load_breast_cancer, "iris": load_iris}


def noisy(n_classes, n=200, d=6, seed=0):
    """Classes that overlap, so that there is an optimum without a penalty."""
    return make_classification(
        n, d, n_informative=d - 1, n_redundant=0, n_classes=n_classes, n_clusters_per_class=1, flip_y=0.3,
        random_state=seed,
    )  # fmt: skip


def reference(X, y, sample_weight=None, **options):
    options = {"solver": "newton-cholesky", "tol": 1e-12, "max_iter": 1000, **options}
    return LogisticRegression(**options).fit(X, y, sample_weight)


def assert_agree(ours, theirs, X, coefficients=1e-4, probabilities=1e-6):
    """Coefficients relative to the largest of them, intercepts likewise, probabilities absolutely."""
    for a, b in ((ours.coef_, theirs.coef_), (ours.intercept_, theirs.intercept_)):
        assert a.shape == b.shape
        assert np.abs(a - b).max() <= coefficients * np.abs(b).max()
    np.testing.assert_array_equal(ours.classes_, theirs.classes_)
    assert np.abs(ours.predict_proba(X) - theirs.predict_proba(X)).max() <= probabilities


@pytest.mark.filterwarnings(
    "ignore::sklearn.exceptions.ConvergenceWarning"
)  # 1e-13 may be out of proof's reach
@pytest.mark.parametrize("C", [0.01, 1, 100])
@pytest.mark.parametrize("name", LOADERS)
def test_real_data_unscaled(name, C):
    X, y = LOADERS[name](return_X_y=True)
    assert_agree(SoftmaxClassifier(C, tol=1e-13).fit(X, y), reference(X, y, C=C), X)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("solver", ["lbfgs", "newton"])
@pytest.mark.parametrize("name", ["wine", "breast_cancer", "iris"])
def test_each_exact_solver(name, solver):
    X, y = LOADERS[name](return_X_y=True)
    assert_agree(SoftmaxClassifier(solver=solver, tol=1e-13).fit(X, y), reference(X, y), X)


@pytest.mark.parametrize("name", LOADERS)
def test_defaults_converge_on_real_data(name):
    X, y = LOADERS[name](return_X_y=True)
    clf = SoftmaxClassifier().fit(X, y)  # a warning would be an error
    assert clf.converged_ and clf.status_ == "converged" and clf.gap_ <= 1e-4 * clf.loss_
    assert clf.score(X, y) >= reference(X, y).score(X, y) - 0.01


WEIGHTS = np.random.default_rng(0).exponential(size=200)
OPTIONS = {
    "plain": {},
    "no intercept": {"fit_intercept": False},
    "no penalty": {"C": np.inf},
    "no penalty, no intercept": {"C": np.inf, "fit_intercept": False},
    "small C": {"C": 1e-6},
    "large C": {"C": 1e6},
    "balanced": {"class_weight": "balanced"},
    "class weights": {"class_weight": {0: 0.3, 1: 5.0}},
}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("n_classes", [2, 4])
@pytest.mark.parametrize("case", OPTIONS)
def test_options(case, n_classes, weighted):
    X, y = noisy(n_classes)
    weights = WEIGHTS if weighted else None
    ours = SoftmaxClassifier(tol=1e-8, **OPTIONS[case]).fit(X, y, sample_weight=weights)
    assert ours.converged_
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # 1e-13 may be out of proof's reach
        ours.set_params(tol=1e-13).fit(X, y, sample_weight=weights)
    assert_agree(ours, reference(X, y, weights, **OPTIONS[case]), X)


@pytest.mark.parametrize("n_classes", [2, 4])
def test_integer_weights_are_repetitions(n_classes):
    X, y = noisy(n_classes)
    times = np.random.default_rng(1).integers(0, 4, len(y))
    weighted = SoftmaxClassifier(tol=1e-10).fit(X, y, sample_weight=times)
    repeated = SoftmaxClassifier(tol=1e-10).fit(np.repeat(X, times, axis=0), np.repeat(y, times))
    assert_agree(weighted, repeated, X, 1e-6, 1e-7)
    assert weighted.loss_ == pytest.approx(repeated.loss_, rel=1e-9)


def test_class_without_weight_is_no_class():
    X, y = noisy(3)
    clf = SoftmaxClassifier(tol=1e-10).fit(X, y, sample_weight=(y != 1).astype(float))
    assert_agree(clf, SoftmaxClassifier(tol=1e-10).fit(X[y != 1], y[y != 1]), X, 1e-6, 1e-7)
    np.testing.assert_array_equal(clf.classes_, [0, 2])


def containers(X):
    table = pd.DataFrame(X, columns=[f"f{i}" for i in range(X.shape[1])])
    wide = sp.csr_array(X)
    wide.indices, wide.indptr = wide.indices.astype(np.int64), wide.indptr.astype(np.int64)
    readonly = X.copy()
    readonly.setflags(write=False)
    return {
        "csr array": sp.csr_array(X), "csr matrix": sp.csr_matrix(X), "csc": sp.csc_array(X),
        "coo": sp.coo_array(X), "csr int64": wide, "F order": np.asfortranarray(X), "read-only": readonly,
        "strided": np.repeat(X, 2, axis=1)[:, ::2], "list": X.tolist(), "pandas": table,
        "polars": pl.DataFrame(table.to_dict("list")),
    }  # fmt: skip


@pytest.mark.parametrize("kind", containers(np.zeros((2, 2))))
@pytest.mark.parametrize("n_classes", [2, 3])
def test_containers(kind, n_classes):
    X, y = noisy(n_classes)
    X[np.abs(X) < 0.5] = 0
    plain = SoftmaxClassifier(tol=1e-10).fit(X, y)
    held = containers(X)[kind]
    other = SoftmaxClassifier(tol=1e-10).fit(held, y)
    np.testing.assert_allclose(other.coef_, plain.coef_, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(other.predict_proba(held), plain.predict_proba(X), atol=1e-7)
    np.testing.assert_array_equal(other.predict(held), plain.predict(X))
    if kind in ("pandas", "polars"):
        assert list(other.feature_names_in_) == list(held.columns)


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_float32_stays_float32(n_classes, sparse):
    X, y = noisy(n_classes)
    X = X.astype(np.float32)
    clf = SoftmaxClassifier(tol=1e-6).fit(sp.csr_array(X) if sparse else X, y)
    assert clf.coef_.dtype == clf.intercept_.dtype == clf.predict_proba(X).dtype == np.float32
    assert_agree(clf, reference(X.astype(float), y), X.astype(float), 2e-3, 1e-3)


@pytest.mark.parametrize(
    "labels",
    [
        np.array(["ant", "bee", "cat"]),
        np.array(["ant", "bee", "cat"], dtype=object),
        np.array([-5, 0, 7], dtype=np.int8),
        np.array([10**12, 10**12 + 1, 10**12 + 2]),
        np.array([1.0, 2.0, 3.0]),
    ],
    ids=["text", "objects", "int8", "large", "floats"],
)
@pytest.mark.parametrize("n_classes", [2, 3])
def test_labels(labels, n_classes):
    X, y = noisy(n_classes)
    clf = SoftmaxClassifier().fit(X, labels[y])
    np.testing.assert_array_equal(clf.classes_, labels[:n_classes])
    assert clf.classes_.dtype == clf.predict(X).dtype == labels.dtype
    np.testing.assert_array_equal(clf.predict(X), labels[SoftmaxClassifier().fit(X, y).predict(X)])


def test_labels_of_two_values_and_tables():
    X, y = noisy(2)
    plain = SoftmaxClassifier().fit(X, y)
    for labels in (y.astype(bool), pd.Series(y), pd.Series(y).astype("category"), pl.Series(y), y.tolist()):
        np.testing.assert_array_equal(SoftmaxClassifier().fit(X, labels).coef_, plain.coef_)


def with_scores(scores):
    """A classifier whose scores are these, for the one sample [1]."""
    clf = SoftmaxClassifier().fit([[0.0], [1.0], [2.0]], np.arange(3))
    clf.coef_, clf.intercept_ = np.array(scores, dtype=float)[:, None], np.zeros(len(scores))
    return clf


@pytest.mark.parametrize("size", [1.0, 30.0, 1e3, 1e4, 1e15, 1e30, 1e300])
@pytest.mark.parametrize("pattern", [(0, -1, 1), (1, 1, 0), (0, 0, 0), (-1, -1, -3), (3, 2, -2)])
def test_log_probabilities_at_extreme_scores(pattern, size):
    scores = np.array(pattern) * size
    clf = with_scores(scores)
    true = oracles.log_softmax(oracles.EXACT.array(scores[None]), oracles.EXACT).astype(float)
    np.testing.assert_allclose(clf.predict_log_proba([[1.0]]), true, rtol=1e-14, atol=1e-15)
    np.testing.assert_allclose(clf.predict_proba([[1.0]]), np.exp(true), rtol=1e-13, atol=1e-300)
    assert clf.predict_proba([[1.0]]).sum() == pytest.approx(1, abs=1e-15)


@pytest.mark.parametrize("score", [0.0, 1.0, -40.0, 1e4, -1e30, 1e300])
def test_log_probabilities_of_two_classes(score):
    clf = SoftmaxClassifier().fit([[0.0], [1.0]], [0, 1])
    clf.coef_, clf.intercept_ = np.array([[score]]), np.zeros(1)
    true = oracles.log_softmax(oracles.EXACT.array([[0, score]]), oracles.EXACT).astype(float)
    np.testing.assert_allclose(clf.predict_log_proba([[1.0]]), true, rtol=1e-14, atol=1e-15)
    np.testing.assert_allclose(clf.predict_proba([[1.0]]), np.exp(true), rtol=1e-13, atol=1e-300)
    assert clf.decision_function([[1.0]]).shape == (1,)


def test_pipeline_search_and_calibration():
    X, y = load_iris(return_X_y=True)
    pipe = Pipeline([("scale", StandardScaler()), ("clf", SoftmaxClassifier())]).fit(X, y)
    assert pipe.score(X, y) > 0.95
    search = GridSearchCV(pipe, {"clf__C": [0.01, 1, 100], "clf__fit_intercept": [True, False]}, cv=3).fit(
        X, y
    )
    assert search.best_score_ > 0.95
    assert cross_val_score(SoftmaxClassifier(), X, y, cv=3, scoring="neg_log_loss").min() > -0.3
    for method in ("sigmoid", "isotonic"):
        calibrated = CalibratedClassifierCV(SoftmaxClassifier(), method=method, cv=3).fit(X, y)
        np.testing.assert_allclose(calibrated.predict_proba(X).sum(axis=1), 1)


def test_metadata_routing():
    X, y = noisy(3)
    with sklearn.config_context(enable_metadata_routing=True):
        clf = SoftmaxClassifier().set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        scaler = StandardScaler().set_fit_request(sample_weight=False)
        routed = make_pipeline(scaler, clf).fit(X, y, sample_weight=WEIGHTS)
        scores = cross_validate(clf, X, y, params={"sample_weight": WEIGHTS}, cv=3)
    direct = SoftmaxClassifier().fit(StandardScaler().fit_transform(X), y, sample_weight=WEIGHTS)
    np.testing.assert_allclose(routed[-1].coef_, direct.coef_, rtol=1e-9)
    assert len(scores["test_score"]) == 3


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_set_output(library):
    X, y = noisy(3)
    pipe = make_pipeline(StandardScaler(), SoftmaxClassifier()).set_output(transform=library)
    pipe.fit(X, y)
    assert list(pipe[-1].feature_names_in_) == [f"x{i}" for i in range(6)]
    np.testing.assert_array_equal(pipe.predict(X), pipe[-1].predict(pipe[:-1].transform(X)))


def test_representations():
    clf = SoftmaxClassifier(C=3.0)
    assert repr(clf) == "SoftmaxClassifier(C=3.0)"
    assert "SoftmaxClassifier" in clf._repr_html_()
    assert "SoftmaxClassifier" in clf.fit(*noisy(3))._repr_html_()


def test_clone_pickle_and_copy():
    X, y = noisy(3)
    clf = SoftmaxClassifier(C=0.3, tol=1e-6, callbacks=(print,)).set_params(callbacks=()).fit(X, y)
    bare = clone(clf)
    assert bare.get_params() == clf.get_params()
    with pytest.raises(NotFittedError):
        bare.predict(X)
    for again in (pickle.loads(pickle.dumps(clf)), copy.deepcopy(clf)):
        np.testing.assert_array_equal(again.predict_proba(X), clf.predict_proba(X))
        assert (again.gap_, again.loss_, again.status_) == (clf.gap_, clf.loss_, clf.status_)


def test_a_fit_leaves_its_inputs_and_parameters_alone():
    X, y = noisy(3)
    kept = X.copy(), y.copy(), WEIGHTS.copy()
    class_weight = {0: 2.0}
    clf = SoftmaxClassifier(class_weight=class_weight)
    before = clf.get_params()
    clf.fit(X, y, sample_weight=WEIGHTS)
    for a, b in zip(kept, (X, y, WEIGHTS), strict=True):
        np.testing.assert_array_equal(a, b)
    assert clf.get_params() == before and class_weight == {0: 2.0}


def test_same_bits_again():
    X, y = load_digits(return_X_y=True)
    first, second = (SoftmaxClassifier(n_threads=2).fit(X, y) for _ in range(2))
    np.testing.assert_array_equal(first.coef_, second.coef_)
    assert first.gap_ == second.gap_


@pytest.mark.parametrize("n_classes", [2, 4])
def test_warm_start(n_classes):
    X, y = noisy(n_classes)
    clf = SoftmaxClassifier(tol=1e-8, warm_start=True).fit(X, y)
    cold = clf.n_iter_[0]
    loss = clf.loss_
    clf.fit(X, y)
    assert clf.n_iter_[0] <= 1 < cold
    assert clf.loss_ <= loss * (1 + 1e-12)
    clf.set_params(C=10.0).fit(X, y)
    assert_agree(clf, SoftmaxClassifier(10.0, tol=1e-8).fit(X, y), X, 1e-3, 1e-4)
    clf.fit(X[:, :4], y)  # another number of features starts anew
    assert clf.coef_.shape[1] == 4
    clf.fit(X[:, :4], np.array(list("abcd"))[y])  # and so do other classes
    assert clf.converged_


def test_callbacks_follow_and_end_a_fit():
    X, y = load_digits(return_X_y=True)
    seen = []
    clf = SoftmaxClassifier(tol=1e-8, callbacks=[seen.append]).fit(X, y)
    assert [p.iteration for p in seen] == sorted(p.iteration for p in seen)
    assert seen[-1].loss == clf.loss_ and seen[-1].gap == clf.gap_ and seen[-1].certified
    assert len(clf.history_) == len(seen) and clf.history_[-1]["gap"] == clf.gap_

    with pytest.warns(ConvergenceWarning, match="callback"):
        clf = SoftmaxClassifier(tol=1e-8, callbacks=[lambda p: p.iteration >= 2]).fit(X, y)
    assert clf.status_ == "stopped" and not clf.converged_ and clf.n_iter_[0] == 2
    assert clf.gap_ > 1e-8 * clf.loss_

    def fails(progress):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        SoftmaxClassifier(callbacks=[fails]).fit(X, y)


@pytest.mark.parametrize("solver", ["auto", "lbfgs", "newton"])
def test_one_iteration_warns_with_advice(solver):
    X, y = load_digits(return_X_y=True)
    with pytest.warns(ConvergenceWarning, match="raise max_iter"):
        clf = SoftmaxClassifier(solver=solver, max_iter=1).fit(X, y)
    assert not clf.converged_ and clf.status_ == "max_iter" and clf.n_iter_[0] == 1
    assert np.isfinite(clf.gap_) and clf.gap_ > 1e-4 * clf.loss_


@pytest.mark.parametrize("solver", ["auto", "lbfgs"])
@pytest.mark.parametrize("name", ["wine", "iris", "digits"])
def test_separable_without_penalty(name, solver):
    X, y = LOADERS[name](return_X_y=True)
    if name == "iris":
        X, y = X[y < 2], y[y < 2]
    start = time.perf_counter()
    with pytest.warns(ConvergenceWarning, match=r"separable.*finite C"):
        clf = SoftmaxClassifier(C=np.inf, solver=solver).fit(X, y)
    assert clf.status_ == "separable" and clf.score(X, y) == 1
    assert np.isfinite(clf.coef_).all()
    assert time.perf_counter() - start < 20


@pytest.mark.parametrize("solver", ["auto", "lbfgs"])
def test_almost_no_penalty_on_separable_data(solver):
    """C = 1e10 is how many people say "no penalty": it ends, and says what it knows.

    The objective is 3.5e-10 there, so that rounding alone is about 1e-4 of it.
    """
    X, y = load_iris(return_X_y=True)
    X, y = X[y < 2], y[y < 2]
    clf = SoftmaxClassifier(C=1e10, solver=solver, tol=1e-3).fit(X, y)
    assert clf.converged_ and clf.score(X, y) == 1


def test_redundant_features_without_penalty():
    """One column per category and an intercept: the optimum is a flat of points, all of them fine.

    Nothing can be proven in floating point on a flat, and the fit says so.
    """
    rng = np.random.default_rng(0)
    X = np.eye(4)[rng.integers(0, 4, 300)]
    y = rng.integers(0, 3, 300)
    with pytest.warns(ConvergenceWarning, match="finite C"):
        clf = SoftmaxClassifier(C=np.inf).fit(X, y)
    counts = np.array([[np.mean(y[X[:, j] == 1] == k) for k in range(3)] for j in range(4)])
    np.testing.assert_allclose(clf.predict_proba(np.eye(4)), counts, atol=1e-2)


X0, Y0 = noisy(3)


def broken(row, column, value):
    X = X0.copy()
    X[row, column] = value
    return X


REFUSED_DATA = {
    "NaN": (broken(7, 2, np.nan), Y0, r"NaN"),
    "inf": (broken(7, 2, np.inf), Y0, r"inf"),
    "one class": (X0, np.zeros(200, int), r"one class"),
    "one class text": (X0, np.full(200, "a"), r"one class.*'a'"),
    "labels NaN": (X0, np.where(Y0 == 0, np.nan, Y0), r"NaN"),
    "labels continuous": (X0, X0[:, 0], r"(?i)continuous"),
    "labels two columns": (X0, np.column_stack([Y0, Y0]), r"\(200, 2\)"),
    "too few labels": (X0, Y0[:5], r"\[200, 5\]"),
    "1-D": (X0[:, 0], Y0, r"2D array"),
    "3-D": (X0[None], Y0, r"dim"),
    "no rows": (X0[:0], Y0[:0], r"0 sample"),
    "no columns": (X0[:, :0], Y0, r"0 feature"),
    "complex": (X0 * 1j, Y0, r"(?i)complex"),
    "text": (np.full((200, 2), "a"), Y0, r"could not convert string"),
    "no labels": (X0, None, r"y"),
}


@pytest.mark.parametrize("case", REFUSED_DATA)
def test_refused_data(case):
    X, y, message = REFUSED_DATA[case]
    with pytest.raises(ValueError, match=message):
        SoftmaxClassifier().fit(X, y)


@pytest.mark.parametrize("kind", ["dense", "sparse"])
@pytest.mark.parametrize(("value", "word"), [(np.nan, "NaN"), (np.inf, "inf"), (-np.inf, "-inf")])
def test_where_a_value_is_not_finite(value, word, kind):
    X = broken(7, 2, value)
    clf = SoftmaxClassifier().fit(X0, Y0)
    for act in (lambda X: SoftmaxClassifier().fit(X, Y0), clf.predict):
        with pytest.raises(ValueError, match=rf"\b7\b.*\b2\b.*{word}|{word}.*\b7\b.*\b2\b"):
            act(sp.csr_array(X) if kind == "sparse" else X)


REFUSED_PARAMETERS = {
    "C": (0, -1.0, np.nan, "1", None, [1.0]),
    "l1_ratio": (-0.1, 1.1, np.nan, "0.5", None),
    "tol": (-1e-3, np.nan, np.inf, "1e-4", None),
    "max_iter": (-1, 1.5, np.nan, np.inf, "100", None),
    "n_threads": (0, -1, 1.5, "2"),
    "solver": ("liblinear", "", None, 3, object()),
    "class_weight": ("unbalanced", 3, {"zebra": 1.0}, {0: -1.0}, {0: np.nan}, {0: "a"}),
    "fit_intercept": ("yes", None),
    "callbacks": (3, [3]),
    "verbose": ("a",),
    "random_state": ("a",),
    "warm_start": ("maybe",),
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in REFUSED_PARAMETERS.items() for value in values]
)
def test_refused_parameters(name, value):
    with pytest.raises(InputError, match=name):
        SoftmaxClassifier(**{name: value}).fit(X0, Y0)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.ones(5), r"\(5,\).*\(200,\)"),
        (np.ones((200, 1)), r"\(200, 1\)"),
        (-np.ones(200), r"sample_weight\[0\] = -1"),
        (np.full(200, np.nan), r"sample_weight\[0\] = nan"),
        (np.zeros(200), r"zero"),
        (np.where(Y0 == 1, 1.0, 0.0), r"one class"),
        (np.full(200, "a"), r"sample_weight"),
    ],
)
def test_refused_weights(weights, message):
    with pytest.raises(InputError, match=message):
        SoftmaxClassifier().fit(X0, Y0, sample_weight=weights)


def test_other_columns_at_predict_time():
    table = pd.DataFrame(X0, columns=list("abcdef"))
    clf = SoftmaxClassifier().fit(table, Y0)
    with pytest.raises(ValueError, match="6 features"):
        SoftmaxClassifier().fit(X0, Y0).predict(X0[:, :5])
    with pytest.raises(ValueError, match="feature names"):
        clf.predict(table.rename(columns={"a": "z"}))


def test_weights_of_any_size():
    """Only the weights' ratios matter where there is no penalty; with one, C makes up for their size."""
    X, y = noisy(3)
    plain = SoftmaxClassifier(tol=1e-9).fit(X, y, sample_weight=WEIGHTS)
    for size in (1e-150, 1e150):
        scaled = SoftmaxClassifier(C=1 / size, tol=1e-9).fit(X, y, sample_weight=WEIGHTS * size)
        assert_agree(scaled, plain, X, 1e-5, 1e-5)


def test_features_of_any_size():
    """A change of a feature's unit changes nothing where there is no penalty."""
    X, y = noisy(3)
    units = 10.0 ** np.array([-8, -3, 0, 3, 6, 8])
    plain = SoftmaxClassifier(C=np.inf, tol=1e-9).fit(X, y)
    scaled = SoftmaxClassifier(C=np.inf, tol=1e-9).fit(X * units, y)
    np.testing.assert_allclose(scaled.coef_ * units, plain.coef_, rtol=1e-3, atol=1e-4)
    assert scaled.converged_


@pytest.mark.parametrize("shift", [1e3, 1e5, 1e7])
def test_features_far_from_zero(shift):
    """A year, a time stamp: a feature whose mean is far larger than its spread."""
    X, y = noisy(3)
    X[:, 0] += shift
    clf = SoftmaxClassifier().fit(X, y)
    assert clf.converged_


@pytest.mark.parametrize("tol", [1e-2, 1e-3, 1e-4])
def test_a_looser_tolerance_is_never_harder(tol):
    """Features of the order of 1e5 and no two samples alike: what is proven to 1e-4 is proven to 1e-2."""
    rng = np.random.default_rng(0)
    for _ in range(10):
        X = rng.standard_normal((5, 5)) * 10.0 ** rng.uniform(-3, 6, 5)
        clf = SoftmaxClassifier(tol=tol, fit_intercept=bool(rng.integers(2))).fit(X, [0, 1, 2, 3, 0])
        assert clf.converged_
