"""Fits that are cut off, in every way that there is, and go on.

``LUCE_KILLS=100 pytest tests/test_checkpoint.py -k kill`` kills more often.
"""

import json
import os
import signal
import subprocess
import sys
import time
import warnings

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import save_file

from interrupted import CONTEXT, data, fit, fit_on_a_full_disk
from luce import SoftmaxClassifier, softmax_path
from luce.callbacks import Checkpoint
from luce.checkpoint import _read
from luce.cli import main
from luce.cli.resuming import Duration
from luce.errors import InputError, LuceError, ModelFileError
from luce.solvers import SGD

KILLS = int(os.environ.get("LUCE_KILLS", "20"))
X, Y = data()
SOLVERS = {"lbfgs": {}, "newton": {}, "proximal": {"l1_ratio": 0.5}, "auto": {"fit_intercept": False}}


def news():
    """Return a list, and options that make a checkpoint speak to it."""
    said = []
    return said, {"say": said.append, "warn": said.append}


def fitted(*callbacks, X=X, Y=Y, sample_weight=None, **options):
    clf = SoftmaxClassifier(
        **{"C": 10.0, "n_threads": 1, "random_state": 0, "callbacks": callbacks, **options}
    )
    with warnings.catch_warnings(action="ignore"):  # of fits that are stopped
        return clf.fit(X, Y, sample_weight)


def cut_off(folder, at=4, **options):
    """Fit up to an iteration."""
    return fitted(Checkpoint(folder, 0.0), lambda now: now.iteration == at, **options)


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_resumed_fit_ends_at_the_same_objective(tmp_path, solver):
    options = {"solver": solver, "tol": 1e-8, **SOLVERS[solver]}
    whole = fitted(**options)
    part = cut_off(tmp_path, **options)
    said, speak = news()
    resumed = fitted(Checkpoint(tmp_path, resume=True, **speak), **options)
    assert resumed.converged_ and resumed.n_iter_[0] > 4
    assert resumed.loss_ == pytest.approx(whole.loss_, rel=1e-8)  # tol, which both are proven to be within
    entry = part.history_[3]
    assert said == [
        f"going on from {tmp_path / 'checkpoint.safetensors'}: iteration 4, {entry['passes']:.0f} passes, "
        f"{entry['seconds']:.1f} s, loss {entry['loss']:.6g}"
    ]
    assert resumed.history_[:4] == part.history_[:4]
    for before, after in zip(resumed.history_, resumed.history_[1:], strict=False):
        assert after["passes"] >= before["passes"] and after["seconds"] > before["seconds"]
        assert after["iteration"] == before["iteration"] + (not after["certified"])


@pytest.mark.parametrize("cut", [1, 7, 12])
@pytest.mark.parametrize(
    "options", [{}, {"validation_fraction": 0.2, "patience": 3}, {"schedule": "constant", "batch_size": None}]
)
def test_sgd_goes_on_bit_by_bit(tmp_path, options, cut):
    solver = SGD(epochs=12, random_state=3, **options)
    whole = fitted(solver=solver)
    cut_off(tmp_path, at=cut, solver=solver)
    resumed = fitted(Checkpoint(tmp_path, resume=True, say=lambda _: None), solver=solver)
    assert np.array_equal(resumed.coef_, whole.coef_)
    assert [e["loss"] for e in resumed.history_] == [e["loss"] for e in whole.history_]


def test_sgd_without_a_seed_goes_on_with_the_samples_it_had(tmp_path):
    solver = SGD(epochs=6, validation_fraction=0.2)
    np.random.seed(5)  # noqa: NPY002 - what scikit-learn draws from without a seed
    whole = fitted(solver=solver)
    np.random.seed(5)  # noqa: NPY002
    cut_off(tmp_path, at=3, solver=solver)
    resumed = fitted(Checkpoint(tmp_path, resume=True, say=lambda _: None), solver=solver)
    assert np.array_equal(resumed.coef_, whole.coef_)


def changed(i, j, by):
    other = X.copy()
    other[i, j] += by
    return other


def swapped():
    other = Y.copy()
    i, j = 0, int(np.argmax(Y[0] != Y))
    other[i], other[j] = other[j], other[i]
    return other


