"""Each format is read as what was written to it, and batches are what the whole is."""

import bz2
import gzip
import io
import struct

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy import sparse
from sklearn import metrics

from luce.data import sources
from luce.data.dataset import Layout
from luce.data.labels import class_labels, codes_of
from luce.errors import DataFileError
from luce.evaluation import measure, split

FRAME = pd.DataFrame(
    {
        "size": [1.5, None, -3.25, 1e-300, 2.0],
        "count": [3, 1, 4, 1, 5],
        "colour": ["red", "blue, dark", None, 'a "quoted"\nline', "red"],
        "ok": [True, False, True, True, False],
        "day": pd.to_datetime(["2020-01-01", "2021-05-06", "1999-12-31", "2020-01-01", "2020-02-29"]),
        "label": ["a", "b", "a", "b", "a"],
    }
)


def write_idx(path, array):
    codes = {"u1": 8, "i1": 9, "i2": 11, "i4": 12, "f4": 13, "f8": 14}
    code = codes[array.dtype.str[1:]]
    big = array.astype(array.dtype.newbyteorder(">"))
    data = bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + big.tobytes()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


def write_table(frame, path):
    if path.suffix == ".parquet":
        frame.to_parquet(path, row_group_size=2)
    elif path.suffix in (".feather", ".arrow"):
        frame.to_feather(path)
    elif path.suffix == ".arrows":
        table = pa.Table.from_pandas(frame)
        with pa.ipc.new_stream(path, table.schema) as writer:
            writer.write_table(table, max_chunksize=2)
    else:
        text = frame.to_csv(index=False, sep="\t" if ".tsv" in path.name else ",")
        compress = {".gz": gzip.compress, ".bz2": bz2.compress}.get(path.suffix, bytes)
        path.write_bytes(compress(text.encode()))


@pytest.mark.parametrize(
    "name", ["t.csv", "t.tsv", "t.csv.gz", "t.csv.bz2", "t.parquet", "t.feather", "t.arrow", "t.arrows"]
)
def test_tables_of_all_formats_are_alike(tmp_path, name):
    write_table(FRAME, tmp_path / name)
    data = sources.read(str(tmp_path / name))
    expected = FRAME.drop(columns="label")
    pd.testing.assert_frame_equal(
        data.X, expected, check_dtype=False, check_column_type=False, check_index_type=False
    )
    assert data.X["count"].dtype == np.int64 and data.X["size"].dtype == np.float64
    assert list(data.y) == list(FRAME["label"])
    assert data.layout.types == ("number", "number", "text", "bool", "time")
    assert data.fingerprint == sources.read(str(tmp_path / name)).fingerprint

    parts = list(sources.batches(str(tmp_path / name), data.layout, rows=2))
    assert max(map(len, parts)) <= 2
    together = pd.concat([part.X for part in parts])
    pd.testing.assert_frame_equal(
        together, expected, check_dtype=False, check_column_type=False, check_index_type=False
    )


def test_types_of_the_first_file_are_kept_in_the_next(tmp_path):
    (tmp_path / "a.csv").write_text("code,n,y\nx,1,0\n7,2.5,1\n")
    (tmp_path / "b.csv").write_text("n,extra,code\n1,9,7\n2,9,8\n")
    layout = sources.read(str(tmp_path / "a.csv")).layout
    (batch,) = sources.batches(str(tmp_path / "b.csv"), layout)
    assert list(batch.X["code"]) == ["7", "8"]
    assert batch.X["n"].dtype == np.float64 and list(batch.X.columns) == ["code", "n"]


def test_leading_zeros_are_kept(tmp_path):
    (tmp_path / "a.csv").write_text("zip,x,y\n01067,0.5,a\n10115,1,b\n")
    assert list(sources.read(str(tmp_path / "a.csv")).X["zip"]) == ["01067", "10115"]


