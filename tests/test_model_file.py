"""Model files: bit-identical round trips, and files that are broken, foreign or hostile."""

import hashlib
import io
import json
import os
import pickle
import struct
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save as as_bytes
from scipy import sparse
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_iris
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer, TfidfVectorizer
from sklearn.feature_selection import SelectKBest, chi2
from sklearn.impute import SimpleImputer
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    KBinsDiscretizer,
    MaxAbsScaler,
    MinMaxScaler,
    Normalizer,
    OneHotEncoder,
    OrdinalEncoder,
    PolynomialFeatures,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    StandardScaler,
)

from luce import codec, model_file, solvers
from luce.codec import decode, encode
from luce.data.columns import describe, make_pipeline
from luce.errors import InputError, LuceError, ModelFileError
from luce.estimator import SoftmaxClassifier
from luce.model_file import load, read_metadata, save
from luce.path import SoftmaxClassifierCV


def wild_table(n=80):
    rng = np.random.default_rng(1)
    words = ["good", "bad", "film", "fine", "awful", "great", "naïve", "actor", "电影"]
    table = pd.DataFrame(
        {
            "age": rng.normal(40, 10, n),
            "town": pd.Series(rng.choice(["Ulm", "Köln", "東京", None, *"abcdef"], n), dtype=object),
            "member": rng.random(n) < 0.5,
            "price": [f"{v:.2f}".replace(".", ",") for v in rng.normal(40, 10, n)],
            "joined": pd.date_range("2020-01-01", periods=n),
            "review": [" ".join(rng.choice(words, 7)) for _ in range(n)],
            "empty": None,
        }
    )
    table.loc[3:9, "age"] = np.nan
    return table


def same_after_round_trip(model, X, path):
    save(model, path)
    again = load(path)
    for method in ("decision_function", "predict_proba", "predict"):
        ours, theirs = getattr(model, method)(X), getattr(again, method)(X)
        assert ours.dtype == theirs.dtype
        assert ours.tobytes() == theirs.tobytes() if ours.dtype != object else (ours == theirs).all()
    return again


