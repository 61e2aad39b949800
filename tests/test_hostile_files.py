"""Broken, foreign and mangled files: one clear `DataFileError`, never another exception."""

import gzip
import io
import struct

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from luce.data import sources
from luce.data.labels import check_classes
from luce.errors import DataFileError

CSV = b"a,b,label\n1,2.5,x\n2,,y\n3,1e5,x\n"
IDX_LABELS = bytes([0, 0, 8, 1, 0, 0, 0, 4, 0, 1, 0, 1])
IDX_IMAGES = bytes([0, 0, 8, 3]) + struct.pack(">3I", 4, 2, 2) + bytes(range(16))


def npy(array, **options):
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


def columnar(write):
    file = io.BytesIO()
    write(pd.DataFrame({"a": [1.0, 2, 3], "b": ["x", "yy", None], "label": [0, 1, 0]}), file)
    return file.getvalue()


def npz(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


X = np.arange(8.0).reshape(4, 2)
NAN = np.array([[1, 2], [3, np.nan]])
PARQUET = columnar(lambda frame, file: frame.to_parquet(file))
FEATHER = columnar(lambda frame, file: frame.to_feather(file))
NPZ = npz(X=X, y=np.arange(4) % 2)
SVM = b"1 1:2 3:4.5 # remark\n-1 2:1\n"

# name, content, and what the message must say: what is wrong, where, or the mend
BROKEN = {
    "empty": ("a.csv", b"", "is empty"),
    "blank": ("a.csv", b"\n \n", "is empty"),
    "header only": ("a.csv", b"a,b,label\n", "header but no rows"),
    "no target": ("a.csv", b"a,b,c\n1,2,3\n", "--target COL; there are: 'a', 'b', 'c'"),
    "no features": ("a.csv", b"label\nx\n", "no column beside the labels"),
    "duplicate columns": ("a.csv", b"a,b,a,label\n1,2,3,4\n", "occur twice: 'a'"),
    "long row": ("a.csv", b"a,label\n1,x\n1,2,x\n", "row 2 has 3 columns where the first line has 2"),
    "short row": ("a.csv", b"a,label\n1,x\n2,y\n1\n", "row 3 has 1 columns"),
    "open quote": ("a.csv", b'a,label\n1,x\n"1,x\n', "row 2 has 1 columns"),
    "missing label": ("a.csv", b"a,label\n1,x\n2,\n", "no label in row 2"),
    "quantity": ("a.csv", b"a,label\n1,0.5\n2,1.25\n", "0.5 in row 1.*regression"),
    "infinite label": ("a.csv", b"a,label\n1,1\n2,inf\n", "infinite in row 2"),
    "latin-1": ("a.csv", "a,label\n1,x\né,y\n".encode("latin-1"), "line 3 .byte 12.*0xe9.*iconv"),
    "binary": ("a.csv", b"a,b\0,label\n1,2,3\n", "NUL bytes"),
    "half a UTF-16": ("a.csv", "a,label\n1,2\n".encode("utf-16")[:-1], "UTF-16"),
    "cut gzip": ("a.csv.gz", gzip.compress(CSV)[:-12], "ends too early"),
    "broken gzip": ("a.csv.gz", b"\x1f\x8b" + b"x" * 40, "cannot be read"),
    "empty parquet": ("a.parquet", b"", "is empty"),
    "cut parquet": ("a.parquet", PARQUET[:-20], "complete"),
    "no parquet": ("a.parquet", CSV, "complete"),
    "cut feather": ("a.feather", FEATHER[:-20], "complete"),
    "old feather": ("a.feather", b"FEA1" + bytes(40), "first version"),
    "empty npy": ("X.npy", b"", "is empty"),
    "no npy": ("X.npy", CSV, "is not a NPY file"),
    "cut npy": ("X.npy", npy(X)[:-9], "complete"),
    "objects": ("X.npy", npy(np.array([{}], object), allow_pickle=True), "Python objects"),
    "complex": ("X.npy", npy(X + 1j), "complex128; features are real"),
    "strings": ("X.npy", npy(np.array([["a"]])), "real numbers"),
    "vector": ("X.npy", npy(X[:, 0]), "features are a matrix"),
    "no columns": ("X.npy", npy(X[:, :0]), "rows and columns are needed"),
    "no rows": ("X.npy", npy(X[:0]), "rows and columns are needed"),
    "NaN": ("X.npy", npy(NAN), "row 2, column 1 .* is nan"),
    "infinity": ("X.npy", npy(np.array([[1, np.inf]], np.float32)), "row 1, column 1 .* is inf"),
    "npz of objects": ("a.npz", npz(X=np.array([{}], object), y=[1]), "Python objects"),
    "npz without X": ("a.npz", npz(a=X), "no array 'X'; there are: 'a'"),
    "npz without y": ("a.npz", npz(X=X), "which array holds the labels"),
    "npz of two lengths": ("a.npz", npz(X=X, y=[1, 2]), "4 rows but 2 labels"),
    "cut npz": ("a.npz", NPZ[:-30], "complete"),
    "libsvm word": ("a.svm", b"1 1:2\n-1 x:3\n", "line 2 is '-1 x:3'"),
    "libsvm order": ("a.svm", b"1 5:2 3:1\n", "libsvm|line|index"),
    "libsvm huge": ("a.svm", b"1 99999999999999:1\n0 1:1\n", "index|columns"),
    "libsvm NaN": ("a.svm", b"1 1:2\n0 2:nan\n", "row 2, column 1 is nan"),
    "empty libsvm": ("a.svm", b"", "is empty"),
    "empty idx": ("t-images-idx3-ubyte", b"", "is empty"),
    "wrong magic": ("t-images-idx3-ubyte", b"\1\2\3\4" + IDX_IMAGES, "not an IDX file"),
    "cut idx": ("t-images-idx3-ubyte", IDX_IMAGES[:-1], "15 of the 16 bytes"),
    "long idx": ("t-images-idx3-ubyte", IDX_IMAGES + b"x", "more than"),
    "huge idx": ("t-images-idx3-ubyte", IDX_IMAGES[:4] + b"\xff" * 12, "ends after"),
    "labels as images": ("t-images-idx3-ubyte", IDX_LABELS, "holds labels"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_files(tmp_path, case):
    name, content, message = BROKEN[case]
    np.save(tmp_path / "y.npy", np.arange(4) % 2)
    (tmp_path / "t-labels-idx1-ubyte").write_bytes(IDX_LABELS)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataFileError, match=message) as caught:
        sources.read(str(tmp_path / name))
    assert str(tmp_path) in str(caught.value)


def test_missing_file():
    with pytest.raises(DataFileError, match=r"nowhere\.csv: no such file"):
        sources.read("nowhere.csv")


@pytest.mark.parametrize(
    ("wanted", "near"), [("lable", "'label'"), ("LABEL", "'label'"), ("q", "'a', 'b', 'label'")]
)
def test_unknown_target_names_the_nearest(tmp_path, wanted, near):
    (tmp_path / "a.csv").write_bytes(CSV)
    with pytest.raises(DataFileError, match=f"no column '{wanted}'.*{near}"):
        sources.read(str(tmp_path / "a.csv"), target=wanted)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a\n1\n", "no column 'b'"),
        (b"c\n1\n", "2 columns that the model needs are missing: 'a', 'b'"),
        (b"a,b\n1,2\nsome,2\n", "row 2, column 'a': 'some' is not a number"),
        (b"a,b\n1,2\n1,2,3\n", "row 2 has 3 columns"),
    ],
)
def test_other_columns_at_predict_time(tmp_path, content, message):
    (tmp_path / "a.csv").write_bytes(CSV)
    layout = sources.read(str(tmp_path / "a.csv")).layout
    (tmp_path / "b.csv").write_bytes(content)
    with pytest.raises(DataFileError, match=message):
        list(sources.batches(str(tmp_path / "b.csv"), layout))