@pytest.mark.parametrize(
    ("header", "names"),
    [
        ("a;b;label", ["a", "b"]),
        ("a\tb\tlabel", ["a", "b"]),
        ("a|b|label", ["a", "b"]),
        ('"a;x",b,label', ["a;x", "b"]),
        (" a , b ,label", ["a", "b"]),
        ("a,,label", ["a", "column 2"]),
    ],
)
def test_separators_and_names(tmp_path, header, names):
    separator = next(s for s in "\t|,;" if s in header.replace('"a;x"', ""))
    row = separator.join(["1", "2", "x"])
    (tmp_path / "a.csv").write_text(f"\n{header}\n{row}\n\n{row}\n")
    data = sources.read(str(tmp_path / "a.csv"))
    assert list(data.X.columns) == names and len(data) == 2
    assert any("separated" in note for note in data.notes) == (separator != ",")


@pytest.mark.parametrize(
    ("first", "second", "header"),
    [
        ("5.1,3.5,setosa", "4.9,3.0,virginica", False),
        ("1,0,0,5", "2,1,1,3", False),
        ("0,1,2,y", "7,7,7,a", True),
        ("2019,2020,2021", "1.5,2,3", True),
        ("size,2020,y", "1,2,a", True),
        ("a,b,y", "x,y,z", True),
        ("red,5,a", "green,6,b", False),
        ("?,5,a", "1,6,b", False),
    ],
)
def test_a_first_line_of_numbers_is_data(tmp_path, first, second, header):
    (tmp_path / "a.csv").write_text(f"{first}\n{second}\n")
    last = first.split(",")[-1] if header else str(first.count(",") + 1)
    data = sources.read(str(tmp_path / "a.csv"), target=last)
    assert len(data) == (1 if header else 2)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_byte_order_marks(tmp_path, encoding):
    (tmp_path / "a.csv").write_text("größe,y\nä,1\n語,0\n", encoding=encoding)
    data = sources.read(str(tmp_path / "a.csv"))
    assert list(data.X["größe"]) == ["ä", "語"]


def test_characters_cut_by_a_chunk(tmp_path):
    words = ["語" * 100 + "é" * (i % 3) for i in range(9000)]
    (tmp_path / "a.csv").write_text("w,y\n" + "".join(f"{w},{i % 2}\n" for i, w in enumerate(words)))
    assert list(sources.read(str(tmp_path / "a.csv")).X["w"]) == words


def test_stdin(monkeypatch):
    text = b"a,y\n1,0\n2,1\n"
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(gzip.compress(text))))
    data = sources.read("-")
    assert list(data.X["a"]) == [1, 2] and list(data.y) == [0, 1]


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float32, np.float64, np.dtype(">f8"), np.float16])
def test_npy(tmp_path, dtype):
    X = np.arange(12).reshape(4, 3).astype(dtype)
    np.save(tmp_path / "X_train.npy", X)
    np.save(tmp_path / "y_train.npy", np.array(["a", "b", "a", "b"]))
    data = sources.read(str(tmp_path / "X_train.npy"))
    np.testing.assert_array_equal(data.X, X)
    assert data.X.dtype == {1: np.uint8, 2: np.float32, 4: np.float32}.get(X.itemsize, np.float64)
    assert list(data.y) == ["a", "b", "a", "b"]


@pytest.mark.parametrize("target", ["-1", "0", "1"])
def test_a_column_of_a_matrix_as_labels(tmp_path, target):
    values = np.array([[0, 1, 2], [1, 0, 5], [0, 1, 7.0]])
    np.save(tmp_path / "a.npy", values)
    data = sources.read(str(tmp_path / "a.npy"), target=target)
    np.testing.assert_array_equal(data.y, values[:, int(target)])
    np.testing.assert_array_equal(data.X, np.delete(values, int(target), axis=1))
    (batch,) = sources.batches(str(tmp_path / "a.npy"), data.layout)
    np.testing.assert_array_equal(batch.X, data.X)


def test_npz_with_a_test_part(tmp_path):
    images = np.arange(6 * 4, dtype=np.uint8).reshape(6, 2, 2)
    np.savez(tmp_path / "a.npz", x_train=images, y_train=np.arange(6) % 2, x_test=images[:2], y_test=[1, 0])
    data = sources.read(str(tmp_path / "a.npz"))
    np.testing.assert_array_equal(data.X, images)
    assert data.layout.image_shape == (2, 2) and data.layout.kind == "images"
    np.testing.assert_array_equal(data.held_out.X, images[:2])
    assert list(data.held_out.y) == [1, 0]


