"""Fits to data on disk: the same as in memory, within their memory, whatever the blocks are."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from click.testing import CliRunner
from sklearn.datasets import dump_svmlight_file

from luce import SoftmaxClassifier
from luce.blocks.cache import Cache, Scratch
from luce.blocks.disk import DiskSamples, OnDisk
from luce.blocks.memory import as_bytes
from luce.blocks.rows import Subset, rows_of
from luce.cli import main
from luce.data import large, sources
from luce.data.columns import make_pipeline
from luce.data.dataset import Layout
from luce.data.statistics import Statistics
from luce.data.words import WordCounts, Words
from luce.errors import DataFileError, InputError, LuceError
from luce.evaluation import evaluate
from luce.objective import InMemory
from luce.solvers import SGD

SMALL = 20_000  # bytes of memory: blocks of 2,500 bytes


def made(n: int = 3000, d: int = 12, c: int = 4, seed: int = 0, dtype: type = np.float64):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d))
    y = np.argmax(X @ rng.standard_normal((d, c)) + rng.gumbel(size=(n, c)), axis=1)
    return X.astype(dtype), y


@pytest.fixture
def mapped(tmp_path):
    def save(X: np.ndarray, name: str = "X.npy") -> np.memmap:
        np.save(tmp_path / name, X)
        return np.load(tmp_path / name, mmap_mode="r")

    return save


def assert_same_fit(disk: SoftmaxClassifier, memory: SoftmaxClassifier) -> None:
    # The same path but for the order of sums: it may magnify rounding to half of the digits.
    eps = np.finfo(memory.coef_.dtype).eps
    scale = np.abs(memory.coef_).max()
    np.testing.assert_allclose(disk.coef_, memory.coef_, rtol=0, atol=np.sqrt(eps) * scale)
    assert disk.loss_ == pytest.approx(memory.loss_, rel=1e-9)
    assert 0 < disk.gap_ <= disk.tol * disk.loss_
    assert disk.coef_.dtype == memory.coef_.dtype
    assert disk.classes_.tolist() == memory.classes_.tolist()


PASSES = {
    "value_and_gradient": 2,
    "hessian_product": 4,
    "divergence": 4,
    "hessian": 2,
    "class_curvature": 2,
    "class_variances": 2,
    "class_grams": 2,
    "gram": 0,
    "moments": 0,
    "class_sums": 0,
}


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("name", "pairs"), [*((name, False) for name in PASSES), ("class_grams", True)])
def test_every_pass_is_the_sum_over_blocks_of_any_size(name, pairs, weighted, sparse, tmp_path):
    X, y = made(203, 5, 3)
    X[50:80] = 0  # CSR rows without entries
    y[:100] = np.minimum(y[:100], 1)  # a class that is absent in the first blocks
    rng = np.random.default_rng(1)
    weight = rng.random(203) * (rng.random(203) < 0.7) if weighted else None
    if weight is not None:
        weight[:40] = 0
    args = [rng.standard_normal((5, 3)), rng.standard_normal(3), rng.standard_normal((5, 3)), np.zeros(3)]
    args = args[: PASSES[name]] + ([np.full(3, 0.1)] if name == "class_grams" else [])
    options = {"dtype": np.float64} if name == "gram" else {}
    if pairs:
        options["pairs"] = np.triu_indices(3, 1)
    matrix = sp.csr_array(X) if sparse else X
    cache = Cache()
    cache.append(matrix[:150])
    cache.append(matrix[150:])
    whole = InMemory(matrix, y, 3, weight).sum(name, *args, **options)
    for size in (1, 40, 700, 10**6):  # one byte: a row in each block
        disk = OnDisk(cache.rows(5), y.astype(np.int8), 3, weight, 1, size)
        for found, expected in zip(parts(disk.sum(name, *args, **options)), parts(whole), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


def parts(result: object) -> tuple:
    return result if isinstance(result, tuple) else (result,)


def test_samples_taken_from_disk_are_those_taken_from_memory(mapped):
    X, y = made(500, 6, 3)
    weight = np.random.default_rng(2).random(500)
    args = np.ones((6, 3)), np.zeros(3)
    memory = InMemory(X, y, 3, weight)
    disk = OnDisk(rows_of(mapped(X)), y, 3, weight, 1, 2000)
    order = np.random.default_rng(3).permutation(500)
    for rows in (slice(None, None, 7), slice(3, 400, 2), slice(0, 0), order[:30], order[:400]):
        few, there = disk.take(rows), memory.take(rows)
        assert (few.n_samples, few.least_weight) == (there.n_samples, there.least_weight)
        assert few.total_weight == pytest.approx(there.total_weight, rel=1e-14)
        assert isinstance(few, InMemory) == (few.n_samples * 6 * 8 <= 2000)
        for found, expected in zip(
            few.sum("value_and_gradient", *args), there.sum("value_and_gradient", *args), strict=True
        ):
            np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", ["few", "many classes", "l1", "weights", "sgd"])
def test_fit_to_a_mapped_file_is_the_fit_in_memory(case, dtype, mapped):
    X, y = made(c=30 if case == "many classes" else 4, d=20, dtype=dtype)
    weight = None
    options: dict = {"tol": 1e-3 if case == "sgd" else 1e-5}
    if case == "weights":
        weight = np.where(np.arange(len(y)) % 5 < 2, 0.0, np.arange(len(y)) % 7)
        options["class_weight"] = "balanced"
    elif case == "l1":
        options |= {"l1_ratio": 0.5, "C": 0.05}
    elif case == "sgd":
        options["solver"] = SGD(epochs=2, batch_size=100, random_state=0)
    memory = SoftmaxClassifier(**options).fit(X, y, weight)
    disk = SoftmaxClassifier(memory=SMALL, **options).fit(mapped(X), y, weight)
    if case == "sgd":  # the samples of a batch are summed in another order
        np.testing.assert_allclose(disk.coef_, memory.coef_, rtol=0, atol=1e-4)
    else:
        assert_same_fit(disk, memory)
    assert disk.n_features_in_ == 20


@pytest.mark.parametrize(
    "view",
    [
        lambda M: M[17:2900],
        lambda M: M[:, 1:9],
        lambda M: M[::2],
        np.asfortranarray,
        lambda M: M.astype(">f8"),
        lambda M: (M * 20).astype(np.int16),
    ],
)
def test_views_orders_and_types_of_a_mapped_file(view, mapped):
    X, y = made()
    M = view(mapped(X))
    if not isinstance(M, np.memmap) or M.filename is None or not np.shares_memory(M, M.base):
        M = mapped(np.array(M, order="K"), "V.npy")
    y = y[: len(M)]
    assert_same_fit(SoftmaxClassifier(memory=SMALL).fit(M, y), SoftmaxClassifier().fit(np.array(M), y))


def test_zarr(tmp_path):
    zarr = pytest.importorskip("zarr")
    X, y = made()
    Z = zarr.create_array(str(tmp_path / "X.zarr"), data=X, chunks=(700, 5))
    assert_same_fit(SoftmaxClassifier(memory=SMALL).fit(Z, y), SoftmaxClassifier().fit(X, y))
    assert_same_fit(SoftmaxClassifier().fit(Z, y), SoftmaxClassifier().fit(X, y))  # small: loaded

    def spoil(progress):
        Z[:700] = 0.0

    with pytest.raises(DataFileError, match="was changed while it was in use"):
        SoftmaxClassifier(memory=SMALL, callbacks=[spoil]).fit(Z, y)


def test_predictions_read_blocks_of_a_file(mapped, tmp_path, monkeypatch):
    monkeypatch.setattr("luce.blocks.apply._BLOCK", 7000)
    X, y = made(c=3, dtype=np.float32)
    clf = SoftmaxClassifier(C=0.01).fit(X, y)
    zarr = pytest.importorskip("zarr")
    chunks = zarr.create_array(str(tmp_path / "X.zarr"), data=X, chunks=(700, 5))
    for method in ("predict", "predict_proba", "predict_log_proba", "decision_function"):
        expected = getattr(clf, method)(X)
        for source in (mapped(X), mapped(X)[::-1], chunks):
            found = getattr(clf, method)(source)
            assert type(found) is np.ndarray and found.dtype == expected.dtype
            if isinstance(source, np.memmap) and source.strides[0] < 0:
                found = found[::-1]
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)  # blocks are multiplied alone
    assert clf.score(chunks, y) == clf.score(X, y)
    X[2345, 7] = np.nan
    with pytest.raises(DataFileError, match=r"X\.npy: X\[2345, 7\] is NaN"):
        clf.predict(mapped(X))
    with pytest.raises(InputError, match="fitted to 12 features"):
        clf.predict(mapped(X[:, 1:]))


@pytest.mark.parametrize("shape", [(50, 12), (50, 3, 4), (50, 13)])
def test_rows_of_an_array_come_in_batches(shape, tmp_path):
    X = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    X[41].flat[7] = np.nan
    path = str(tmp_path / "X.npy")
    np.save(path, X[:41])
    layout = Layout("matrix", 12, target="5" if shape[1:] == (13,) else None)
    found = np.concatenate([batch.X for batch in sources.batches(path, layout, rows=20)])
    expected = np.delete(X, 5, axis=1) if shape[1:] == (13,) else X.reshape(50, 12)
    np.testing.assert_array_equal(found, expected[:41])
    np.save(path, X)
    with pytest.raises(DataFileError, match=r"X\.npy: row 42, column 7 \(from 0\) is nan"):
        list(sources.batches(path, layout, rows=20))


def test_two_fits_give_the_same_bits(mapped):
    X, y = made(c=30)
    M = mapped(X)
    first, second = (SoftmaxClassifier(memory=SMALL, n_threads=1).fit(M, y) for _ in range(2))
    assert first.coef_.tobytes() == second.coef_.tobytes()


def test_bad_input_is_named(mapped, tmp_path):
    X, y = made()
    X[2345, 7] = np.nan
    with pytest.raises(DataFileError, match=r"X\.npy: X\[2345, 7\] is NaN"):
        SoftmaxClassifier(memory=SMALL).fit(mapped(X), y)
    rows = Subset(rows_of(mapped(X)), np.arange(1, 3000, 2))
    with pytest.raises(DataFileError, match=r"X\[2345, 7\] is NaN"):
        SoftmaxClassifier().fit(DiskSamples(rows, SMALL), y[1::2])
    X[2345, 7] = 0
    with pytest.raises(ValueError, match="inconsistent"):
        SoftmaxClassifier(memory=SMALL).fit(mapped(X), y[:-1])
    with pytest.raises(InputError, match="one class only"):
        SoftmaxClassifier(memory=SMALL).fit(mapped(X), np.zeros(3000))
    with pytest.raises(InputError, match="memory = 'much'"):
        SoftmaxClassifier(memory="much").fit(mapped(X), y)
    with pytest.raises(InputError, match="2-D"):
        SoftmaxClassifier(memory=SMALL).fit(mapped(X.reshape(3000, 3, 4)), y)


@pytest.mark.parametrize("change", ["touched", "cut", "gone"])
def test_a_file_that_changes_between_passes_is_noticed(change, mapped, tmp_path):
    X, y = made()
    path = tmp_path / "X.npy"

    def spoil(progress):
        if change == "touched":
            os.utime(path, ns=(1, 1))
        elif change == "cut":
            os.truncate(path, 5000)
        else:
            path.unlink()

    M = mapped(X)
    with pytest.raises(DataFileError, match=r"X\.npy: was changed while it was in use"):
        SoftmaxClassifier(memory=SMALL, callbacks=[spoil]).fit(M, y)


def test_sizes():
    assert [as_bytes(s) for s in ("1GiB", "1.5 kB", "7", 8)] == [2**30, 1500, 7, 8]
    assert as_bytes() == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 4


_MEASURED = """
import re, sys
from pathlib import Path
import numpy as np
from luce import SoftmaxClassifier