@pytest.fixture(scope="module")
def small():
    """A pipeline that is small enough to be mangled byte by byte."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(30, 2))
    return Pipeline([("scale", StandardScaler()), ("classifier", SoftmaxClassifier())]).fit(
        X, rng.integers(0, 3, 30)
    )


@pytest.fixture(scope="module")
def small_bytes(small, tmp_path_factory):
    path = tmp_path_factory.mktemp("small") / "m.luce"
    save(small, path, {"target": "y"})
    return path.read_bytes()


class TestRoundTrip:
    def test_of_a_table(self, tmp_path):
        table = wild_table()
        y = np.random.default_rng(0).choice(["aé", "b", "c"], len(table))
        model = make_pipeline(table, SoftmaxClassifier()).fit(table, y)
        again = same_after_round_trip(model, table, tmp_path / "m.luce")
        same_after_round_trip(again, table.iloc[::-1].assign(town="unseen"), tmp_path / "n.luce")
        assert describe(again) == describe(model)
        np.testing.assert_array_equal(again[:-1].get_feature_names_out(), model[:-1].get_feature_names_out())

    @pytest.mark.parametrize("order", ["C", "F"])
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_of_a_matrix(self, tmp_path, dtype, order):
        X = np.asarray(np.random.default_rng(0).normal(size=(60, 37)), dtype=dtype, order=order)
        model = make_pipeline(X, SoftmaxClassifier()).fit(X, np.arange(60) % 5)
        model[-1].coef_ = np.asarray(model[-1].coef_, order=order)
        again = same_after_round_trip(model, X, tmp_path / "m.luce")
        assert again[-1].coef_.flags.f_contiguous == (order == "F")
        assert again[-1].coef_.flags.writeable

    def test_of_pixels_and_sparse_rows(self, tmp_path):
        pixels = np.random.default_rng(0).integers(0, 256, (40, 3, 3), dtype=np.uint8)
        same_after_round_trip(
            make_pipeline(pixels, SoftmaxClassifier()).fit(pixels, np.arange(40) % 3),
            pixels,
            tmp_path / "p.luce",
        )
        rows = sparse.csr_array(np.random.default_rng(0).normal(size=(40, 9)).clip(0.3) - 0.3)
        same_after_round_trip(
            make_pipeline(rows, SoftmaxClassifier()).fit(rows, np.arange(40) % 3), rows, tmp_path / "s.luce"
        )

    @pytest.mark.parametrize(
        "classes",
        [
            np.array(["a", "bcd"]),
            np.array(["a", "bcd"], dtype=object),
            np.array([b"a", b"bc"]),
            np.array([False, True]),
            np.array([-5, 7, 9], dtype=np.int8),
            np.array([0.5, 1.5]),
            np.array(["", "naïve 电影 \U0001f600"]),
        ],
    )
    def test_of_class_labels(self, tmp_path, classes):
        X = np.random.default_rng(0).normal(size=(24, 2))
        model = SoftmaxClassifier().fit(X, np.arange(24) % len(classes))
        model.classes_ = classes
        again = same_after_round_trip(model, X, tmp_path / "m.luce")
        assert again.classes_.dtype == classes.dtype

    @pytest.mark.parametrize(
        "step",
        [
            MaxAbsScaler(),
            MinMaxScaler(clip=True),
            RobustScaler(),
            Normalizer(),
            PCA(2, random_state=0),
            TruncatedSVD(2, random_state=0),
            PolynomialFeatures(),
            PowerTransformer(),
            QuantileTransformer(n_quantiles=10),
            KBinsDiscretizer(3, strategy="uniform"),
            SelectKBest(k=2),
            FeatureUnion([("a", StandardScaler()), ("b", SimpleImputer(add_indicator=True))]),
            FunctionTransformer(),
            ColumnTransformer([("a", StandardScaler(), slice(0, 2))], remainder="passthrough"),
            OneHotEncoder(handle_unknown="ignore"),
            OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1),
        ],
        ids=lambda step: type(step).__name__,
    )
    def test_of_scikit_learn_transformers(self, tmp_path, step):
        X = np.random.default_rng(0).normal(size=(40, 3)).round(1)
        model = Pipeline([("step", step), ("classifier", SoftmaxClassifier())]).fit(X, np.arange(40) % 3)
        same_after_round_trip(model, X, tmp_path / "m.luce")

    @pytest.mark.parametrize(
        "step",
        [
            TfidfVectorizer(stop_words="english", dtype=np.float32, ngram_range=(1, 2)),
            CountVectorizer(analyzer="char_wb"),
            HashingVectorizer(n_features=64),
            Pipeline([("count", CountVectorizer()), ("best", SelectKBest(chi2, k=3))]),
        ],
        ids=lambda step: type(step).__name__,
    )
    def test_of_text(self, tmp_path, step):
        texts = wild_table()["review"].to_numpy(dtype=object)
        model = Pipeline([("step", step), ("classifier", SoftmaxClassifier())]).fit(
            texts, np.arange(len(texts)) % 3
        )
        same_after_round_trip(model, texts, tmp_path / "m.luce")

    @pytest.mark.parametrize(
        "values", [["a", None, "b"], ["a", np.nan, "b"], [1.5, np.nan, 2.0], [True, False, True]]
    )
    def test_of_odd_categories(self, values):
        X = np.array(values * 4, dtype=object)[:, None]
        encoder = OneHotEncoder(handle_unknown="ignore").fit(X)
        again = decode(*encode(encoder))
        np.testing.assert_array_equal(again.transform(X).toarray(), encoder.transform(X).toarray())

    @settings(max_examples=50, deadline=None)
    @given(
        st.recursive(
            st.none()
            | st.booleans()
            | st.integers()
            | st.floats()
            | st.text()
            | st.sampled_from([np.float32, slice(1, None)]),
            lambda inner: (
                st.lists(inner)
                | st.lists(inner).map(tuple)
                | st.dictionaries(st.text() | st.integers(), inner)
            ),
        )
    )
    def test_of_any_plain_value(self, value):
        tree, arrays = encode(value)
        assert repr(decode(json.loads(json.dumps(tree)), arrays)) == repr(value)

    @pytest.mark.parametrize(
        "array",
        [
            np.zeros((0, 3)),
            np.array(3.5, dtype=np.float16),
            np.array([], dtype="U4"),
            np.array([["a", "bc"]], dtype="<U9"),
            np.asfortranarray(np.arange(6, dtype=np.uint16).reshape(2, 3)),
            np.arange(6.0).reshape(2, 3).T[::-1],
            np.arange(3, dtype=">f8"),
            np.array(["2020-01-01", "NaT"], dtype="datetime64[D]"),
            np.array([[None, "x"], [1, np.nan]], dtype=object),
        ],
        ids=str,
    )
    def test_of_any_array(self, array):
        tree, arrays = encode(array)
        again = decode(json.loads(json.dumps(tree)), arrays)
        assert repr(again.tolist()) == repr(array.tolist())
        assert again.dtype == array.dtype.newbyteorder("=") and again.shape == array.shape

    def test_leaves_callbacks_out(self, tmp_path):
        X = np.random.default_rng(0).normal(size=(24, 2))
        model = SoftmaxClassifier(callbacks=(lambda *_, **__: None,)).fit(X, np.arange(24) % 2)
        assert same_after_round_trip(model, X, tmp_path / "m.luce").callbacks == ()

    def test_leaves_random_generators_out(self, tmp_path):
        X = np.random.default_rng(0).normal(size=(24, 4))
        step = TruncatedSVD(2, random_state=np.random.RandomState(0))
        model = Pipeline([("step", step), ("classifier", SoftmaxClassifier())]).fit(X, np.arange(24) % 2)
        assert same_after_round_trip(model, X, tmp_path / "m.luce")[0].random_state is None

    @pytest.mark.parametrize("solver", [solvers.LBFGS(), solvers.Newton()], ids=lambda s: type(s).__name__)
    def test_of_solvers(self, tmp_path, solver):
        X = np.random.default_rng(0).normal(size=(24, 2))
        model = SoftmaxClassifier(solver=solver).fit(X, np.arange(24) % 2)
        assert same_after_round_trip(model, X, tmp_path / "m.luce").solver == solver

    def test_gives_the_same_bytes(self, small, small_bytes, tmp_path):
        path = tmp_path / "again.luce"
        (tmp_path / "m.luce").write_bytes(small_bytes)
        for model in (small, load(tmp_path / "m.luce")):
            save(model, path, {"target": "y"})
            assert path.read_bytes() == small_bytes

    def test_with_any_length_of_header(self, small, tmp_path):
        starts = set()
        for length in range(0, 1024, 8):  # the format pads headers to multiples of 8
            save(small, tmp_path / "m.luce", {"note": "n" * length})
            load(tmp_path / "m.luce")
            starts.add((tmp_path / "m.luce").read_bytes()[:1])
        assert b"\x80" in starts  # as a pickle starts

    def test_of_metadata(self, small, tmp_path):
        save(
            small,
            tmp_path / "m.luce",
            {"scores": np.array([0.5, np.float32(1)]), "n": np.int64(3), "text": "é"},
        )
        said = read_metadata(tmp_path / "m.luce")
        assert said["metadata"] == {"scores": [0.5, 1.0], "n": 3, "text": "é"}
        assert said["classes"] == [0, 1, 2] and said["n_features"] == 2 and said["format_version"] == 1
        assert said["C"] == 1.0 and said["gap"] == pytest.approx(small[-1].gap_)


class TestSaveRefuses:
    def test_what_could_run_code(self, tmp_path):
        X = np.random.default_rng(0).normal(size=(24, 2))
        model = Pipeline([("log", FunctionTransformer(np.abs)), ("classifier", SoftmaxClassifier())])
        with pytest.raises(InputError, match=r"'steps\[0\]\[1\]\.func' cannot be saved.*absolute"):
            save(model.fit(X, np.arange(24) % 2), tmp_path / "m.luce")
        assert os.listdir(tmp_path) == []

    def test_a_function_in_a_transformer(self, tmp_path):
        texts = np.array(["a b", "c d"] * 4, dtype=object)
        model = Pipeline(
            [("t", TfidfVectorizer(tokenizer=str.split, token_pattern=None)), ("c", SoftmaxClassifier())]
        )
        with pytest.raises(InputError, match=r"tokenizer' cannot be saved"):
            save(model.fit(texts, np.arange(8) % 2), tmp_path / "m.luce")

    def test_a_class_of_a_known_name(self):
        class StandardScaler:
            pass

        with pytest.raises(InputError, match="cannot be saved"):
            encode(StandardScaler())

    def test_a_vectorizer_that_reads_files(self):
        with pytest.raises(InputError, match="reads files"):
            encode(CountVectorizer(input="filename"))

    def test_what_is_not_fitted(self, tmp_path):
        with pytest.raises(InputError, match="not fitted"):
            save(SoftmaxClassifier(), tmp_path / "m.luce")

    def test_metadata_that_is_no_json(self, small, tmp_path):
        with pytest.raises(InputError, match="metadata"):
            save(small, tmp_path / "m.luce", {"x": object()})

    def test_a_full_disk(self, small):
        with pytest.raises(LuceError, match="/dev/full: the model cannot be written: No space left"):
            save(small, "/dev/full")
        assert not os.path.isfile("/dev/full")

    @pytest.mark.parametrize("path", ["file/m.luce", "missing/m.luce", "folder", "n" * 300])
    def test_a_place_that_cannot_be_written(self, small, tmp_path, path):
        (tmp_path / "file").write_text("x")
        (tmp_path / "folder").mkdir()
        with pytest.raises(LuceError, match="cannot be written"):
            save(small, tmp_path / path)
        assert sorted(os.listdir(tmp_path)) == ["file", "folder"]

    def test_to_lose_the_old_file_when_the_new_one_fails(self, small, small_bytes, tmp_path, monkeypatch):
        path = tmp_path / "m.luce"
        path.write_bytes(small_bytes)

        def full(_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(LuceError, match="No space left"):
            save(small, path, {"target": "z"})
        assert path.read_bytes() == small_bytes and os.listdir(tmp_path) == ["m.luce"]


class Trap:
    """Unpickling it would create a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def sealed(tree, arrays=(), **changes):
    """Return a file around `tree` with a valid checksum, as an attacker could make it."""
    tensors = {str(i): np.asarray(array) for i, array in enumerate(arrays)}
    text = tree if isinstance(tree, str) else json.dumps(tree)
    tensors["tree"] = np.frombuffer(text.encode(), dtype=np.uint8)
    header = {"format_version": 1, "luce": "0.1.0", "classes": [], "metadata": {}} | changes
    import sklearn

    header["scikit-learn"] = sklearn.__version__
    header["sha256"] = model_file._digest(header, tensors)
    return as_bytes(tensors, {"luce": json.dumps(header)})