@pytest.mark.parametrize(
    "differing, named",
    [
        ({"X": X[:-1], "Y": Y[:-1]}, "number of rows is 400 there and 399 here"),
        ({"X": X[:, :-1]}, "number of features is 30 there and 29 here"),
        ({"Y": np.minimum(Y, 3)}, "number of classes is 5 there and 4 here"),
        ({"X": X.astype(np.float32)}, "dtype of the features is float64 there and float32 here"),
        ({"X": changed(17, 4, 0.5)}, "mean square of each feature differs, first in number 5"),
        ({"X": -X}, "which rows have which labels differs"),
        ({"Y": swapped()}, "which rows have which labels differs"),
        ({"Y": np.where(np.arange(400) == 7, (Y + 1) % 5, Y)}, "share of each class differs"),
        ({"sample_weight": np.full(400, 2.0)}, "weights is 400.0 there and 800.0 here"),
        ({"C": 11.0}, r"squared penalty, reg = 1 / \(C N\) is 0.00025 there and"),
        ({"C": np.inf}, "squared penalty"),
        ({"l1_ratio": 0.5}, "absolute penalty is 0.0 there and"),
        ({"fit_intercept": False}, "fit_intercept is True there and False here"),
        ({"solver": "newton"}, "solver is LBFGS there and Newton here"),
    ],
)
def test_other_data_and_options_are_refused(tmp_path, differing, named):
    cut_off(tmp_path, solver="lbfgs")
    before = (tmp_path / "checkpoint.safetensors").read_bytes()
    options = {"solver": "proximal" if "l1_ratio" in differing else "lbfgs", **differing}
    with pytest.raises(InputError, match=named):
        fitted(Checkpoint(tmp_path, resume=True), **options)
    assert (tmp_path / "checkpoint.safetensors").read_bytes() == before


def test_other_options_of_sgd_and_of_the_caller_are_refused(tmp_path):
    cut_off(tmp_path, solver=SGD(epochs=9))
    with pytest.raises(InputError, match="solver's epochs is 9 there and 10 here"):
        fitted(Checkpoint(tmp_path, resume=True), solver=SGD(epochs=10))
    with pytest.raises(InputError, match=r"the file is None there and new\.csv here"):
        Checkpoint(tmp_path, resume=True, about={"the file": "new.csv"}).prepare()


def test_rounding_is_no_difference(tmp_path):
    order = np.random.default_rng(0).permutation(len(Y))  # other sums of the same rows
    cut_off(tmp_path)
    clf = fitted(Checkpoint(tmp_path, resume=True, say=lambda _: None), X=X[order], Y=Y[order])
    assert clf.converged_


def test_what_was_cut_off_is_not_overwritten_unasked(tmp_path):
    cut_off(tmp_path)
    with pytest.raises(InputError, match=r"cut off at iteration 4, .* passes.*resume it, or choose another"):
        fitted(Checkpoint(tmp_path))
    fitted(Checkpoint(tmp_path, resume=True, say=lambda _: None))
    fitted(Checkpoint(tmp_path), C=3.0)  # but what came to its end is


def test_resuming_nothing_starts_anew(tmp_path):
    said, speak = news()
    assert fitted(Checkpoint(tmp_path / "new" / "folder", resume=True, **speak)).converged_
    assert said == []


def test_more_iterations_for_a_fit_that_ran_out_of_them(tmp_path):
    fitted(Checkpoint(tmp_path), max_iter=3, solver="lbfgs")
    clf = fitted(Checkpoint(tmp_path, resume=True, say=lambda _: None), max_iter=200, solver="lbfgs")
    assert clf.converged_ and clf.history_[3]["iteration"] == 4


