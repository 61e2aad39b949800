"""The path along C, cross-validation on shared work, and approximate leave-one-out."""

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.special import log_softmax
from sklearn import config_context
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegressionCV
from sklearn.metrics import get_scorer
from sklearn.model_selection import GroupKFold, KFold, LeaveOneGroupOut, ShuffleSplit
from sklearn.preprocessing import StandardScaler, scale
from sklearn.utils.estimator_checks import parametrize_with_checks

from luce import SoftmaxClassifier, SoftmaxClassifierCV, softmax_path
from luce.errors import InputError
from luce.path import loo
from luce.problem import Problem
from luce.solvers import LBFGS, Newton, minimize


def mixture(n_samples=400, n_features=30, n_classes=5, seed=0):
    """Overlapping classes on features of decaying scale, with labels that make up words."""
    rng = np.random.default_rng(seed)
    spread = np.arange(1, n_features + 1) ** -0.7
    y = rng.integers(n_classes, size=n_samples)
    X = (
        rng.normal(size=(n_classes, n_features))[y] + 1.5 * rng.normal(size=(n_samples, n_features))
    ) * spread
    return X, np.array([f"class {k}" for k in range(n_classes)])[y]


DINO = 10 ** np.linspace(-6, 5, 45)


@pytest.mark.parametrize("solver", ["newton", "lbfgs"])
@pytest.mark.parametrize("n_classes", [2, 5])
def test_every_point_is_as_near_its_optimum_as_it_says(solver, n_classes):
    X, y = mixture(n_classes=n_classes)
    path = softmax_path(X, y, DINO[::4], solver=solver)
    assert path.coefs.shape == (12, 1 if n_classes == 2 else n_classes, 30)
    assert (path.gaps <= 1e-4 * path.losses).all()
    for i, C in enumerate(path.Cs):
        best = SoftmaxClassifier(C, tol=1e-9).fit(X, y)
        above = path.losses[i] - best.loss_
        assert -1e-9 * best.loss_ <= above <= path.gaps[i] * (1 + 1e-6) + 1e-9 * best.loss_


def test_the_grid_keeps_its_order():
    X, y = mixture()
    Cs = [1.0, 0.01, 1.0, 10.0]
    path, ascending = softmax_path(X, y, Cs), softmax_path(X, y, [0.01, 1.0, 10.0])
    np.testing.assert_array_equal(path.Cs, Cs)
    np.testing.assert_array_equal(path.coefs, ascending.coefs[[1, 0, 1, 2]])
    assert list(path.frame()) == ["C", "loss", "gap", "norm", "n_iter", "passes", "seconds", "status"]
    np.testing.assert_array_equal(path.frame()["C"], Cs)
    np.testing.assert_allclose(softmax_path(X, y, 3).Cs, [1e-4, 1, 1e4])


def test_the_path_is_cheaper_than_its_points():
    X, y = load_digits(return_X_y=True)
    X, y = X[::2] / 16, y[::2]
    path = softmax_path(X, y, DINO, solver="lbfgs")
    cold = [softmax_path(X, y, [C], solver="lbfgs").passes[0] for C in DINO[::4]]
    assert (path.gaps <= 1e-4 * path.losses).all()
    assert path.passes.sum() < 0.6 * 4 * sum(cold)


@pytest.mark.parametrize(
    "options",
    [
        {"l1_ratio": 0.5},
        {"fit_intercept": False},
        {"class_weight": "balanced"},
        {"sample_weight": np.arange(400) % 3},
    ],
    ids=lambda options: next(iter(options)),
)
@pytest.mark.parametrize("make", [np.asarray, np.float32, sp.csr_array], ids=["float64", "float32", "sparse"])
def test_points_equal_single_fits(make, options):
    X, y = mixture()
    X, options = make(X), dict(options)
    weight = options.pop("sample_weight", None)
    path = softmax_path(X, y, [0.01, 0.1, 1], tol=1e-6, sample_weight=weight, **options)
    for coef, intercept, C in zip(path.coefs, path.intercepts, path.Cs, strict=True):
        single = SoftmaxClassifier(C, tol=1e-6, **options).fit(X, y, sample_weight=weight)
        # the objective is within 1e-6 of its optimum, the coefficients within about its root
        np.testing.assert_allclose(coef, single.coef_, atol=3e-3 * np.abs(single.coef_).max())
        np.testing.assert_allclose(intercept, single.intercept_, atol=3e-3 * (1 + np.abs(single.coef_).max()))
        assert coef.dtype == X.dtype