def softmax(**fitted):
    values = {"classes_": [0, 1], "coef_": 0, "intercept_": 1, "n_features_in_": 2} | fitted
    return {"estimator": ["SoftmaxClassifier", {}, values]}


DEEP = "[" * 100_000 + "]" * 100_000
HOSTILE_TREES = {
    "class by path": {"estimator": ["os.system", {}, {}]},
    "class of another module": {"estimator": ["builtins.eval", {"source": "1"}, {}]},
    "function": {"function": "os.system"},
    "class as function": {"function": "Pipeline"},
    "function as class": {"estimator": ["chi2", {"X": 1}, {}]},
    "unknown tag": {"python/object/apply:os.system": ["true"]},
    "two tags": {"tuple": [], "list": []},
    "type": {"type": "object"},
    "dtype": {"dtype": "O"},
    "method as attribute": softmax(predict={"function": "chi2"}),
    "dunder": softmax(__class__={"type": "float64"}),
    "dict": softmax(__dict__={"dict": []}),
    "cache folder": {"estimator": ["Pipeline", {"steps": [], "memory": "/tmp"}, {}]},
    "reads files": {"estimator": ["CountVectorizer", {"input": "filename"}, {}]},
    "unknown parameter": {"estimator": ["Pipeline", {"stairs": []}, {}]},
    "no estimator": [1, 2, 3],
    "no weights": {"estimator": ["SoftmaxClassifier", {}, {}]},
    "empty pipeline": {"estimator": ["Pipeline", {"steps": []}, {}]},
    "steps of another type": {"estimator": ["Pipeline", {"steps": 5}, {}]},
    "missing array": softmax(coef_={"array": [99, "<f8", "C"]}),
    "array of another type": softmax(coef_={"array": [0, "<f4", "C"]}),
    "array of objects": softmax(coef_={"array": [0, "|O", "C"]}),
    "weights of another shape": softmax(
        coef_={"array": [0, "<f8", "C"]}, intercept_={"array": [1, "<f8", "C"]}
    ),
    "array used twice": softmax(coef_={"array": [0, "<f8", "C"]}, intercept_={"array": [0, "<f8", "C"]}),
    "huge shape": softmax(coef_={"objects": [[10**15, 10**15], [1]]}),
    "negative shape": softmax(coef_={"objects": [[-1, -1], [1]]}),
    "huge string": {"scalar": ["<U2000000000", "a"]},
    "no number": {"scalar": ["<f8", "abc"]},
    "foreign unit": {"scalar": ["<M8[25s]", 5]},
    "no character": softmax(coef_={"array": [2, "<U1", "C"]}),
    "unhashable key": {"dict": [[{"dict": []}, 1]]},
    "deep": DEEP,
    "deep in parts": '{"tuple":[' * 5000 + "]}" * 5000,
    "huge integer": "9" * 10_000,
    "no JSON": "{",
    "not a number": softmax(coef_={"array": [3, "<f8", "C"]}, intercept_={"array": [1, "<f8", "C"]}),
}


