"""A fit for tests to kill, in a process that starts in a moment: see test_checkpoint."""

import json
import multiprocessing
import resource
import time
from pathlib import Path

import numpy as np

from luce import SoftmaxClassifier
from luce.callbacks import Checkpoint, JSONLines
from luce.files import written_whole

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["luce.callbacks", "luce.estimator", "safetensors.numpy"])


def data(seed=0, n=400, d=30, c=5):
    """Return samples with features on scales from 1 to 1e-2, and noisy labels."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d)) * np.logspace(0, -2, d)
    y = (3 * X @ rng.normal(size=(d, c)) + rng.gumbel(size=(n, c))).argmax(axis=1)
    return X, y


def pause(progress):
    """Make the length of an iteration independent of the machine."""
    time.sleep(0.005)


def fit(folder, solver="lbfgs", tol=1e-10, every=0.0):
    """Fit with a checkpoint, a log of all iterations, and a result at the end."""
    folder = Path(folder)
    callbacks = [pause, JSONLines(folder / "log.jsonl"), Checkpoint(folder, every, resume=True)]
    clf = SoftmaxClassifier(C=100.0, solver=solver, tol=tol, random_state=0, n_threads=1, callbacks=callbacks)
    clf.fit(*data())
    with written_whole(folder / "result.json") as file:
        file.write(json.dumps({"loss": clf.loss_, "coef": clf.coef_.tolist()}).encode())


def fit_on_a_full_disk(folder, said):
    """Fit where, from the fourth iteration to the eighth, no file can grow beyond some bytes."""
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(progress):
        if progress.iteration in (4, 8):
            resource.setrlimit(resource.RLIMIT_FSIZE, (500 if progress.iteration == 4 else most, most))
        if progress.iteration == 7:
            Path(said).with_name("held").hardlink_to(Path(folder) / "checkpoint.safetensors")

    news = []
    checkpoint = Checkpoint(folder, 0.0, warn=news.append, say=news.append)
    clf = SoftmaxClassifier(C=100.0, solver="lbfgs", n_threads=1, callbacks=[fill, checkpoint]).fit(*data())
    Path(said).write_text(json.dumps({"news": news, "converged": clf.converged_}))