def test_no_penalty_at_the_end_of_the_path():
    X, y = mixture(2000, 5, 3)
    path = softmax_path(X, y, [1, np.inf], tol=1e-6)
    assert path.statuses == ["converged", "converged"]
    assert path.losses[1] < path.losses[0]


def test_an_unfinished_path_warns_once():
    X, y = mixture()
    with pytest.warns(ConvergenceWarning, match="of 2 fits are not proven") as record:
        path = softmax_path(X, y, [1, 1e4], max_iter=1, tol=1e-8, solver="lbfgs")
    assert len(record) == 1
    assert "max_iter" in path.statuses


@pytest.mark.parametrize("Cs", [0, 2.5, True, [], [[1.0]], [1.0, 0.0], [1.0, np.nan], "many", None])
@pytest.mark.parametrize("fit", [softmax_path, lambda X, y, Cs: SoftmaxClassifierCV(Cs).fit(X, y)])
def test_grids_that_cannot_be(fit, Cs):
    with pytest.raises(InputError, match="Cs"):
        fit(*mixture(), Cs)


def test_a_nan_is_named():
    X, y = mixture()
    X[7, 3] = np.nan
    with pytest.raises(InputError, match=r"X\[7, 3\]"):
        softmax_path(X, y)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@parametrize_with_checks([SoftmaxClassifierCV(3, cv=3)])
def test_sklearn_check(estimator, check):
    check(estimator)


@pytest.mark.parametrize("scoring", [None, "neg_log_loss", "roc_auc_ovr"])
@pytest.mark.parametrize("data", [load_iris, load_breast_cancer], ids=["three classes", "two classes"])
def test_picks_as_scikit_learn_does(data, scoring):
    X, y = data(return_X_y=True)
    X, weight = scale(X), np.random.default_rng(0).uniform(0.5, 2, len(y))
    Cs = [1e-3, 0.1, 10.0]
    options = {"cv": KFold(4, shuffle=True, random_state=0), "scoring": scoring, "class_weight": "balanced"}
    ours = SoftmaxClassifierCV(Cs, tol=1e-8, **options).fit(X, y, sample_weight=weight)
    theirs = LogisticRegressionCV(
        Cs=Cs, l1_ratios=(0,), use_legacy_attributes=False, tol=1e-9, max_iter=5000, **options
    ).fit(X, y, sample_weight=weight)
    np.testing.assert_allclose(ours.scores_, theirs.scores_[:, 0], atol=1e-4)
    assert ours.C_ == theirs.C_
    # tol=1e-8 of the objective leaves about 1e-4 of the coefficients
    np.testing.assert_allclose(ours.coef_, theirs.coef_, atol=2e-3)
    np.testing.assert_allclose(ours.coefs_paths_, theirs.coefs_paths_[:, 0], atol=2e-3)
    assert ours.score(X, y) == pytest.approx(theirs.score(X, y), abs=1e-4)


@pytest.mark.parametrize("solver", ["newton", "lbfgs"])
def test_folds_are_fits_to_their_samples(solver):
    X, y = mixture()
    splits = list(ShuffleSplit(2, train_size=0.6, test_size=0.2, random_state=0).split(X, y))
    clf = SoftmaxClassifierCV([0.01, 1, 100], cv=splits, solver=solver).fit(X, y)
    assert (clf.gaps_ <= 1e-4 * clf.losses_).all()
    for fold, (train, test) in enumerate(splits):
        for i, C in enumerate(clf.Cs_):
            alone = SoftmaxClassifier(C, tol=1e-9).fit(X[train], y[train])
            assert abs(clf.losses_[fold, i] - alone.loss_) <= clf.gaps_[fold, i] + 1e-9
            assert abs(clf.scores_[fold, i] - alone.score(X[test], y[test])) <= 2 / len(test)
    best = SoftmaxClassifier(clf.C_, tol=1e-9).fit(X, y)
    assert clf.loss_ - best.loss_ <= clf.gap_ + 1e-9
    frame = clf.frame()
    assert list(frame) == ["fold", "C", "score", "loss", "gap", "n_iter"]
    assert len(frame) == 6


