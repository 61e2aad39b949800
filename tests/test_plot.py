"""The displays: what they measure against oracles, what they draw, and how they treat hostile names."""

import subprocess
import sys
from itertools import pairwise

import matplotlib
import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from scipy.stats import binomtest
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_digits, load_iris
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import confusion_matrix
from sklearn.pipeline import make_pipeline as pipeline_of
from sklearn.preprocessing import StandardScaler

import luce
from luce import plot
from luce.data.columns import make_pipeline
from luce.errors import InputError

matplotlib.use("agg")
from matplotlib import pyplot
from matplotlib.figure import Figure

RNG = np.random.default_rng(0)
HOSTILE = ["<script>alert(1)</script>", "$\\frac{1}{", "a\x1b[2Jb", "x" * 500]


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return luce.SoftmaxClassifier().fit(X / 16, y), X / 16, y


@pytest.fixture(scope="module")
def iris():
    X, y = load_iris(return_X_y=True, as_frame=True)
    return X, np.array(["setosa", "versicolor", "virginica"])[y]


@pytest.fixture(autouse=True)
def _closed():
    yield
    pyplot.close("all")


def drawn(display, **options):
    """Draw in all three places; return the axes of a new figure."""
    figure = display.plot(**options)
    assert figure is display.figure_ and figure.axes == [display.ax_]
    figure.canvas.draw()
    _, ax = pyplot.subplots()
    assert display.plot(ax, **options) is ax.figure
    empty = Figure()
    assert display.plot(empty, **options) is empty and empty.axes
    return figure.axes[0]


def test_convergence_is_proven_at_every_iteration(digits):
    model, X, y = digits
    display = plot.ConvergenceDisplay.from_estimator(pipeline_of(StandardScaler(), model))
    table = display.frame()
    exact = luce.SoftmaxClassifier(tol=1e-10).fit(X, y).loss_
    # the objective's distance from the optimum is below the proven one, up to rounding of the sums
    assert (table["objective"] - exact <= table["proven_gap"] + 1e-12).all()
    assert table["proven_gap"].iloc[-1] == pytest.approx(model.gap_, rel=1e-6, abs=1e-15)
    assert table["certified"].iloc[-1] and np.isnan(table["estimated_gap"].iloc[-1])
    for against in ("passes", "seconds"):
        ax = drawn(display, against=against)
        np.testing.assert_array_equal(ax.lines[0].get_xdata(), table[against])
    with pytest.raises(InputError, match="against = 'time'"):
        display.plot(against="time")


def test_convergence_of_a_fit_that_proved_nothing():
    X, y = load_iris(return_X_y=True)
    model = luce.SoftmaxClassifier().partial_fit(X, y, classes=[0, 1, 2])
    step = {"iteration": 1, "loss": 1.0, "gap": None, "passes": 1.0, "seconds": 0.1, "certified": False}
    display = plot.ConvergenceDisplay([step])
    assert display.frame()[["proven_gap", "estimated_gap"]].isna().all(axis=None)
    assert len(drawn(display).lines) == 1
    with pytest.raises(InputError, match="no history"):
        plot.ConvergenceDisplay.from_estimator(model)


def test_path_shows_the_mean_of_the_folds_and_the_choice(iris):
    X, y = iris
    model = luce.SoftmaxClassifierCV([10, 0.01, 1], cv=4, scoring="neg_log_loss").fit(X, y)
    display = plot.PathDisplay.from_estimator(pipeline_of(StandardScaler(), model))
    table = display.frame()
    order = np.argsort(model.Cs_)
    np.testing.assert_allclose(table["mean"], model.scores_.mean(axis=0)[order], rtol=1e-12)
    error = model.scores_.std(axis=0, ddof=1)[order] / 2  # of four folds
    np.testing.assert_allclose(table["high"] - table["mean"], error, rtol=1e-9)
    assert display.chosen == model.C_ and display.score == "cross-validated minus log loss"
    drawn(display)
    with pytest.raises(InputError, match="from_path"):
        plot.PathDisplay.from_estimator(luce.SoftmaxClassifier().fit(X, y))


def test_path_without_scores_and_without_penalty():
    X = RNG.normal(size=(60, 2))
    path = luce.softmax_path(X, RNG.integers(0, 2, 60), [0.1, 1, np.inf])
    display = plot.PathDisplay.from_path(path)
    assert display.frame()["loss"].tolist() == path.losses.tolist()
    assert [t.get_text() for t in drawn(display).get_xticklabels()][-1] == "∞"


