"""ONNX graphs against the pipelines they were made from, run by onnxruntime."""

import sys

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, PolynomialFeatures, RobustScaler, StandardScaler

from luce.data import cells
from luce.data.columns import describe, make_pipeline
from luce.errors import InputError, MissingExtraError
from luce.estimator import SoftmaxClassifier
from luce.onnx_export import to_onnx

ort = pytest.importorskip("onnxruntime")


def session(model, path):
    to_onnx(model, path)
    return ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def feeds(model, X):
    """Turn a table into the inputs that the module's docstring promises."""
    table = model[0] if hasattr(model, "steps") else model
    if not isinstance(X, pd.DataFrame):
        return {"X": X.toarray() if sparse.issparse(X) else X}
    arrays = {}
    for name, kind in table.columns.items():
        if kind in ("category", "text"):
            arrays[name] = pd.Series(cells.as_labels(X[name])).fillna("").to_numpy(dtype=object)[:, None]
        else:
            arrays[name] = cells.as_numbers(X[name], kind).astype(np.float64)[:, None]
    return arrays


def agrees(model, X, path, feed=None):
    labels, probabilities = session(model, path).run(["label", "probabilities"], feed or feeds(model, X))
    # Weights of text are float32 in the graph, so 1e-5 is some ten roundings of a score of size 10.
    np.testing.assert_allclose(probabilities, model.predict_proba(X), atol=1e-5)
    np.testing.assert_array_equal(labels, model.predict(X).astype(labels.dtype))
    return labels


def wild_table(n=120, seed=2):
    rng = np.random.default_rng(seed)
    words = ["good", "bad", "Film", "naïve", "Ähnlich", "straße", "it's", "x_y", "a", "3D", "²²"]
    table = pd.DataFrame(
        {
            "age": rng.normal(40, 10, n),
            "when": pd.date_range("2020-01-01", periods=n),
            "price": [f"{v:.2f}".replace(".", ",") for v in rng.normal(40, 10, n)],
            "town": pd.Series(rng.choice(["Ulm", "Köln", "東京", None, *"abcdefgh"], n), dtype=object),
            "rare one": rng.choice(["x", "y"], n),
            "member": rng.random(n) < 0.5,
            "review": [" ".join(rng.choice(words, 9)) for _ in range(n)],
            "教程": [
                "".join(rng.choice(list("这部电影很好看，我们喜欢 "), 12)) + "PyTorch ok" for _ in range(n)
            ],
        }
    )
    table.loc[3:9, "age"] = np.nan
    table.loc[[5, 6], "rare one"] = ["seen once", None]
    return table


@pytest.mark.parametrize("n_classes", [2, 4])
def test_a_table_of_all_kinds(tmp_path, n_classes):
    table = wild_table()
    y = np.array(["é", "b", "c", "d"])[np.random.default_rng(0).integers(0, n_classes, len(table))]
    model = make_pipeline(table, SoftmaxClassifier(C=10)).fit(table, y)
    assert [kind for _, kind, _ in describe(model)] == [
        "number", "date", "decimal comma", "category", "category", "category", "text", "text"
    ]  # fmt: skip
    agrees(model, table, tmp_path / "m.onnx")
    other = wild_table(seed=3).assign(town="unseen", age=np.nan)
    agrees(model, other, tmp_path / "m.onnx")
    blank = wild_table(40).assign(review=None, town=None)
    agrees(model, blank, tmp_path / "m.onnx")
    agrees(model, table.iloc[:1], tmp_path / "m.onnx")


@pytest.mark.parametrize("rare", [False, True])
def test_categories(tmp_path, rare):
    table = pd.DataFrame({"c": ["a"] * 5 + ["b"] * 5 + [None] * 4 + ["z"] * (1 if rare else 4)})
    model = make_pipeline(table, SoftmaxClassifier()).fit(table, np.arange(len(table)) % 3)
    agrees(model, pd.DataFrame({"c": ["a", "b", None, "z", "unseen"]}), tmp_path / "m.onnx")


@pytest.mark.parametrize(
    "text", ["one", "one two", "", "TWO two ONE!", "unknown", "one,two;three\tone\n two"]
)
def test_words_and_pairs(tmp_path, text):
    table = pd.DataFrame({"t": ["one two three", "two one", "three three one two", "four one two"] * 3})
    model = make_pipeline(table, SoftmaxClassifier(C=100), text="t").fit(table, np.arange(12) % 4)
    agrees(model, pd.DataFrame({"t": [text]}), tmp_path / "m.onnx")


@pytest.mark.parametrize(
    "options", [{"norm": None}, {"use_idf": False}, {"ngram_range": (2, 2)}, {"lowercase": False}]
)
def test_text_options(tmp_path, options):
    table = pd.DataFrame({"t": ["one Two three", "two one", "three three one two", "four one two"] * 3})
    model = make_pipeline(table, SoftmaxClassifier(), text="t")
    model[1].transformers[0][1].set_params(**options)
    agrees(model.fit(table, np.arange(12) % 4), table, tmp_path / "m.onnx")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("classes", [np.array([3, -1, 7]), np.array([True, False]), np.array([2.0, 1.0])])