def test_folds_start_from_the_fit_to_all():
    X, y = mixture(600)
    options = {"Cs": np.logspace(-3, 2, 26), "solver": "lbfgs", "cv": 3}
    whole = SoftmaxClassifierCV(**options).fit(X, y)
    alone = SoftmaxClassifierCV(**options, refit=False).fit(X, y)
    assert whole.n_iter_.sum() < 0.8 * alone.n_iter_.sum()


def test_without_refit_the_folds_are_averaged():
    X, y = mixture()
    clf = SoftmaxClassifierCV([0.01, 1, 100], cv=3, refit=False).fit(X, y)
    best = clf.scores_.argmax(axis=1)
    mean = np.mean([clf.coefs_paths_[fold, i] for fold, i in enumerate(best)], axis=0)
    np.testing.assert_allclose(clf.coef_, mean[:, :-1])
    np.testing.assert_allclose(clf.intercept_, mean[:, -1])
    assert clf.Cs_[best].mean() == clf.C_
    assert clf.path_ is None
    assert clf.predict(X[:3]).shape == (3,)


def test_a_class_that_a_fold_lacks():
    X, y = mixture(60, 4, 3)
    y[y == "class 2"] = "class 1"
    y[:2] = "class 2"  # both in the first of the unshuffled folds
    clf = SoftmaxClassifierCV([0.1, 1], cv=KFold(3), scoring="neg_log_loss").fit(X, y)
    lacking = clf.coefs_paths_[0, :, 2]
    assert (lacking[:, -1] == -np.inf).all() and (lacking[:, :-1] == 0).all()
    alone = SoftmaxClassifier(0.1, tol=1e-9).fit(X[20:], y[20:])
    ours = clf.coefs_paths_[0, 0, 1, :-1] - clf.coefs_paths_[0, 0, 0, :-1]
    np.testing.assert_allclose(ours, alone.coef_[0], atol=2e-2 * np.abs(alone.coef_).max())
    assert np.isfinite(clf.scores_).all()
    assert np.isfinite(clf.coef_).all() and np.isfinite(clf.intercept_).all()


def test_a_fold_of_one_class():
    X, y = mixture(60, 4, 2)
    with pytest.raises(InputError, match="fold 0: of 2 classes, the training samples hold only: 'class 1'"):
        SoftmaxClassifierCV(cv=[(np.flatnonzero(y == "class 1"), np.arange(5))]).fit(X, y)


def test_metadata_reach_splitter_and_scorer():
    X, y = mixture(120)
    groups, weight = np.arange(120) % 4, 1.0 + np.arange(120) % 2
    with pytest.raises(ValueError, match="groups"):
        SoftmaxClassifierCV(cv=GroupKFold(3)).fit(X, y, groups=groups)
    with config_context(enable_metadata_routing=True):
        scorer = get_scorer("neg_log_loss").set_score_request(sample_weight=True)
        clf = SoftmaxClassifierCV([0.1, 1], cv=LeaveOneGroupOut(), scoring=scorer)
        clf.set_fit_request(sample_weight=True).fit(X, y, sample_weight=weight, groups=groups)
        test = groups == 1
        fold = SoftmaxClassifier(0.1, tol=1e-9).fit(X[~test], y[~test], sample_weight=weight[~test])
        losses = -fold.predict_log_proba(X[test])[
            np.arange(test.sum()), np.searchsorted(clf.classes_, y[test])
        ]
        expected = -np.average(losses, weights=weight[test])
        assert clf.scores_[1, 0] == pytest.approx(expected, rel=1e-2)
        assert clf.score(X, y, sample_weight=weight) != clf.score(X, y)
        assert "splitter" in str(clf.get_metadata_routing())


def fitted(X, y, C, weight=None, *, fit_intercept=True, solver=None, start=None):
    problem = Problem.of(X, y, weight, fit_intercept=fit_intercept)
    objective = problem.objective(C)
    start = np.zeros(objective.shape) if start is None else start
    solution = minimize(objective, solver or Newton(), start, tol=1e-9, max_iter=500)
    return problem, objective, solution.theta


def left_out_exactly(X, y, C, weight, rows, *, fit_intercept=True):
    """Scores of some samples by fits without them: the weight of the penalty stays 1 / C."""
    start, scores = None, []
    for i in rows:
        others = weight.copy()
        others[i] = 0
        problem, _, start = fitted(X, y, C, others, fit_intercept=fit_intercept, start=start)
        assert len(problem.classes) == len(np.unique(y))
        scores.append(np.append(X[i], 1.0)[: len(start)] @ start)
    return np.array(scores)


