"""Ready callbacks for ``callbacks=[...]``: they watch a fit, log it, keep it, or end it.

A callback is anything that can be called with a :class:`luce.solvers.Progress`, after each iteration and
once more at the end, where `certified` is true and `gap` proven; one that returns True ends the fit. A
function will do::

    SoftmaxClassifier(callbacks=[lambda now: now.seconds > 60])

Checkpoint is described in :mod:`luce.checkpoint`.
"""

from __future__ import annotations

import json
import os
import warnings
from dataclasses import asdict
from typing import Any

import numpy as np

from luce.checkpoint import Checkpoint
from luce.errors import InputError, MissingExtraError
from luce.solvers import Progress

__all__ = ["Checkpoint", "EarlyStopping", "JSONLines", "MLflow", "TensorBoard"]


class EarlyStopping:
    """Ends a fit whose loss hardly falls any more, whatever `tol` asks for; `status_` is then "stopped".

    What it leaves is told by `gap_`, which is proven then too. To end at the best loss on held-out samples,
    pass ``solver=luce.solvers.SGD(validation_fraction=0.1)`` instead.

    Parameters
    ----------
    min_delta : float
        The part of the loss by which it must fall.
    patience : int
        In so many iterations.

    Examples
    --------
    >>> import luce
    >>> from sklearn.datasets import load_digits
    >>> clf = luce.SoftmaxClassifier(tol=1e-9, callbacks=[EarlyStopping(min_delta=0.01)])
    >>> with warnings.catch_warnings(action="ignore"):
    ...     clf.fit(*load_digits(return_X_y=True)).status_
    'stopped'
    """

    def __init__(self, min_delta: float = 1e-4, patience: int = 5) -> None:
        if not min_delta >= 0:
            raise InputError(f"min_delta = {min_delta!r}: pass a number >= 0")
        if not patience >= 1:
            raise InputError(f"patience = {patience!r}: pass a positive integer")
        self.min_delta = min_delta
        self.patience = patience
        self._best, self._when = np.inf, 0

    def __call__(self, progress: Progress) -> bool:
        """Say whether the loss has not fallen for too long."""
        if progress.loss < (1 - self.min_delta) * self._best:
            self._best, self._when = progress.loss, progress.iteration
        stop = progress.iteration - self._when >= self.patience
        if progress.certified:  # the next fit starts afresh
            self._best, self._when = np.inf, 0
        return stop


class JSONLines:
    """Appends a line to a file after each iteration, as one JSON object; null stands for an infinite gap.

    Its keys are iteration, loss, gap, passes, seconds and certified. A fit that is resumed (see Checkpoint)
    goes on in the same file; iterations that it repeats come twice. Where a line cannot be written, say
    because the disk is full, there is a warning, and the fit goes on.

    Parameters
    ----------
    path : str or path

    Raises
    ------
    InputError
        When the object is made: the file cannot be opened.

    Examples
    --------
    >>> import luce
    >>> path = getfixture("tmp_path") / "fit.jsonl"
    >>> clf = luce.SoftmaxClassifier(callbacks=[JSONLines(path)]).fit([[0.0], [1.0], [2.0]], [0, 0, 1])
    >>> json.loads(path.read_text().splitlines()[-1])["certified"]
    True
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = path
        try:
            self._write("")
        except OSError as error:
            raise InputError(f"{path}: cannot be written: {error.strerror}; check the path") from error

    def __call__(self, progress: Progress) -> None:
        """Write the line."""
        values = {k: v if np.isfinite(v) else None for k, v in asdict(progress).items()}
        try:
            self._write(json.dumps(values) + "\n")
        except OSError as error:
            warnings.warn(f"{self.path}: not all lines were written: {error.strerror}", stacklevel=2)

    def _write(self, text: str) -> None:
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(text)


class TensorBoard:
    """Writes loss, gap and passes for TensorBoard: ``tensorboard --logdir FOLDER``.

    Needs the extra ``tensorboard``. A gap that is not known yet is left out.

    Parameters
    ----------
    folder : str or path
        A new file of events is added for each fit; a folder for each fit keeps their curves apart.

    Raises
    ------
    MissingExtraError
        When the object is made.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        try:
            import tensorboard.summary  # noqa: F401
        except ImportError as error:
            raise MissingExtraError("luce.callbacks.TensorBoard", "tensorboard") from error
        self.folder = folder
        self._writer: Any = None

    def __call__(self, progress: Progress) -> None:
        """Write the numbers of this iteration."""
        from tensorboard.summary import Writer

        self._writer = self._writer or Writer(os.fspath(self.folder))
        for name, value in _metrics(progress).items():
            self._writer.add_scalar(name, value, progress.iteration)
        self._writer.flush()
        if progress.certified:
            self._writer.close()
            self._writer = None


class MLflow:
    """Logs loss, gap and passes as metrics of an MLflow run, a step for each iteration.

    Needs the extra ``mlflow``. Metrics go to the active run (``with mlflow.start_run(): clf.fit(X, y)``);
    without one, a run is started that ends with the fit. They are sent beside the fit, which does not wait.

    Raises
    ------
    MissingExtraError
        When the object is made.
    """

    def __init__(self) -> None:
        try:
            import mlflow  # noqa: F401
        except ImportError as error:
            raise MissingExtraError("luce.callbacks.MLflow", "mlflow") from error
        self._started = False

    def __call__(self, progress: Progress) -> None:
        """Send the numbers of this iteration."""
        import mlflow

        if mlflow.active_run() is None:
            mlflow.start_run()
            self._started = True
        mlflow.log_metrics(_metrics(progress), step=progress.iteration, synchronous=False)
        if progress.certified:
            mlflow.flush_async_logging()
            if self._started:
                mlflow.end_run()
            self._started = False


def _metrics(progress: Progress) -> dict[str, float]:
    """Return what is worth a curve, the proven gap apart from its estimates."""
    gap = "proven gap" if progress.certified else "gap"
    values = {"loss": progress.loss, gap: progress.gap, "passes": progress.passes}
    return {name: float(value) for name, value in values.items() if np.isfinite(value)}
