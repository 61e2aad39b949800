"""Callbacks: what they are told, what they write, and how they end a fit."""

import io
import json
import re
import subprocess
import sys

import numpy as np
import pytest

from luce import SoftmaxClassifier
from luce.callbacks import EarlyStopping, JSONLines, MLflow, TensorBoard
from luce.errors import InputError, MissingExtraError
from luce.progress import ProgressLine, time_left
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


def test_a_log_that_cannot_be_written(tmp_path):
    with pytest.raises(InputError, match="cannot be written: No such file"):
        JSONLines(tmp_path / "absent" / "fit.jsonl")
    with pytest.warns(UserWarning, match="not all lines were written: No space left"):
        assert fitted(JSONLines("/dev/full")).converged_


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
    stop(Progress(5, 0.497, 0.1, 5, 5, certified=True))  # the fit is over
    assert not stop(Progress(1, 9.0, np.inf, 1, 1))  # and the next one starts afresh


@pytest.mark.parametrize("wrong", [{"min_delta": -1.0}, {"min_delta": np.nan}, {"patience": 0}])
def test_wrong_options_of_early_stopping_are_named(wrong):
    (name,) = wrong
    with pytest.raises(InputError, match=name):
        EarlyStopping(**wrong)


@pytest.mark.parametrize("rate", [0.5, 0.05])
def test_time_left_of_a_steady_fall(rate):
    noise = np.random.default_rng(0).normal(0, 0.1, 60)
    gaps = [(float(s), float(np.exp(-rate * s + e))) for s, e in enumerate(noise)]
    target = np.exp(-rate * 100)
    # the slope of 30 points is off by 0.1 / sqrt(30^3 / 12) = 0.002, which is 4 % of the smaller rate
    assert time_left(gaps, target) == pytest.approx(100 - 59, rel=0.15)


@pytest.mark.parametrize(
    "gaps, tol",
    [
        ([(float(s), 0.1) for s in range(20)], 1e-4),  # does not fall
        ([(float(s), 0.1 * 2.0**s) for s in range(20)], 1e-4),
        ([(float(s), 0.1 - 1e-5 * s) for s in range(20)], 1e-4),  # hardly falls
        ([(float(s), 0.5**s) for s in range(3)], 1e-4),  # too few
        ([(float(s), 0.5**s) for s in range(20)], 0.0),
        ([(1.0, 0.5**s) for s in range(20)], 1e-4),
    ],
)
def test_no_time_left_where_none_can_be_told(gaps, tol):
    assert time_left(gaps, tol) is None


class Terminal(io.StringIO):
    def isatty(self):
        return True


def long_fit(monkeypatch, stream, tol=1e-4):
    """Let a fit of a minute pass before a progress line, and return what it wrote."""
    clock = [0.0]
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr("luce.progress.time.perf_counter", lambda: clock[0])
    line = ProgressLine(tol=tol)
    for i in range(1, 601):
        clock[0] = 0.1 * i
        line(Progress(i, 1.0, float(np.exp(-0.01 * i)), i, clock[0]))
    line(Progress(600, 1.0, 1e-4, 601, 60.1, certified=True))
    return stream.getvalue()


def test_one_line_on_a_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    written = long_fit(monkeypatch, Terminal())
    lines = written.removesuffix("\n").split("\r")[1:]
    assert "\n" not in written[:-1] and all(len(line) == 79 for line in lines)
    # every 0.2 s from the third second on; after a minute the gap is e^-6, and tol e^-9.2 is 32 s away
    assert 200 < len(lines) <= 292
    assert lines[-2].split("  ")[1:4] == ["loss 1", "gap ~2.5e-03", "~30 s left"]
    assert lines[-1].split("  ")[2] == "proven gap 1.0e-04"


def test_few_lines_off_a_terminal(monkeypatch):
    lines = long_fit(monkeypatch, io.StringIO()).splitlines()
    assert len(lines) == 6 and all("left" in line for line in lines[1:])


def test_a_short_fit_is_silent(capsys):
    fitted(verbose=1)
    assert capsys.readouterr().err == ""