def test_a_matrix(tmp_path, dtype, classes):
    X = np.random.default_rng(0).normal(size=(60, 5)).astype(dtype)
    model = make_pipeline(X, SoftmaxClassifier()).fit(
        X, classes[np.arange(60) % len(classes)].astype(classes.dtype)
    )
    feed = {"X": X.astype(model[-1].coef_.dtype)}
    assert agrees(model, X, tmp_path / "m.onnx", feed).dtype == classes.dtype


def test_a_classifier_alone(tmp_path):
    X = np.random.default_rng(0).normal(size=(60, 5))
    model = SoftmaxClassifier().fit(X, np.arange(60) % 3)
    agrees(model, X, tmp_path / "m.onnx", {"X": X})


def test_pixels_and_sparse_rows(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 3, 4), dtype=np.uint8)
    agrees(
        make_pipeline(pixels, SoftmaxClassifier()).fit(pixels, np.arange(40) % 3), pixels, tmp_path / "m.onnx"
    )
    rows = sparse.csr_array(np.random.default_rng(0).normal(size=(40, 9)).clip(0.3) - 0.3)
    agrees(make_pipeline(rows, SoftmaxClassifier()).fit(rows, np.arange(40) % 3), rows, tmp_path / "m.onnx")


@pytest.mark.parametrize(
    "step",
    [
        StandardScaler(with_mean=False),
        MinMaxScaler(),
        MaxAbsScaler(),
        RobustScaler(with_scaling=False),
        PCA(3, whiten=True, random_state=0),
        TruncatedSVD(3, random_state=0),
        Pipeline([("impute", SimpleImputer(add_indicator=True)), ("scale", StandardScaler())]),
    ],
    ids=lambda step: type(step).__name__,
)
def test_other_transformers(tmp_path, step):
    X = np.random.default_rng(0).normal(1e3, 5, size=(60, 5))
    if isinstance(step, Pipeline):
        X[::7, 2] = np.nan
    model = Pipeline([("step", step), ("classifier", SoftmaxClassifier())]).fit(X, np.arange(60) % 3)
    agrees(model, X, tmp_path / "m.onnx", {"X": X})


def test_the_same_model_gives_the_same_bytes(tmp_path):
    table = wild_table()
    model = make_pipeline(table, SoftmaxClassifier()).fit(table, np.arange(len(table)) % 3)
    to_onnx(model, tmp_path / "a.onnx")
    to_onnx(model, tmp_path / "b.onnx")
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


@pytest.mark.parametrize(
    "step, message",
    [
        (PolynomialFeatures(), "PolynomialFeatures cannot be exported to ONNX; these can: .*StandardScaler"),
        (SimpleImputer(missing_values=-1), "imputer of other values"),
    ],
)
def test_other_steps_are_refused(tmp_path, step, message):
    X = np.random.default_rng(0).normal(size=(30, 2))
    model = Pipeline([("step", step), ("classifier", SoftmaxClassifier())]).fit(X, np.arange(30) % 3)
    with pytest.raises(InputError, match=message):
        to_onnx(model, tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "options, message",
    [
        ({"analyzer": "char"}, "analyzer='char'"),
        ({"stop_words": ["one"]}, "stop_words"),
        ({"token_pattern": r"\w+"}, "token_pattern"),
        ({"norm": "l1"}, "norm 'l1'"),
    ],
)
def test_other_text_options_are_refused(tmp_path, options, message):
    table = pd.DataFrame({"t": ["one two", "two three", "three one"] * 3})
    model = make_pipeline(table, SoftmaxClassifier(), text="t")
    model[1].transformers[0][1].set_params(**options)
    with pytest.raises(InputError, match=message):
        to_onnx(model.fit(table, np.arange(9) % 3), tmp_path / "m.onnx")


def test_hashed_text_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("luce.data.columns.HUGE_TEXT", 10)
    table = pd.DataFrame({"t": ["one two", "two three", "three one"] * 3})
    model = make_pipeline(table, SoftmaxClassifier(), text="t").fit(table, np.arange(9) % 3)
    with pytest.raises(InputError, match="HashingVectorizer cannot be exported"):
        to_onnx(model, tmp_path / "m.onnx")


def test_a_column_named_as_an_output_is_refused(tmp_path):
    table = pd.DataFrame({"label": np.random.default_rng(0).normal(size=9)})
    model = make_pipeline(table, SoftmaxClassifier()).fit(table, np.arange(9) % 3)
    with pytest.raises(InputError, match="cannot be named 'label'; rename"):
        to_onnx(model, tmp_path / "m.onnx")


def test_without_onnx_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'luce\[onnx\]'"):
        to_onnx(SoftmaxClassifier(), tmp_path / "m.onnx")


def test_tokens_are_cut_alike():
    assert TfidfVectorizer().token_pattern == r"(?u)\b\w\w+\b"  # the default that the export knows
