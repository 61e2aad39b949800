"""Fits on a Dask cluster of processes: the same as in one process, however the data are divided."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from click.testing import CliRunner

from luce import SoftmaxClassifier
from luce.callbacks import Checkpoint
from luce.cli import main
from luce.errors import ClusterError, InputError

dask = pytest.importorskip("dask")
da = pytest.importorskip("dask.array")
dd = pytest.importorskip("dask.dataframe")
distributed = pytest.importorskip("distributed")

# A cluster's own threads and sockets end when they like.
pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)


@pytest.fixture(scope="module")
def cluster():
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None, memory_limit=0, silence_logs=50
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


def made(n: int = 2000, d: int = 10, c: int = 4, seed: int = 0, dtype: type = np.float64):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d))
    y = np.argmax(X @ rng.standard_normal((d, c)) * 2 + rng.gumbel(size=(n, c)), axis=1)
    return X.astype(dtype), y


def divided(values: np.ndarray, sizes: list[int]):
    """Return a Dask array with blocks of these sizes, also of none, which da.concatenate would leave out."""
    ends = np.cumsum(sizes)
    tail = (0,) * (values.ndim - 1)
    name = f"divided-{os.urandom(4).hex()}"
    parts = enumerate(np.split(values, ends[:-1]))
    graph = {(name, k, *tail): part for k, part in parts}
    return da.Array(graph, name, (tuple(sizes), *((n,) for n in values.shape[1:])), dtype=values.dtype)


def assert_same_fit(there: SoftmaxClassifier, here: SoftmaxClassifier) -> None:
    # The same path but for the order of sums: it may magnify rounding to half of the digits.
    eps = np.finfo(here.coef_.dtype).eps
    np.testing.assert_allclose(there.coef_, here.coef_, rtol=0, atol=np.sqrt(eps) * np.abs(here.coef_).max())
    assert there.loss_ == pytest.approx(here.loss_, rel=1e-9)
    assert 0 < there.gap_ <= there.tol * there.loss_
    assert there.coef_.dtype == here.coef_.dtype
    assert there.classes_.tolist() == here.classes_.tolist()


@pytest.mark.parametrize(
    ("sizes", "dtype"),
    [
        ([2000], np.float32),
        ([500] * 4, np.float64),
        ([0, 1, 0, 1998, 1, 0], np.float32),
        ([1] * 9 + [1991], float),
    ],
)
def test_any_partitioning_gives_the_fit_of_one_process(sizes, dtype, cluster):
    X, y = made(dtype=dtype)
    here = SoftmaxClassifier(C=10, tol=1e-5).fit(X, y)
    there = SoftmaxClassifier(C=10, tol=1e-5).fit(divided(X, sizes), divided(y, sizes))
    assert_same_fit(there, here)


def test_weights_sorted_classes_and_persisted_blocks(cluster):
    X, y = made(c=3)
    X, y = X[np.argsort(y)], np.sort(y)  # classes that are absent in most blocks
    weight = np.where(np.arange(2000) % 3 < 1, 0.0, np.random.default_rng(0).random(2000))
    weight[:100] = 0.0
    here = SoftmaxClassifier(class_weight="balanced").fit(X, y, weight)
    blocks = da.from_array(X, chunks=(100, 4)).persist()
    assert_same_fit(SoftmaxClassifier(class_weight="balanced").fit(blocks, y, weight), here)
    labels, weights = da.from_array(y, chunks=333), da.from_array(weight, chunks=2000)
    assert_same_fit(SoftmaxClassifier(class_weight="balanced").fit(blocks, labels, weights), here)
    here, there = (SoftmaxClassifier(l1_ratio=0.5, C=0.01, tol=1e-5).fit(X, y) for X in (X, blocks))
    assert_same_fit(there, here)


def test_data_frame_and_sparse_blocks(cluster):
    X, y = made(c=3)
    frame = pd.DataFrame(X, columns=[f"c{i}" for i in range(10)]).assign(y=[f"k{i}" for i in y])
    here = SoftmaxClassifier().fit(frame.drop(columns="y"), frame.y)
    parts = dd.from_pandas(frame, npartitions=5)
    there = SoftmaxClassifier().fit(parts.drop(columns="y"), parts.y)
    assert_same_fit(there, here)
    assert there.feature_names_in_.tolist() == here.feature_names_in_.tolist()
    Xs = np.where(X > 1, X, 0)
    sparse = da.from_array(Xs, chunks=(300, -1)).map_blocks(sp.csr_array, dtype=Xs.dtype)
    assert_same_fit(SoftmaxClassifier().fit(sparse, y), SoftmaxClassifier().fit(sp.csr_array(Xs), y))


def test_another_fit_is_the_same_and_callbacks_see_the_gap(cluster):
    X, y = made(c=40)  # many classes: L-BFGS, which takes samples and draws rows
    seen = []
    blocks = da.from_array(X, chunks=(300, -1))
    first = SoftmaxClassifier(callbacks=[lambda p: seen.append(p.gap)]).fit(blocks, y)
    second = SoftmaxClassifier().fit(da.from_array(X, chunks=(300, -1)), y)
    assert_same_fit(first, second)  # blocks may lie on other workers now, and sums be grouped otherwise
    assert seen[-1] == first.gap_


def test_bad_input_is_named(cluster):
    X, y = made(c=3)
    X[777, 3] = np.nan
    with pytest.raises(InputError, match=r"partition 2 of X\[177, 3\] is NaN"):
        SoftmaxClassifier().fit(da.from_array(X, chunks=(300, -1)), y)
    frame = dd.from_pandas(pd.DataFrame(X, columns=list("abcdefghij")), npartitions=2)
    with pytest.raises(InputError, match=r"partition 0 of X\[777, 'd'\] is NaN"):
        SoftmaxClassifier().fit(frame, dd.from_pandas(pd.Series(y), npartitions=2))
    with pytest.raises(InputError, match="'word' is of type"):
        SoftmaxClassifier().fit(frame.assign(word="a"), dd.from_pandas(pd.Series(y), npartitions=2))
    X[777, 3] = 0
    with pytest.raises(InputError, match=r"y has shape \(1999,\)"):
        SoftmaxClassifier().fit(da.from_array(X), y[:-1])
    with pytest.raises(InputError, match="one class only"):
        SoftmaxClassifier().fit(da.from_array(X), np.zeros(2000))


def test_predictions_are_dask_arrays_too(cluster):
    X, y = made(c=3, n=500)
    names = [f"c{i}" for i in range(10)]
    frame = pd.DataFrame(X, columns=names)
    for columns, source in (
        (X, divided(X, [200, 0, 300])),
        (X, da.from_array(X, chunks=(170, 4))),
        (frame, dd.from_pandas(frame, npartitions=3)),
    ):
        clf = SoftmaxClassifier(C=0.01, max_iter=5, tol=1).fit(columns, y)
        for method in ("predict", "predict_proba", "predict_log_proba", "decision_function"):
            found, expected = getattr(clf, method)(source), getattr(clf, method)(columns)
            assert isinstance(found, da.Array) and found.dtype == expected.dtype
            # blocks of other sizes are multiplied in another order
            np.testing.assert_allclose(found.compute(), expected, rtol=1e-12, atol=1e-12)
        assert clf.score(source, da.from_array(y, chunks=100)) == clf.score(columns, y)
    with pytest.raises(InputError, match=r"fitted to 10 features"):
        clf.predict(da.ones((5, 3)))


def test_a_worker_that_is_killed_changes_nothing(cluster):
    X, y = made(c=40)
    blocks = da.from_array(X, chunks=(300, -1))
    expected = SoftmaxClassifier().fit(blocks, y)
    victim = next(iter(cluster.run(os.getpid).values()))
    killed = []

    def kill(progress):
        if progress.iteration == 3:
            os.kill(victim, signal.SIGKILL)
            killed.append(progress.iteration)

    found = SoftmaxClassifier(callbacks=[kill]).fit(blocks, y)
    assert killed
    assert_same_fit(found, expected)


def test_a_cluster_without_workers_is_a_clear_error(tmp_path):
    X, y = made(c=40)
    keeper = Checkpoint(tmp_path, every=0)
    with (
        dask.config.set({"distributed.scheduler.no-workers-timeout": None}),
        distributed.LocalCluster(1, processes=False, dashboard_address=":0", silence_logs=50) as cluster,
        distributed.Client(cluster),
        dask.config.set({"distributed.scheduler.no-workers-timeout": "1s"}),  # of the fit alone
    ):

        def close(progress):
            if progress.iteration == 3:
                cluster.sync(cluster.workers[0].close, nanny=False)

        with pytest.raises(ClusterError, match=r"has had no worker for 1 s: start some"):
            SoftmaxClassifier(callbacks=[close, keeper]).fit(da.from_array(X, chunks=(300, -1)), y)
        with pytest.raises(ClusterError, match=r"has had no worker for 1 s: start some"):  # from the start
            SoftmaxClassifier().fit(da.from_array(X), y)
    resumed = SoftmaxClassifier(callbacks=[Checkpoint(tmp_path, resume=True)]).fit(X, y)  # here, in memory
    assert resumed.converged_ and resumed.history_[2]["iteration"] == 3


_SCHEDULER_LOST = """
import os, signal
import dask
import numpy as np
import dask.array as da
from distributed import Client, LocalCluster
from distributed.deploy.subprocess import SubprocessCluster
from luce import SoftmaxClassifier
from luce.errors import ClusterError