def test_damage_is_named(tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    cut_off(tmp_path)
    whole = path.read_bytes()
    for broken in (b"", whole[:100], whole[:-1], b"\x80\x04pickle", whole.replace(b'"history', b'"hystory')):
        path.write_bytes(broken)
        with pytest.raises(ModelFileError, match="remove it to start anew"):
            fitted(Checkpoint(tmp_path, resume=True))
    save_file({"a": np.zeros(3)}, path)
    with pytest.raises(ModelFileError, match="no checkpoint of luce"):
        fitted(Checkpoint(tmp_path, resume=True))
    path.write_bytes(whole.replace(b'format_version\\": 1', b'format_version\\": 9'))
    with pytest.raises(ModelFileError, match="newer luce"):
        fitted(Checkpoint(tmp_path, resume=True))


def test_a_folder_that_is_none_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(LuceError, match="cannot hold checkpoints"):
        fitted(Checkpoint(tmp_path / "file"))


def test_only_its_own_half_written_files_are_removed(tmp_path):
    (tmp_path / ".luce-model.luce-0123456789abcdef.part").touch()  # another process may be writing it
    (tmp_path / ".luce-checkpoint.safetensors-0123456789abcdef.part").touch()
    fitted(Checkpoint(tmp_path))
    assert sorted(os.listdir(tmp_path)) == [
        ".luce-model.luce-0123456789abcdef.part",
        "checkpoint.safetensors",
    ]


def test_a_path_is_no_one_fit(tmp_path):
    with pytest.raises(InputError, match="a checkpoint holds one fit, and a path has many"):
        softmax_path(X, Y, [0.1, 1.0], callbacks=[Checkpoint(tmp_path)])


def test_it_writes_when_it_is_time(tmp_path, monkeypatch):
    clock, written = [0.0], []
    monkeypatch.setattr("luce.checkpoint.time.monotonic", lambda: clock[0])

    def tick(now):
        clock[0] += 1.0
        path = tmp_path / "checkpoint.safetensors"
        written.append(_read(path)["history"][-1].iteration if path.exists() else 0)
        return now.iteration == 12

    fitted(tick, Checkpoint(tmp_path, every=5.0), solver="lbfgs")
    assert written == [0, 0, 0, 0, 0, 5, 5, 5, 5, 5, 10, 10, 10]  # the last: proven, at the end
    assert _read(tmp_path / "checkpoint.safetensors")["history"][-1].iteration == 12


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_exception_leaves_a_last_checkpoint(tmp_path, error):
    def fail(now):
        if now.iteration == 5:
            raise error

    with pytest.raises(error):
        fitted(Checkpoint(tmp_path), fail, solver="lbfgs")
    assert _read(tmp_path / "checkpoint.safetensors")["history"][-1].iteration == 4  # the last to be complete


def test_a_full_disk_is_reported_and_the_fit_goes_on(tmp_path):
    folder = tmp_path / "checkpoints"
    process = CONTEXT.Process(target=fit_on_a_full_disk, args=(folder, tmp_path / "said.json"))
    process.start()
    process.join()
    told = json.loads((tmp_path / "said.json").read_text())
    assert told["converged"]
    full, again = told["news"]  # once, not at each attempt
    assert "no checkpoint was written: File too large; the fit goes on, and the last good" in full
    assert "written again" in again
    assert os.listdir(folder) == ["checkpoint.safetensors"]  # nothing half-written beside it
    assert _read(tmp_path / "held")["history"][-1].iteration == 3  # the last good one, while it was full


@pytest.mark.parametrize("solver", ["lbfgs", "sgd"])
def test_kill_9_at_random_moments(tmp_path, solver):
    """Kill a fit again and again: what is on the disk is never older than the last iteration but one."""
    (tmp_path / "whole").mkdir()
    (tmp_path / "killed").mkdir()
    fit(tmp_path / "whole", solver)
    seconds = _read(tmp_path / "whole" / "checkpoint.safetensors")["history"][-1].seconds
    rng = np.random.default_rng(KILLS)
    log = tmp_path / "killed" / "log.jsonl"
    log.touch()
    survived = 0
    for _ in range(KILLS // 2):
        before = log.stat().st_size
        process = CONTEXT.Process(target=fit, args=(tmp_path / "killed", solver))
        process.start()
        while log.stat().st_size == before and process.is_alive():
            time.sleep(0.001)
        process.join(rng.uniform(0, 0.3 * seconds))
        process.kill()
        process.join()
        survived += process.exitcode == 0
        *_, last = (json.loads(line) for line in log.read_text().splitlines() if line.endswith("}"))
        if last["iteration"] > 1:
            kept = _read(tmp_path / "killed" / "checkpoint.safetensors")
            assert kept["history"][-1].iteration >= last["iteration"] - 1
        if process.exitcode == 0:  # killed too late: again from the start
            (tmp_path / "killed" / "checkpoint.safetensors").unlink()
    assert survived < KILLS // 2
    fit(tmp_path / "killed", solver)
    whole, resumed = (json.loads((tmp_path / n / "result.json").read_text()) for n in ("whole", "killed"))
    if solver == "sgd":
        assert whole == resumed
    else:
        assert resumed["loss"] == pytest.approx(whole["loss"], rel=1e-10)  # tol
    assert not list(
        (tmp_path / "killed").glob(".luce-checkpoint*")
    )  # half-written files of dead processes are gone


# --- luce fit --checkpoint ---

COMMAND = ("fit", "digits", "--C", "1000", "--solver", "lbfgs", "--tol", "1e-8")


def luce(*arguments, **options):
    return subprocess.Popen(
        [sys.executable, "-m", "luce.cli", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def run(*arguments, code=0):
    result = CliRunner().invoke(main, [str(a) for a in arguments])
    assert result.exit_code == code, result.output
    return result


@pytest.fixture(scope="module")
def cut_by_hand(tmp_path_factory):
    """Interrupt fits as soon as they have written a checkpoint; return what they said, and their folders."""

    def cut(number):
        folder = tmp_path_factory.mktemp("cut")
        process = luce(*COMMAND, "--checkpoint", folder, "--every", "0s")
        while not (folder / "checkpoint.safetensors").exists():
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
        process.send_signal(number)
        return folder, process

    cuts = {number: cut(number) for number in (signal.SIGKILL, signal.SIGINT, signal.SIGTERM)}
    return {number: (folder, process, process.communicate()[1]) for number, (folder, process) in cuts.items()}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_says_how_to_go_on(cut_by_hand, number):
    folder, process, said = cut_by_hand[number]
    assert process.returncode == 130
    assert said.startswith("luce: interrupted: after ") and "passes, loss" in said
    assert said.endswith(f"the same command with --resume goes on from {folder}\n")


def test_the_command_goes_on_after_kill_9(cut_by_hand):
    folder, process, _ = cut_by_hand[signal.SIGKILL]
    assert process.returncode == -signal.SIGKILL
    said = run(*COMMAND, "--checkpoint", folder, "--resume", "--json")
    assert f"luce: going on from {folder}/checkpoint.safetensors: iteration " in said.stderr
    resumed = json.loads(said.stdout)["model"]
    whole = json.loads(run(*COMMAND, "--json").stdout)["model"]
    assert resumed["converged"] and resumed["loss"] == pytest.approx(whole["loss"], rel=1e-8)


def test_the_command_refuses_other_options(cut_by_hand, tmp_path):
    folder, *_ = cut_by_hand[signal.SIGINT]
    kept = ("--checkpoint", folder, "--resume")
    said = run(*COMMAND, *kept, "--seed", 7, "--class-weight", "balanced", code=3).stderr
    assert "--seed is 0 there and 7 here" in said and "--class-weight is None there and balanced here" in said
    assert "the content of DATA is built-in:digits there" in run("fit", "iris", *kept, code=3).stderr
    assert "resume it" in run(*COMMAND, "--checkpoint", folder, code=3).stderr
    run(*COMMAND, *kept, "--tol", "1e-2", "--max-iter", 2000)  # these may differ


def test_the_command_starts_anew_where_nothing_is_kept(tmp_path):
    said = run("fit", "iris", "--checkpoint", tmp_path, "--resume").stderr
    assert f"no checkpoint in {tmp_path} yet: the fit starts anew" in said
    assert os.listdir(tmp_path) == ["checkpoint.safetensors"]


@pytest.mark.parametrize(
    "wrong, said",
    [
        (("--resume",), "--resume needs --checkpoint DIR"),
        (("--every", "5m"), "--every needs --checkpoint DIR"),
        (("--checkpoint", "x", "--every", "soon"), "'soon' is no duration; write 90s, 5m or 1h"),
    ],
)
def test_wrong_usage(wrong, said):
    assert said in run("fit", "iris", *wrong, code=2).stderr


@pytest.mark.parametrize(
    "typed, seconds", [("90", 90), ("0s", 0), ("1.5m", 90), ("5 min", 300), ("2h", 7200)]
)
def test_durations(typed, seconds):
    assert Duration().convert(typed, None, None) == seconds