def test_npz_of_a_sparse_matrix(tmp_path):
    X = sparse.random(9, 5, 0.4, format="csr", random_state=0)
    sparse.save_npz(tmp_path / "X.npz", X)
    np.save(tmp_path / "labels.npy", np.arange(9) % 2)
    data = sources.read(str(tmp_path / "X.npz"), target=str(tmp_path / "labels.npy"))
    np.testing.assert_array_equal(data.X.toarray(), X.toarray())


@pytest.mark.parametrize("name", ["a.svm", "a.txt", "a.libsvm.gz", "a.svm.bz2"])
@pytest.mark.parametrize("base", [0, 1])
def test_libsvm(tmp_path, name, base):
    rng = np.random.default_rng(0)
    X = rng.random((20, 6)).round(3) * (rng.random((20, 6)) < 0.5)
    X[0] = 1.0
    lines = [
        f"{(-1) ** i} " + " ".join(f"{j + base}:{v}" for j, v in enumerate(row) if v) + " # remark"
        for i, row in enumerate(X)
    ]
    compress = {".gz": gzip.compress, ".bz2": bz2.compress}.get(name[name.rfind(".") :], bytes)
    (tmp_path / name).write_bytes(compress(("# head\n" + "\n".join(lines)).encode()))
    data = sources.read(str(tmp_path / name))
    np.testing.assert_array_equal(data.X.toarray(), X)
    assert list(data.y) == [(-1) ** i for i in range(20)] and not data.notes
    parts = list(sources.batches(str(tmp_path / name), data.layout, rows=7))
    np.testing.assert_array_equal(sparse.vstack([p.X for p in parts]).toarray(), X)


def test_libsvm_features_beyond_the_model_are_left_out(tmp_path):
    (tmp_path / "a.svm").write_text("1 1:2 9:3\n0 2:1\n")
    (batch,) = sources.batches(str(tmp_path / "a.svm"), Layout("sparse", 3))
    np.testing.assert_array_equal(batch.X.toarray(), [[2, 0, 0], [0, 1, 0]])


@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "i4", "f4", "f8"])
def test_idx(tmp_path, dtype):
    X = np.random.default_rng(0).integers(0, 100, (5, 3, 4)).astype(dtype)
    write_idx(tmp_path / "t-images-idx3-ubyte.gz", X)
    write_idx(tmp_path / "t-labels-idx1-ubyte", np.arange(5, dtype="u1") % 3)
    data = sources.read(str(tmp_path / "t-images-idx3-ubyte.gz"))
    np.testing.assert_array_equal(data.X.reshape(X.shape), X)
    assert list(data.y) == [0, 1, 2, 0, 1] and data.layout.image_shape == (3, 4)


def test_a_folder_of_idx_files(tmp_path):
    X = np.random.default_rng(0).integers(0, 255, (6, 2, 2), dtype=np.uint8)
    for part, rows in [("train", 6), ("t10k", 3)]:
        write_idx(tmp_path / f"{part}-images-idx3-ubyte.gz", X[:rows])
        write_idx(tmp_path / f"{part}-labels-idx1-ubyte.gz", np.arange(rows, dtype="u1") % 2)
    data = sources.read(str(tmp_path))
    assert len(data) == 6 and len(data.held_out) == 3
    (batch,) = sources.batches(str(tmp_path), data.layout)
    np.testing.assert_array_equal(batch.X, X[:3])


def test_images(tmp_path):
    rng = np.random.default_rng(0)
    expected = {}
    for label in ("cat", "dog"):
        (tmp_path / label).mkdir()
        for i in range(3):
            pixels = rng.integers(0, 255, (5, 7, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / label / f"{i}.png")
            expected[f"{label}/{i}.png"] = pixels
    (tmp_path / "cat" / "notes.txt").write_text("no image")
    data = sources.read(str(tmp_path))
    np.testing.assert_array_equal(data.X, list(expected.values()))
    assert list(data.y) == ["cat"] * 3 + ["dog"] * 3
    parts = list(sources.batches(str(tmp_path), data.layout, rows=4))
    assert [name for part in parts for name in part.names] == list(expected)

    Image.fromarray(np.zeros((90, 90), np.uint8)).save(tmp_path / "dog" / "z.png")
    data = sources.read(str(tmp_path))
    assert data.X.shape == (7, 5, 7, 3) and "1 of 7 images are resized to 7 x 5" in data.notes[0]


@pytest.mark.parametrize(
    ("name", "shape"), [("iris", (150, 4)), ("wine", (178, 13)), ("breast_cancer", (569, 30))]
)
def test_built_in_names(name, shape):
    data = sources.read(name)
    assert data.X.shape == shape and data.y.dtype == object
    assert sum(len(b) for b in sources.batches(name, data.layout, rows=64)) == shape[0]


def test_a_file_wins_over_a_built_in_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "iris").write_text("a,y\n1,0\n2,1\n")
    data = sources.read("iris")
    assert len(data) == 2 and "not the built-in" in data.notes[0]