def test_templates_are_the_weights(digits):
    model, *_ = digits
    display = plot.TemplateDisplay.from_estimator(model, image_shape=(8, 8))
    table = display.frame()
    pixel = table[(table["row"] == 3) & (table["column"] == 5)]
    assert pixel[7].item() == model.coef_[7, 3 * 8 + 5]
    picture = drawn(display).images[0].get_array()
    assert picture.shape[2] == 4 and picture[..., 3].max() == 1
    assert [t.get_text() for t in drawn(display, classes=[3, 1]).texts] == ["3", "1"]
    with pytest.raises(InputError, match="image_shape"):
        plot.TemplateDisplay.from_estimator(model)
    with pytest.raises(InputError, match="class 'x'"):
        display.plot(classes=["x"])


def test_templates_of_colour_images_in_a_pipeline():
    X = RNG.integers(0, 256, (40, 4, 5, 3)).astype(np.uint8)
    X[:20, :2] //= 4
    model = make_pipeline(X, luce.SoftmaxClassifier()).fit(X, np.repeat(["dark", "light"], 20))
    display = plot.TemplateDisplay.from_estimator(model)
    assert display.templates.shape == (1, 4, 5, 3) and display.classes.tolist() == ["light"]
    assert list(display.frame())[:3] == ["row", "column", "channel"]
    drawn(display)


def test_features_have_readable_names_and_signs():
    n = 120
    label = RNG.integers(0, 2, n)
    table = pd.DataFrame(
        {
            "size": label + RNG.normal(size=n),
            "colour": np.array(["red", "blue"])[label],
            "said": [
                ("good day" if k else "bad night") + f" number {i} of many" for i, k in enumerate(label)
            ],
        }
    )
    table.loc[::9, "size"] = np.nan
    model = make_pipeline(table, luce.SoftmaxClassifier(), text="said").fit(table, label)
    display = plot.FeatureDisplay.from_estimator(model, n_features=10_000)
    weights = display.frame().set_index("feature")["weight"]
    assert {"size", "size is missing", "colour = red", "colour = blue", "“good”", "“bad night”"} <= set(
        weights.index
    )
    assert weights["colour = blue"] > 0 > weights["colour = red"] and weights["“good”"] > 0 > weights["“bad”"]
    assert display.against == "0" and weights.is_monotonic_decreasing
    drawn(plot.FeatureDisplay.from_estimator(model))


def test_features_keep_the_strongest_of_each_class(iris):
    X, y = iris
    model = luce.SoftmaxClassifier().fit(X, y)
    scale = X.std().to_numpy()
    table = plot.FeatureDisplay.from_estimator(model, n_features=2, scale=scale).frame()
    for label, weights in zip(model.classes_, model.coef_ * scale, strict=True):
        strongest = set(X.columns[np.argsort(-np.abs(weights))[:2]])
        assert set(table.loc[table["class"] == label, "feature"]) == strongest
    # a plain scikit-learn model has no names but those of its columns
    other = LogisticRegression(max_iter=2000).fit(X.to_numpy(), y)
    assert "feature 3" in set(plot.FeatureDisplay.from_estimator(other).frame()["feature"])


def test_features_of_two_texts_say_their_column():
    table = pd.DataFrame({"a": ["sun moon", "moon"] * 20, "b": ["moon", "star moon"] * 20})
    encode = ColumnTransformer([("text1", TfidfVectorizer(), "a"), ("text2", TfidfVectorizer(), "b")])
    model = pipeline_of(encode, luce.SoftmaxClassifier()).fit(table, [0, 1] * 20)
    names = set(plot.FeatureDisplay.from_estimator(model).frame()["feature"])
    assert names == {"a: “sun”", "a: “moon”", "b: “moon”", "b: “star”"}


def test_reliability_is_the_expected_calibration_error(digits):
    model, X, y = digits
    display = plot.ReliabilityDisplay.from_estimator(model, X, y, n_bins=7)
    proba = model.predict_proba(X)
    sure, right = proba.max(axis=1), model.predict(X) == y
    expected, edges = 0.0, np.linspace(0, 1, 8)
    for low, high in pairwise(edges):
        inside = (sure >= low) & (sure < high)
        if inside.any():
            expected += inside.mean() * abs(sure[inside].mean() - right[inside].mean())
    assert display.ece == pytest.approx(expected, rel=1e-9)
    for row in display.frame().itertuples():
        interval = binomtest(round(row.accuracy * row.rows), row.rows).proportion_ci(method="wilson")
        np.testing.assert_allclose([row.low, row.high], interval, atol=1e-6)  # 1.959964 has seven digits
    drawn(display)