class TestLoadRefuses:
    @pytest.mark.parametrize("name", HOSTILE_TREES)
    def test_hostile_trees(self, tmp_path, name):
        arrays = [
            np.zeros((3, 3)),
            np.zeros(1),
            np.full((2, 1), 0xFFFFFFFF, np.uint32),
            np.full((1, 2), np.nan),
        ]
        (tmp_path / "m.luce").write_bytes(sealed(HOSTILE_TREES[name], arrays))
        with pytest.raises(ModelFileError, match="is a broken model file"):
            load(tmp_path / "m.luce")

    @pytest.mark.parametrize("protocol", range(6))
    def test_pickles(self, tmp_path, protocol):
        trap = tmp_path / "sprung"
        (tmp_path / "m.luce").write_bytes(pickle.dumps(Trap(trap), protocol=protocol))
        with pytest.raises(ModelFileError, match=r"is a pickle|is no model file"):
            load(tmp_path / "m.luce")
        assert not trap.exists()

    def test_pickles_within(self, tmp_path):
        trap = tmp_path / "sprung"
        content = np.frombuffer(pickle.dumps(Trap(trap)), dtype=np.uint8)
        archive = io.BytesIO()
        np.savez(archive, x=np.array([Trap(trap)], dtype=object))
        for hostile in (sealed(softmax(coef_={"array": [0, "|O", "C"]}), [content]), archive.getvalue()):
            (tmp_path / "m.luce").write_bytes(hostile)
            with pytest.raises(ModelFileError):
                load(tmp_path / "m.luce")
        assert not trap.exists()

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"\x00",
            b"abc",
            b"a,b\n1,2\n" * 9,
            b"PK\x03\x04" + bytes(99),
            bytes(64),
            b"\xff" * 64,
            b"{" * 64,
        ],
        ids=["empty", "zero", "short", "csv", "zip", "zeros", "ones", "braces"],
    )
    @pytest.mark.parametrize("read", [load, read_metadata])
    def test_foreign_files(self, tmp_path, content, read):
        (tmp_path / "m.luce").write_bytes(content)
        with pytest.raises(ModelFileError, match=r"m\.luce is no model file of luce; give one that"):
            read(tmp_path / "m.luce")

    @pytest.mark.parametrize(
        "metadata", [None, {"format": "pt"}, {"luce": "x"}, {"luce": "[]"}, {"luce": DEEP}]
    )
    def test_safetensors_of_others(self, tmp_path, metadata):
        (tmp_path / "m.luce").write_bytes(as_bytes({"w": np.zeros(3)}, metadata))
        with pytest.raises(ModelFileError, match="is no model file of luce"):
            load(tmp_path / "m.luce")

    def test_huge_tensors(self, tmp_path):
        header = json.loads(small_header(sealed(softmax())))
        header["tree"] = {"dtype": "U8", "shape": [2**40], "data_offsets": [0, 2**40]}
        text = json.dumps(header).encode()
        (tmp_path / "m.luce").write_bytes(struct.pack("<Q", len(text)) + text)
        with pytest.raises(ModelFileError, match="damaged or cut short"):
            load(tmp_path / "m.luce")

    @pytest.mark.parametrize("read", [load, read_metadata])
    def test_newer_versions(self, tmp_path, read):
        (tmp_path / "m.luce").write_bytes(sealed({"new": 1}, format_version=2, luce="9.1"))
        with pytest.raises(
            ModelFileError, match=r"written by luce 9\.1, newer than this one .*pip install --upgrade"
        ):
            read(tmp_path / "m.luce")

    def test_files_cut_anywhere(self, small_bytes, tmp_path):
        path = tmp_path / "m.luce"
        for length in {*range(0, len(small_bytes), 97), *range(20), len(small_bytes) - 1}:
            path.write_bytes(small_bytes[:length])
            with pytest.raises(ModelFileError):
                load(path)

    @settings(max_examples=300, deadline=None)
    @given(st.data())
    def test_mangled_files(self, small_bytes, tmp_path_factory, data):
        mangled = bytearray(small_bytes)
        for _ in range(data.draw(st.integers(1, 3))):
            mangled[data.draw(st.integers(0, len(mangled) - 1))] = data.draw(st.integers(0, 255))
        path = tmp_path_factory.getbasetemp() / "mangled.luce"
        path.write_bytes(mangled)
        if mangled == small_bytes:
            return
        with pytest.raises(ModelFileError):
            load(path)

    @settings(max_examples=300, deadline=None)
    @given(st.data())
    def test_mangled_and_resealed_trees(self, small, tmp_path_factory, data):
        tree, arrays = encode(small)
        text = json.dumps(tree)
        at, length = data.draw(st.integers(0, len(text))), data.draw(st.integers(0, 9))
        with_digits = data.draw(st.text(st.sampled_from('0123456789[]{},:"-.enulltrasf'), max_size=9))
        path = tmp_path_factory.getbasetemp() / "resealed.luce"
        path.write_bytes(sealed(text[:at] + with_digits + text[at + length :], arrays))
        try:
            model = load(path)
        except ModelFileError:
            return
        assert hasattr(model, "predict")

    @pytest.mark.parametrize("path", ["missing.luce", "folder", "/dev/zero"])
    @pytest.mark.parametrize("read", [load, read_metadata])
    def test_what_is_no_file(self, tmp_path, path, read):
        (tmp_path / "folder").mkdir()
        with pytest.raises(ModelFileError, match=r"cannot be read|is no plain file"):
            read(tmp_path / path)


