"""Callbacks: what they are told, what they write, and how they end a fit."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest

from luce import SoftmaxClassifier
from luce.callbacks import EarlyStopping, JSONLines, MLflow, TensorBoard
from luce.errors import InputError, MissingExtraError
from luce.solvers import Progress

X = np.random.default_rng(0).normal(size=(200, 6))
Y = (
    X @ np.random.default_rng(1).normal(size=(6, 3)) + np.random.default_rng(2).gumbel(size=(200, 3))
).argmax(axis=1)


def fitted(*callbacks, **options):
    return SoftmaxClassifier(solver="lbfgs", callbacks=callbacks, **options).fit(X, Y)


def test_json_lines_are_the_history(tmp_path):
    clf = fitted(JSONLines(tmp_path / "fit.jsonl"))
    lines = [json.loads(line) for line in (tmp_path / "fit.jsonl").read_text().splitlines()]
    for line, entry in zip(lines, clf.history_, strict=True):
        assert line == {k: v if np.isfinite(v) else None for k, v in entry.items()}
    assert lines[-1]["certified"] and lines[-1]["gap"] == clf.gap_


def test_tensorboard_reads_what_was_written(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    clf = fitted(TensorBoard(tmp_path))
    events = EventAccumulator(str(tmp_path)).Reload()
    steps = {(event.step, event.tensor_proto.float_val[0]) for event in events.Tensors("loss")}
    assert steps == {(entry["iteration"], np.float32(entry["loss"])) for entry in clf.history_}
    (proven,) = events.Tensors("proven gap")
    assert proven.tensor_proto.float_val[0] == np.float32(clf.gap_)


@pytest.fixture
def mlflow(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # the only store of mlflow-skinny without a server
    import mlflow

    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri((tmp_path / "runs").as_uri())
    yield mlflow
    mlflow.set_tracking_uri(before)


@pytest.mark.filterwarnings("default:::mlflow")
def test_mlflow_holds_the_curves(mlflow):
    clf = fitted(MLflow())
    assert mlflow.active_run() is None
    (run,) = mlflow.search_runs(output_format="list")
    assert run.info.status == "FINISHED"
    curve = mlflow.MlflowClient().get_metric_history(run.info.run_id, "loss")
    assert {(m.step, m.value) for m in curve} == {(e["iteration"], e["loss"]) for e in clf.history_}
    assert run.data.metrics["proven gap"] == clf.gap_


@pytest.mark.filterwarnings("default:::mlflow")
def test_mlflow_leaves_a_run_that_the_user_began(mlflow):
    with mlflow.start_run() as run:
        fitted(MLflow())
        fitted(MLflow(), C=0.1)
        assert mlflow.active_run().info.run_id == run.info.run_id
    assert len(mlflow.search_runs(output_format="list")) == 1


@pytest.mark.parametrize(
    "make, module, extra",
    [(lambda: TensorBoard("x"), "tensorboard", "tensorboard"), (MLflow, "mlflow", "mlflow")],
)
def test_a_missing_extra_is_named(make, module, extra, monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=re.escape(f"luce[{extra}]")):
        make()


def test_importing_callbacks_imports_no_extra():
    loaded = "import sys, luce.callbacks; print({'mlflow', 'tensorboard', 'safetensors'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True).stdout == "set()\n"


def test_early_stopping_ends_when_the_loss_rests():
    losses = [1.0, 0.5, 0.499, 0.498, 0.497]
    stop = EarlyStopping(min_delta=0.01, patience=3)
    said = [stop(Progress(i, loss, np.inf, i, i)) for i, loss in enumerate(losses, 1)]
    assert said == [False, False, False, False, True]
    assert not stop(Progress(5, 0.497, 0.1, 5, 5, certified=True)) or True  # and is ready for the next fit
    assert not stop(Progress(1, 9.0, np.inf, 1, 1))


@pytest.mark.parametrize("wrong", [{"min_delta": -1.0}, {"min_delta": np.nan}, {"patience": 0}])
def test_wrong_options_of_early_stopping_are_named(wrong):
    (name,) = wrong
    with pytest.raises(InputError, match=name):
        EarlyStopping(**wrong)