def test_layout_survives_json():
    layout = Layout("table", 2, ("a", "b"), ("number", "text"), "y")
    assert Layout.from_dict(layout.to_dict()) == layout
    assert layout.only({"b"}) == Layout("table", 1, ("b",), ("text",), "y")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1.0, 2.0, -3.0], [1, 2, -3]),
        ([True, False], [True, False]),
        ([b"x", b"y"], ["x", "y"]),
        ([[1], [2]], [1, 2]),
        (np.array(["2020-01-01"], "datetime64[ns]"), ["2020-01-01T00:00:00"]),
    ],
)
def test_labels(values, expected):
    assert class_labels(values, "f", "y")[0].tolist() == expected


def test_codes_compare_labels_as_written():
    assert codes_of(np.array(["1", "x", "0"], object), np.array([0, 1])).tolist() == [1, -1, 0]


@given(
    y=st.lists(st.integers(0, 6), min_size=1, max_size=60),
    test_size=st.floats(0, 0.9),
    seed=st.integers(0, 5),
)
def test_split_is_stratified(y, test_size, seed):
    y = np.array(y)
    train, test = split(y, test_size, seed)
    np.testing.assert_array_equal(np.sort(np.r_[train, test]), np.arange(len(y)))
    assert set(y[train]) == set(y)
    for label in set(y):
        n = (y == label).sum()
        assert abs((y[test] == label).sum() - test_size * n) <= 1 + 1e-9


@given(data=st.data(), n=st.integers(1, 40), C=st.integers(2, 5))
def test_measures_agree_with_scikit_learn(data, n, C):
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    truth, P = rng.integers(0, C, n), rng.dirichlet(np.ones(C), n)
    predicted = P.argmax(axis=1)
    result = measure(truth, predicted, np.log(P[np.arange(n), truth]), np.arange(C), np.full(C, 1 / C))
    labels = np.arange(C)
    precision, recall, f1, support = metrics.precision_recall_fscore_support(
        truth, predicted, labels=labels, zero_division=0
    )
    np.testing.assert_allclose(result.precision, precision)
    np.testing.assert_allclose(result.recall, recall)
    np.testing.assert_allclose(result.f1, f1)
    np.testing.assert_array_equal(result.support, support)
    np.testing.assert_array_equal(result.confusion, metrics.confusion_matrix(truth, predicted, labels=labels))
    assert result.accuracy == pytest.approx(metrics.accuracy_score(truth, predicted))
    assert result.log_loss == pytest.approx(metrics.log_loss(truth, P, labels=labels))
    assert result.macro_f1 == pytest.approx(metrics.f1_score(truth, predicted, average="macro"))
    assert result.baseline_log_loss == pytest.approx(np.log(C))


def test_unknown_labels_are_errors_but_no_infinity():
    result = measure(
        np.array([0, -1]), np.array([0, 1]), np.log([0.5, 0.1]), np.arange(2), np.array([0.5, 0.5])
    )
    assert (result.accuracy, result.unknown) == (0.5, 1)
    assert result.log_loss == pytest.approx(np.log(2))


def test_sparse_and_dense_models_do_not_mix_with_tables(tmp_path):
    (tmp_path / "a.csv").write_text("a,y\n1,0\n")
    with pytest.raises(DataFileError, match="fitted on a matrix of 3 columns"):
        sources.read(str(tmp_path / "a.csv"), layout=Layout("matrix", 3))