if __name__ == "__main__":
    dask.config.set({"distributed.comm.timeouts.connect": "2s"})
    cluster = SubprocessCluster(n_workers=1)
    client = Client(cluster)
    pid = client.run_on_scheduler(os.getpid)
    X = np.random.default_rng(0).standard_normal((500, 5))
    y = np.arange(500) % 40
    kill = lambda progress: os.kill(pid, signal.SIGKILL) if progress.iteration == 2 else None
    try:
        SoftmaxClassifier(C=100, tol=1e-9, callbacks=[kill]).fit(da.from_array(X, chunks=(100, 5)), y)
    except ClusterError as error:
        print(error, flush=True)
    os._exit(0)
"""


def test_a_lost_scheduler_is_a_clear_error():
    done = subprocess.run(
        [sys.executable, "-c", _SCHEDULER_LOST], capture_output=True, text=True, timeout=120
    )
    assert "the Dask scheduler at tcp://" in done.stdout and "is lost" in done.stdout, done.stderr[-2000:]


def test_luce_fit_on_a_cluster(cluster, tmp_path):
    X, y = made(c=3)
    table = pd.DataFrame(X, columns=[f"c{i}" for i in range(10)])
    table["c1"] = table.c1.mask(np.arange(2000) % 7 == 0)
    table["kind"] = np.where(X[:, 0] > 0, "up", "down")
    table["label"] = y
    for i in range(3):
        table[i * 800 : (i + 1) * 800].to_parquet(tmp_path / f"{i}.parquet")
    found = []
    for place in (["--memory", "50kB"], ["--cluster", cluster.scheduler.address]):
        arguments = ["fit", str(tmp_path / "*.parquet"), *place, "--json", "--tol", "1e-8", "-q"]
        done = CliRunner().invoke(main, arguments)
        assert done.exit_code == 0, done.output
        found.append(json.loads(done.stdout))
    assert found[1]["columns"] == found[0]["columns"]
    assert found[1]["model"]["loss"] == pytest.approx(found[0]["model"]["loss"], rel=1e-8)
    for name in ("accuracy", "log_loss"):
        assert found[1]["held_out"][name] == pytest.approx(found[0]["held_out"][name], rel=1e-5)