def test_another_type_at_predict_time(tmp_path):
    (tmp_path / "a.csv").write_bytes(CSV)
    layout = sources.read(str(tmp_path / "a.csv")).layout
    pd.DataFrame({"a": ["1", "x"], "b": [1.0, 2]}).to_parquet(tmp_path / "b.parquet")
    with pytest.raises(DataFileError, match=r"column 'a' holds values of type .*row 2: 'x'.*numbers when"):
        list(sources.batches(str(tmp_path / "b.parquet"), layout))


def test_nested_columns(tmp_path):
    pd.DataFrame({"a": [[1, 2], [3]], "y": [0, 1]}).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(DataFileError, match=r"column 'a' is of type list.*flatten"):
        sources.read(str(tmp_path / "a.parquet"))


def test_matrix_of_another_width(tmp_path):
    np.save(tmp_path / "a.npy", X)
    with pytest.raises(DataFileError, match=r"2 numbers where the model was fitted with 64 .8 x 8"):
        list(sources.batches(str(tmp_path / "a.npy"), sources.read("digits").layout))


def test_image_folders(tmp_path):
    with pytest.raises(DataFileError, match="holds no images"):
        sources.read(str(tmp_path))
    (tmp_path / "cat").mkdir()
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "cat" / "a.png")
    (tmp_path / "cat" / "b.png").write_bytes(b"\x89PNG no image")
    with pytest.raises(DataFileError, match=r"cat/b\.png: cannot be read"):
        sources.read(str(tmp_path))
    cut = (tmp_path / "cat" / "a.png").read_bytes()[:-25]
    (tmp_path / "cat" / "b.png").write_bytes(cut)
    with pytest.raises(DataFileError, match=r"cat/b\.png: cannot be read"):
        sources.read(str(tmp_path))
    (tmp_path / "cat" / "b.png").rename(tmp_path / "loose.png")
    with pytest.raises(DataFileError, match="beside the class folders"):
        sources.read(str(tmp_path))


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.array(["a", "a"], object), "one class only .a."),
        (np.arange(100), "not a class"),
        (np.array([f"id{i}" for i in range(50)], object), "identifier"),
    ],
)
def test_labels_that_cannot_be_fitted(y, message):
    with pytest.raises(DataFileError, match=message):
        check_classes(y, "a.csv", "y")