def test_reliability_counts_unknown_labels_as_wrong():
    display = plot.ReliabilityDisplay.from_predictions(
        ["a", "?"], [[0.9, 0.1], [1.0, 0.0]], np.array(["a", "b"])
    )
    assert display.correct.tolist() == [True, False]
    with pytest.raises(InputError, match="no samples"):
        plot.ReliabilityDisplay(np.empty(0), np.empty(0))


def test_margins_are_score_differences(digits):
    model, X, y = digits
    display = plot.ScoreDisplay.from_estimator(model, X, y)
    scores = model.decision_function(X)
    own = scores[np.arange(len(y)), y]
    others = np.where(np.arange(10) == y[:, None], -np.inf, scores).max(axis=1)
    np.testing.assert_allclose(display.margins, own - others, atol=1e-9)
    table = display.frame()
    assert table["rows"].sum() == len(y)
    assert (
        table.loc[table["to"] <= 0, "rows"].sum()
        == (display.margins < 0).sum()
        == (model.predict(X) != y).sum()
    )
    drawn(display)


def test_margins_of_two_classes_and_of_extremes():
    display = plot.ScoreDisplay.from_predictions(
        ["b", "a", "?"], np.array([2.0, 3.0, 9.0]), np.array(["a", "b"])
    )
    assert display.margins.tolist() == [2.0, -3.0]
    assert plot.ScoreDisplay(np.zeros(5)).frame()["rows"].sum() == 5
    assert plot.ScoreDisplay(np.r_[np.ones(10_000), 1e9]).frame()["rows"].sum() == 10_001
    assert plot.ScoreDisplay(np.full(3, -2.0)).frame()["rows"].sum() == 3


def test_confusion_matches_scikit_learn(digits):
    model, X, y = digits
    display = plot.ConfusionDisplay.from_estimator(model, X, y)
    expected = confusion_matrix(y, model.predict(X))
    np.testing.assert_array_equal(display.confusion, expected)
    table = display.frame()
    assert table["rows"].sum() == len(y)
    wrong = table[table["true"] != table["predicted"]]
    assert wrong.index.tolist() == list(range(len(wrong))) and wrong["rows"].is_monotonic_decreasing
    assert {t.get_text() for t in drawn(display).texts} >= {"177", "178"}
    assert {t.get_text() for t in drawn(display, normalize=True).texts} >= {"99", "1"}
    with pytest.raises(InputError, match="do not fit"):
        plot.ConfusionDisplay(np.eye(3), np.array(["a"]))


@pytest.mark.parametrize("n_classes", [2, 30, 41, 500])
def test_confusion_of_many_classes(n_classes):
    truth = RNG.integers(0, n_classes, 2000)
    predicted = np.where(RNG.random(2000) < 0.2, (truth + 1) % n_classes, truth)
    names = np.array([f"class {i}" for i in range(n_classes)])
    display = plot.ConfusionDisplay.from_predictions(names[truth], names[predicted], classes=names)
    ax = drawn(display)
    if n_classes > 40:
        n_confusions = len(np.unique(np.column_stack([truth, predicted])[truth != predicted], axis=0))
        assert len(ax.collections[0].get_offsets()) == n_confusions


def test_hostile_names_are_drawn_as_they_are():
    classes = np.array(HOSTILE, dtype=object)
    confusion = plot.ConfusionDisplay(np.ones((4, 4), int), classes)
    labels = [t.get_text() for t in drawn(confusion).get_yticklabels()]
    assert labels[1] == "$\\frac{1}{" and labels[2] == "a\\x1b[2Jb" and len(labels[3]) <= 24
    X = pd.DataFrame(RNG.normal(size=(80, 4)), columns=HOSTILE)
    model = luce.SoftmaxClassifier().fit(X, classes[np.arange(80) % 4].astype(str))
    drawn(plot.FeatureDisplay.from_estimator(model))
    drawn(plot.TemplateDisplay.from_estimator(model, image_shape=(2, 2)))


def test_sparse_features(iris):
    X, y = iris
    X = sparse.csr_array(X.to_numpy())
    model = luce.SoftmaxClassifier().fit(X, y)
    assert plot.ReliabilityDisplay.from_estimator(model, X, y).frame()["rows"].sum() == 150
    assert plot.ConfusionDisplay.from_estimator(model, X, y).confusion.sum() == 150


def test_matplotlib_is_imported_only_to_draw():
    code = "import luce.plot, sys; raise SystemExit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_a_missing_matplotlib_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(luce.errors.MissingExtraError, match=r"luce\[plot\]"):
        plot.ScoreDisplay(np.ones(3)).plot()