def peak():  # ru_maxrss would be the parent's, from before it started this program
    return 1024 * int(re.search(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text())[1])

X, y = np.random.default_rng(0).standard_normal((2000, 256)).astype(np.float32), np.arange(2000) % 5
SoftmaxClassifier(max_iter=30).fit(X, y)  # imports, threads and what BLAS keeps for itself
before = peak()
X, y = np.load(sys.argv[1], mmap_mode="r"), np.load(sys.argv[2])
model = SoftmaxClassifier(memory=int(sys.argv[3]), tol=1e-2).fit(X, y)
assert model.converged_, model.status_
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells the peak")
def test_peak_memory_stays_below_the_bound_on_data_ten_times_larger(tmp_path):
    bound, d = 24 << 20, 256
    n = 10 * bound // (4 * d)
    rng = np.random.default_rng(0)
    X = np.lib.format.open_memmap(tmp_path / "X.npy", "w+", np.float32, (n, d))
    y = np.empty(n, np.int64)
    for start in range(0, n, 8192):
        block = rng.standard_normal((min(8192, n - start), d), dtype=np.float32)
        X[start : start + 8192] = block
        y[start : start + 8192] = np.argmax(block[:, :5] + rng.gumbel(size=(len(block), 5)), axis=1)
    del X
    np.save(tmp_path / "y.npy", y)
    arguments = [str(tmp_path / "X.npy"), str(tmp_path / "y.npy"), str(bound)]
    done = subprocess.run(
        [sys.executable, "-c", _MEASURED, *arguments], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert 0 < int(done.stdout) <= bound


_COMMAND = """
import re, sys
from pathlib import Path
from luce.cli import main
main(["fit", *sys.argv[1:], "--json", "--tol", "0.1", "-q"], standalone_mode=False)
print(re.search(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text())[1])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells the peak")
@pytest.mark.parametrize("fmt", ["parquet", "feather"])
def test_a_table_ten_times_larger_than_the_bound_is_fitted_within_it(fmt, tmp_path):
    bound, d = 8 << 20, 32  # one row group: a page of each column, stored and decoded, takes 64 MiB
    n = 10 * bound // (4 * d)
    rng = np.random.default_rng(0)

    def save(name: str, rows: int) -> str:
        X = pd.DataFrame(rng.standard_normal((rows, d), dtype=np.float32)).rename(columns="x{}".format)
        X["label"] = np.where(X.x0 + rng.gumbel(size=rows) > 0, "yes", "no")
        (tmp_path / name).mkdir()
        getattr(X, "to_parquet" if fmt == "parquet" else "to_feather")(tmp_path / name / f"a.{fmt}")
        return str(tmp_path / name)

    def peak(*arguments: str) -> int:
        done = subprocess.run(
            [sys.executable, "-c", _COMMAND, *arguments], capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr
        return 1024 * int(done.stdout.split()[-1])

    small, large = save("small", 2000), save("large", n)
    above = peak(large, "--memory", str(bound)) - peak(small, "--memory", "100kB")
    beside = 20 * n + (8 << 20)  # labels and numbers of the rows; what Arrow and the allocators keep
    if fmt == "feather":
        beside += 65536 * 4 * (d + 1)  # a record batch, compressed, is the least that can be read
    assert 0 < above <= bound + beside


def mixed_table(n: int = 3000) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    table = pd.DataFrame({f"x{i}": rng.standard_normal(n) * 10.0**i + i for i in range(3)})
    table["x1"] = table.x1.mask(rng.random(n) < 0.1)
    names = [f"k{i}" for i in range(100)]
    table["code"] = pd.Categorical.from_codes(rng.zipf(1.5, n).clip(1, 100) - 1, names)
    table["kind"] = np.where(rng.random(n) < 0.05, None, rng.choice(["u", "v", "w"], n))
    table["const"] = 3
    score = table.x0 + table.code.cat.codes / 20 + rng.standard_normal(n)
    table["label"] = np.where(score > 0.5, "yes", np.where(rng.random(n) < 0.5, "no", "maybe"))
    return table


def saved_in_parts(table: pd.DataFrame, folder: Path) -> str:
    folder.mkdir()
    for i in range(3):
        table[i * 1500 : (i + 1) * 1500].to_parquet(folder / f"part{i}.parquet", row_group_size=400)
    return str(folder)


def test_a_table_read_as_a_stream_is_encoded_as_in_memory(tmp_path):
    table = mixed_table()
    folder = saved_in_parts(table, tmp_path / "parts")
    data = large.read(folder, None, 200_000)
    assert data is not None and len(data) == len(table)
    train = np.flatnonzero(np.arange(len(table)) % 4 > 0)
    pipeline, rows = large.fit(data.rows(train), SoftmaxClassifier(tol=1e-8), 200_000)
    X = table.drop(columns="label")
    expected = make_pipeline(X.iloc[train], SoftmaxClassifier(tol=1e-8))
    expected.fit(X.iloc[train], table.label.to_numpy()[train])
    np.testing.assert_allclose(dense(rows.read(0, len(table))), dense(expected[:-1].transform(X)), atol=1e-12)
    assert pipeline["table"].missing_ == expected["table"].missing_
    assert pipeline[-1].loss_ == pytest.approx(expected[-1].loss_, rel=1e-9)
    np.testing.assert_allclose(pipeline.predict_proba(X), expected.predict_proba(X), atol=1e-5)
    assert large.read(folder, None, 10**9) is None  # small enough to be loaded


def dense(X: object) -> np.ndarray:
    return X.toarray() if sp.issparse(X) else np.asarray(X)


def test_temporary_files_that_a_killed_program_left_are_removed(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    code = "import os, luce.blocks.cache as c; s = c.Scratch(); os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", code], check=False)
    (left,) = tmp_path.iterdir()
    mine = Scratch()
    assert not left.exists()
    other = Scratch()
    assert mine.path.exists() and other.path.exists()
    del mine, other
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    cache = Cache()
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, most))
    try:
        with pytest.raises(
            LuceError, match=r"luce-.*: File too large; name a folder with more room in TMPDIR"
        ):
            cache.append(np.ones((1000, 1)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
        signal.signal(signal.SIGXFSZ, before)


def test_files_of_a_folder_that_differ(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(4):
        table = pd.DataFrame({"x": rng.standard_normal(900), "label": np.arange(900) % 2 == 0})
        table["k"] = pd.Categorical(rng.choice(["u", "v", f"only {i}"], 900))  # dictionaries differ
        if i == 1:
            table["x"] = np.arange(900)  # integers among decimals
        table[: 0 if i == 2 else 900].to_parquet(tmp_path / f"{i}.parquet")
    found = []
    for memory in ("20kB", "1GB"):
        arguments = ["fit", str(tmp_path), "--memory", memory, "--json", "-q", "--tol", "1e-8"]
        done = CliRunner().invoke(main, arguments)
        assert done.exit_code == 0, done.output
        found.append(json.loads(done.stdout))
    assert found[0]["data"]["rows"] == 2700
    assert found[0]["model"]["loss"] == pytest.approx(found[1]["model"]["loss"], rel=1e-8)
    for spoilt, message in (
        (table.drop(columns="x"), r"4\.parquet: has no column 'x', which .*0\.parquet has"),
        (table.assign(x="oops"), r"4\.parquet: has a column of another type .* x "),
        (table.assign(label=None), r"'label' has no label in row 2701"),
    ):
        spoilt.to_parquet(tmp_path / "4.parquet")
        for memory in (20_000, 10**9):
            with pytest.raises(DataFileError, match=message):
                large.read(str(tmp_path), None, memory) or sources.read(str(tmp_path))


def test_a_csv_column_whose_type_changes_late_is_read_as_in_memory(tmp_path):
    rows = [f"{i},{i % 7},,{i % 2}" for i in range(40_000)]
    rows[-2] = "1.5,oops,2.5,1"
    path = tmp_path / "a.csv"
    path.write_text("\n".join(["x,k,late,label", *rows]) + "\n")
    found, whole = large.read(str(path), None, 250_000), sources.read(str(path))
    assert found is not None and found.layout.types == whole.layout.types == ("number", "text", "number")
    frame = pd.concat([frame for _, frame in found.X.batches()])
    pd.testing.assert_frame_equal(frame, whole.X)
    np.testing.assert_array_equal(found.classes[found.y], whole.y)
    rows[-2] = "1,2"
    path.write_text("\n".join(["x,k,late,label", *rows]) + "\n")
    with pytest.raises(DataFileError, match=r"a.csv: row 39999 has 2 columns where the first line has 4"):
        large.read(str(path), None, 250_000)


def written_table(rows: int) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    words = np.array([f"w{i}" for i in range(300)])
    mood = rng.integers(0, 3, rows)
    texts = [" ".join(words[(100 * m + rng.zipf(1.5, rng.integers(3, 12))) % 300]) for m in mood]
    return pd.DataFrame({"review": texts, "size": rng.standard_normal(rows), "mood": mood})


@pytest.mark.parametrize("most", [100_000, 150])
def test_text_has_the_words_and_weights_of_memory(most, tmp_path, monkeypatch):
    monkeypatch.setattr("luce.data.words.MAX_WORDS", most)
    monkeypatch.setattr("luce.data.words._ROOM", 80)  # the counts of all others lie on disk
    monkeypatch.setattr("luce.data.words._RUNS", 3)
    table, path = written_table(2000), str(tmp_path / "t.parquet")
    table.to_parquet(path)
    train = large.read(path, "mood", 30_000)
    disk, _ = large.fit(train, SoftmaxClassifier(tol=1e-6, solver="lbfgs", memory=30_000), 30_000)
    X = table.drop(columns="mood")
    whole = make_pipeline(X, SoftmaxClassifier(tol=1e-6, solver="lbfgs")).fit(X, table["mood"])
    found, expected = (pipeline["encode"].named_transformers_["text"] for pipeline in (disk, whole))
    assert found.vocabulary_ == expected.vocabulary_ and found.get_params() == expected.get_params()
    assert 150 <= len(found.vocabulary_) <= most
    np.testing.assert_array_equal(found.idf_, expected.idf_)
    assert_same_fit(disk[-1], whole[-1])


def test_words_are_counted_alike_in_parts_and_as_a_whole(monkeypatch):
    monkeypatch.setattr("luce.data.words._ROOM", 40)
    monkeypatch.setattr("luce.data.words._RUNS", 2)
    texts = written_table(400)["review"].tolist()
    step, counts = Words(ngram_range=(1, 2), min_df=2), WordCounts()
    for start in range(0, 400, 30):
        counts.update(step.rows_with(texts[start : start + 30]))
    assert list(counts.items()) == sorted(step.rows_with(texts).items())
    assert dict(counts.items()) == {
        word: sum(f" {word} " in f" {text} " for text in texts) for word, _ in counts.items()
    }


def test_statistics_of_parts_add_up(tmp_path):
    frame = mixed_table(500).drop(columns="label")
    pipeline = make_pipeline(frame, None)
    kinds, encode = pipeline["table"].columns, pipeline["encode"]
    whole = Statistics.of(frame, kinds, encode)
    total = Statistics()
    for part in (frame[:0], frame[:1], frame[1:3], frame[3:]):
        if len(part):
            total.update(Statistics.of(part, kinds, encode))
    assert total.rows == 500 and total.missing == Counter(whole.missing)
    assert total.categories == whole.categories
    for name, numbers in whole.numbers.items():
        assert total.numbers[name].count == numbers.count
        assert total.numbers[name].mean == pytest.approx(frame[name].mean(), rel=1e-13)
        assert total.numbers[name].squares == pytest.approx(
            frame[name].var(ddof=0) * numbers.count, rel=1e-11
        )


@pytest.mark.parametrize(
    "fmt", ["npy", "pixels", "column", "svm", "zarr", "parquet", "pattern", "arrow", "csv"]
)
def test_luce_fit_reads_from_disk_what_memory_does_not_hold(fmt, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    X, y = made(1500, 8, 3)
    table = pd.DataFrame(X, columns=[f"c{i}" for i in range(8)]).assign(label=y)
    table.loc[::7, "c2"] = np.nan
    source = [str(tmp_path / f"X.{fmt}")]
    if fmt == "npy":
        np.save(source[0], X)
        np.save(tmp_path / "y.npy", y)
    elif fmt == "pixels":
        source = [str(tmp_path / "X.npy")]
        np.save(source[0], (40 * X + 128).clip(0, 255).astype(np.uint8))
        np.save(tmp_path / "y.npy", y)
    elif fmt == "column":
        source = [str(tmp_path / "Z.npy"), "--target", "3"]
        np.save(source[0], np.insert(X, 3, y, axis=1))
    elif fmt == "svm":
        dump_svmlight_file(np.where(X > 1, X, 0), y, source[0], zero_based=False)
    elif fmt == "zarr":
        group = pytest.importorskip("zarr").open_group(source[0], mode="w")
        group.create_array("X", data=X, chunks=(400, 8))
        group.create_array("y", data=y)
    elif fmt == "csv":
        text = table.assign(whole=1).to_csv(index=False).replace(",1\n", ",1.5\n")
        Path(source[0]).write_text(text[: len(text) // 2].replace(",1.5\n", ",1\n") + text[len(text) // 2 :])
    elif fmt == "pattern":
        saved_in_parts(table, tmp_path / "parts")
        source = [str(tmp_path / "parts" / "*.parquet")]
    else:
        table.to_parquet(source[0]) if fmt == "parquet" else table.to_feather(source[0])
    model = str(tmp_path / "model.luce")

    def run(*arguments: str) -> list[dict]:
        found = []
        for memory in ("1GB", "10kB" if fmt == "pixels" else "30kB"):
            done = CliRunner().invoke(main, [*arguments, "--memory", memory, "--json", "-q"])
            assert done.exit_code == 0, done.output
            found.append(json.loads(done.stdout))
        return found

    fitted = run("fit", *source, "--tol", "1e-8", "-o", model)
    assert fitted[1]["data"]["rows"] == 1500
    assert fitted[1]["model"]["loss"] == pytest.approx(fitted[0]["model"]["loss"], rel=1e-8)
    evaluated = run("evaluate", model, source[0])
    assert evaluated[1]["rows"] == 1500
    validated = [result["held_out"] for result in run("fit", *source, "--tol", "1e-8", "--valid", source[0])]
    for one, other in ([result["held_out"] for result in fitted], evaluated, validated):
        for name in ("accuracy", "log_loss"):
            assert other[name] == pytest.approx(one[name], rel=1e-5)


def test_tables_on_disk_are_measured_row_by_row(tmp_path):
    folder = saved_in_parts(mixed_table(), tmp_path / "parts")
    part = np.flatnonzero(np.arange(3000) % 3 == 1)
    whole = sources.read(folder)
    found = large.read(folder, None, 200_000, whole.layout)
    assert found is not None
    pipeline = make_pipeline(whole.X, SoftmaxClassifier()).fit(whole.X, whole.y)
    even = np.full(3, 1 / 3)
    for data, expected in ((found, whole), (found.rows(part), whole.rows(part))):
        of_disk, of_memory = evaluate(pipeline, data, even, rows=100), evaluate(pipeline, expected, even)
        np.testing.assert_array_equal(of_disk.confusion, of_memory.confusion)
        assert of_disk.log_loss == pytest.approx(of_memory.log_loss, rel=1e-12)


@pytest.mark.parametrize("fmt", ["npy", "parquet"])
def test_a_fit_that_began_in_memory_goes_on_from_disk(fmt, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    X, y = made(1500, 8, 3)
    source = str(tmp_path / f"X.{fmt}")
    if fmt == "npy":
        np.save(source, X)
        np.save(tmp_path / "y.npy", y)
    else:
        frame = pd.DataFrame(X).mask(X > 2)  # missing cells become the same mean
        frame.rename(columns="c{}".format).assign(label=y).to_parquet(source)
    fit = ["fit", source, "--checkpoint", str(tmp_path / "kept"), "--json", "--solver", "lbfgs"]
    assert CliRunner().invoke(main, [*fit, "--max-iter", "3", "--tol", "1e-9"]).exit_code == 4
    done = CliRunner().invoke(main, [*fit, "--resume", "--memory", "30kB"])
    assert done.exit_code == 0 and "going on from" in done.stderr, done.stderr
    assert CliRunner().invoke(main, [*fit, "--max-iter", "3", "--tol", "1e-9"]).exit_code == 4
    np.save(source, X[::-1]) if fmt == "npy" else pd.read_parquet(source)[::-1].to_parquet(source)
    done = CliRunner().invoke(main, [*fit, "--resume", "--memory", "30kB"])
    assert done.exit_code == 3 and "the content of DATA is" in done.stderr


def test_a_report_of_data_on_disk_is_refused(tmp_path):
    np.save(tmp_path / "X.npy", made()[0])
    np.save(tmp_path / "y.npy", made()[1])
    arguments = ["fit", str(tmp_path / "X.npy"), "--memory", "10kB", "--report", str(tmp_path / "r.html")]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 3 and "--report needs data in memory" in done.stderr