def small_header(content):
    return content[8 : 8 + int.from_bytes(content[:8], "little")]


@pytest.mark.parametrize("name", codec._KNOWN)
def test_known_parts_exist(name):
    assert codec._known(name).__name__ == name


def test_another_scikit_learn_is_said(small, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("sklearn.__version__", "1.2.3")
        save(small, tmp_path / "m.luce")
    with pytest.warns(UserWarning, match=r"saved with scikit-learn 1\.2\.3"):
        load(tmp_path / "m.luce")


def test_loading_leaves_no_warning(small_bytes, tmp_path):
    (tmp_path / "m.luce").write_bytes(small_bytes)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load(tmp_path / "m.luce")


def test_the_checksum_covers_everything(small_bytes):
    header = json.loads(json.loads(small_header(small_bytes))["__metadata__"]["luce"])
    assert len(header["sha256"]) == hashlib.sha256().digest_size * 2


def test_the_path_and_the_choice_along_it_are_kept(tmp_path):
    X, y = load_iris(return_X_y=True)
    model = SoftmaxClassifierCV(Cs=3, cv=2).fit(X, y)
    save(model, tmp_path / "m.luce")
    loaded = load(tmp_path / "m.luce")
    assert loaded.C_ == model.C_
    np.testing.assert_array_equal(loaded.predict_proba(X), model.predict_proba(X))
    np.testing.assert_array_equal(loaded.scores_, model.scores_)
    assert loaded.path_.frame().equals(model.path_.frame())