def shift(scores, before):
    moved = scores - before
    return moved - moved.mean(axis=1, keepdims=True)  # what all classes share means nothing


@pytest.mark.parametrize("fit_intercept", [True, False], ids=["intercept", "no intercept"])
@pytest.mark.parametrize(
    ("data", "C", "most"),
    [
        (load_iris, 0.01, 0.01),
        (load_iris, 1.0, 0.06),
        (load_wine, 0.01, 0.01),
        (load_wine, 1.0, 0.12),
        (load_breast_cancer, 0.01, 0.02),  # two classes
    ],
)
def test_left_out_scores_against_refits(data, C, most, fit_intercept):
    """The error is of second order: one Newton step leaves more of a sample that settles its own score."""
    X, y = data(return_X_y=True)
    X, rng = StandardScaler().fit_transform(X), np.random.default_rng(0)
    weight, rows = rng.uniform(0.3, 2, len(y)), rng.choice(len(y), 30, replace=False)
    problem, objective, theta = fitted(X, y, C, weight, fit_intercept=fit_intercept)
    before = np.hstack([X, np.ones((len(X), 1))])[:, : len(theta)] @ theta
    exact = shift(left_out_exactly(X, y, C, weight, rows, fit_intercept=fit_intercept), before[rows])
    ours = shift(loo.left_out_scores(problem, objective, theta), before)[rows]
    assert np.linalg.norm(ours - exact) <= most * np.linalg.norm(exact)


def test_left_out_losses_choose_as_refits_do():
    X, y = load_wine(return_X_y=True)
    X, Cs = StandardScaler().fit_transform(X), [1e-3, 1e-2, 1e-1, 1.0, 10.0]
    clf = SoftmaxClassifierCV(Cs, cv="loo", scoring="neg_log_loss").fit(X, y)
    ones, rows = np.ones(len(y)), np.arange(0, len(y), 4)
    exact = [left_out_exactly(X, y, C, ones, rows) for C in Cs]
    losses = [-log_softmax(Z, axis=1)[np.arange(len(rows)), y[rows]].mean() for Z in exact]
    chosen = int(np.argmin(losses))
    assert clf.C_ in Cs[max(chosen - 1, 0) : chosen + 2]
    at = Cs.index(0.1)
    proba = SoftmaxClassifierCV([0.1], cv="loo").fit(X, y).loo_proba_[rows, y[rows]]
    assert -np.log(proba).mean() == pytest.approx(losses[at], rel=5e-3)
    assert clf.loo_error_ == 0.0
    assert clf.scores_.shape == (1, 5) and clf.coefs_paths_.shape == (1, 5, 3, 14)
    assert clf.gap_ <= 1e-4 * clf.loss_


@pytest.mark.parametrize("make", [np.asarray, sp.csr_array], ids=["dense", "sparse"])
def test_large_problems_report_the_error_of_their_steps(make, monkeypatch):
    X, y = load_digits(return_X_y=True)
    X, y = X[:700] / 16, y[:700]
    problem, objective, theta = fitted(X, y, 0.1, solver=LBFGS())
    before = X @ theta[:-1] + theta[-1]
    exact = shift(loo.left_out_scores(problem, objective, theta), before)
    assert loo.step_error(problem, objective, theta, before + exact) == 0.0
    monkeypatch.setattr(loo, "_SMALL", 0)
    problem, objective, _ = fitted(make(X), y, 0.1, solver=LBFGS(), start=theta)
    Z = loo.left_out_scores(problem, objective, theta)
    error = np.linalg.norm(shift(Z, before) - exact) / np.linalg.norm(exact)
    assert error < 0.5
    said = loo.step_error(problem, objective, theta, Z)
    assert 0.3 * error < said < 3 * error


def test_leave_one_out_needs_a_smooth_penalty():
    with pytest.raises(InputError, match="smooth"):
        SoftmaxClassifierCV(cv="loo", l1_ratio=0.5).fit(*mixture(50))


def test_clones_fit_the_same():
    X, y = mixture(100)
    clf = SoftmaxClassifierCV(3, cv=3, scoring="neg_log_loss")
    np.testing.assert_array_equal(clf.fit(X, y).coef_, clone(clf).fit(X, y).coef_)