def test_many_whole_numbers_are_suspected():
    assert "regression" in check_classes(np.arange(300) % 100, "a.csv", "y")[0]


VALID = {
    "a.csv": CSV,
    "a.csv.gz": gzip.compress(CSV),
    "X.npy": npy(X),
    "a.npz": NPZ,
    "a.svm": SVM,
    "t-images-idx3-ubyte": IDX_IMAGES,
    "a.parquet": PARQUET,
    "a.feather": FEATHER,
    "unknown": CSV,
}


@st.composite
def mangled(draw, content):
    """Valid bytes with some cut out, some overwritten, and some put in."""
    data = bytearray(content)
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(data)))
        stop = draw(st.integers(start, min(len(data), start + 20)))
        data[start:stop] = draw(st.binary(max_size=20))
    return bytes(data[: draw(st.integers(0, len(data)))] if draw(st.booleans()) else data)


@pytest.mark.parametrize("name", VALID)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_mangled_files_never_raise_anything_else(tmp_path, name, data):
    content = data.draw(st.one_of(mangled(VALID[name]), st.binary(max_size=60)))
    np.save(tmp_path / "y.npy", np.arange(4) % 2)
    (tmp_path / "t-labels-idx1-ubyte").write_bytes(IDX_LABELS)
    (tmp_path / name).write_bytes(content)
    try:
        found = sources.read(str(tmp_path / name))
    except DataFileError as error:
        assert str(tmp_path) in str(error)
    else:
        assert len(found) == len(found.y) > 0


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
@pytest.mark.parametrize("name", ["a.csv", "a.svm", "a.parquet", "a.feather"])
def test_mangled_files_in_batches(tmp_path, name, data):
    path = tmp_path / name
    path.write_bytes(VALID[name])
    layout = sources.read(str(path)).layout
    path.write_bytes(data.draw(mangled(VALID[name])))
    try:
        for batch in sources.batches(str(path), layout, rows=2):
            assert batch.X.shape[1] == layout.n_features
    except DataFileError:
        pass
