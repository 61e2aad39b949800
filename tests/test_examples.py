"""Every example, as its first lines say to run it, on less data."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import luce

EXAMPLES = Path(__file__).parents[1] / "examples"
PNG = b"\x89PNG"


def load(name):
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(name, *arguments):
    command = [sys.executable, "-W", "error::FutureWarning", EXAMPLES / f"{name}.py", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("name", ["templates", "probe", "imbalance", "c_path"])
def test_example_draws(name, tmp_path, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "Agg")
    done = run(name, tmp_path / "picture.png", "--quick")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "picture.png").read_bytes().startswith(PNG)


def test_text_on_a_corpus_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "Agg")
    rng = np.random.default_rng(0)
    for letter in load("text").GENRES:
        for number in range(1, 13):
            own = [f"word{letter}" for _ in range(20)]
            words = own + [f"common{'abcdefgh'[k]}" for k in rng.integers(0, 8, 80)]
            tagged = " ".join(f"{word}/nn" for word in words) + " Smith/np"
            (tmp_path / f"c{letter}{number:02}").write_text(tagged)
    done = run("text", tmp_path / "picture.png", "--quick", "--folder", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "180 texts: 1.00 of the genres right" in done.stdout
    assert (tmp_path / "picture.png").read_bytes().startswith(PNG)


def test_text_says_what_it_needs(tmp_path):
    done = run("text", "--folder", tmp_path)
    assert done.returncode == 1
    assert "npm install" in done.stderr


def test_cs231n_trains_and_predicts():
    cs231n = load("cs231n")
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 300)
    X = rng.standard_normal((300, 5)) + 4 * np.eye(3, 5)[y]
    model = cs231n.Softmax()
    history = model.train(X, y, learning_rate=0.1, reg=1e-4, num_iters=200, batch_size=50, seed=0)
    assert len(history) == 200
    assert history[0] == pytest.approx(np.log(3), abs=0.02)
    assert history[-1] < 0.2
    assert np.mean(model.predict(X) == y) > 0.95


def test_cs231n_penalises_without_the_half():
    cs231n = load("cs231n")
    rng = np.random.default_rng(1)
    X, y, W = rng.standard_normal((9, 4)), rng.integers(0, 3, 9), rng.standard_normal((4, 3))
    loss, dW = cs231n.softmax_loss(W, X, y, reg=0.3)
    data_loss, data_dW = luce.softmax_loss_naive(W, X, y, 0.0)
    assert loss == pytest.approx(data_loss + 0.3 * np.sum(W * W), rel=1e-12)
    np.testing.assert_allclose(dW, data_dW + 0.6 * W, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (lambda loss, dW: (loss, 20 * dW), "mean over N = 20"),
        (lambda loss, dW: (loss, -dW), "the sign"),
        (lambda loss, dW: (loss, dW.T), "shape"),
        (lambda loss, dW: (loss + 0.1, dW), "should be"),
        (lambda loss, dW: (np.nan, dW), "nan"),
    ],
)
def test_check_finds_faults(fault, said, capsys):
    cs231n = load("cs231n")
    assert cs231n.check(cs231n.softmax_loss)
    assert not cs231n.check(lambda *problem: fault(*cs231n.softmax_loss(*problem)))
    assert said in capsys.readouterr().out
