"""Fits that survive being killed: a callback that keeps the state of a fit in a file, and starts from it."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from luce.arrays import on_host
from luce.errors import InputError, LuceError, ModelFileError
from luce.files import written_whole
from luce.loss.inputs import Array
from luce.objective import Objective
from luce.solvers import Progress, Solver, State
from luce.solvers.driver import Keeper, Packing

FORMAT_VERSION = 1
FILE = "checkpoint.safetensors"
_OVER = ("converged", "separable", "stalled", "finished")  # nothing is lost when such a fit's file goes
_ROUNDING = 1e-9  # sums over the same data differ by less from run to run
_LABELS = "which rows have which labels"


class Checkpoint(Keeper):
    """A callback that writes the state of a fit to a folder, so that a fit that was killed can go on.

    The file is replaced as a whole: whenever the process or the machine dies, the last complete checkpoint
    is there. A fit that ends, by itself, by Ctrl-C or by an error, writes a last one. If the file cannot be
    written, say because the disk is full, that is said, the fit goes on, and the last good one stays.

    Parameters
    ----------
    folder : str or path
        Made if it is not there; one folder for one fit.
    every : float
        Seconds between two checkpoints; they are written between iterations.
    resume : bool
        Go on from the checkpoint in the folder, if there is one. Without it, the checkpoint of a fit that
        was cut off is not overwritten.
    about : mapping of str to what JSON can hold
        What a fit that goes on must share with the one that was cut off, beyond what can be seen here: all
        that is compared is the data, the penalty and the solver.
    say, warn : callable
        Called with a line of news (from where a fit goes on) or of trouble (why nothing could be written);
        by default both go to stderr.

    Raises
    ------
    InputError
        When the fit begins: the checkpoint is of other data or options, which are named, or would be lost.
    ModelFileError
        The file is no checkpoint, or damaged.
    LuceError
        The folder cannot be used.

    Notes
    -----
    The file is in the safetensors format, which can hold no code: the point (float64), the history, what the
    solver remembers, and sums over the data that tell them from others. Solvers that aim at the optimum start
    anew from the point and relearn the curvature: a cut costs L-BFGS between a twentieth and half of the
    passes of the fit on top, and the objective at its end is the same within tol. SGD goes on as if it had
    never stopped. The sums that tell data apart cost 1.5 passes.

    It serves one fit at a time, not a path of C or cross-validation.

    Examples
    --------
    >>> import luce
    >>> from sklearn.datasets import load_digits
    >>> X, y = load_digits(return_X_y=True)
    >>> folder = getfixture("tmp_path")
    >>> cut_off = luce.SoftmaxClassifier(callbacks=[Checkpoint(folder), lambda now: now.iteration == 9])
    >>> import warnings
    >>> with warnings.catch_warnings(action="ignore"):
    ...     cut_off.fit(X, y).n_iter_
    array([9], dtype=int32)
    >>> clf = luce.SoftmaxClassifier(callbacks=[Checkpoint(folder, resume=True)]).fit(X, y)
    >>> clf.converged_, [entry["iteration"] for entry in clf.history_[:10]]
    (True, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10])
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        every: float = 60.0,
        *,
        resume: bool = False,
        about: Mapping[str, Any] | None = None,
        say: Callable[[str], None] | None = None,
        warn: Callable[[str], None] | None = None,
    ) -> None:
        if not every >= 0:
            raise InputError(f"every = {every!r}: pass a number of seconds >= 0")
        self.path = Path(folder) / FILE
        self._every = float(every)
        self._resume = resume
        self._about = json.loads(json.dumps(dict(about or {})))
        self._say = say or _to_stderr
        self._warn = warn or _to_stderr
        self._problem: dict[str, Any] = {}
        self._packing: Packing | None = None
        self._now: tuple[State, list[Progress], dict[str, Any]] | None = None  # of the last iteration
        self._due = 0.0
        self._trouble = ""

    def prepare(self) -> dict[str, Any] | None:
        """Make the folder and read what is in it, as far as it is to be gone on from.

        Raises what a fit would, before one: see the class.
        """
        folder = self.path.parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for part in folder.glob(f".luce-{FILE}-*.part"):  # of a process that was killed while it wrote
                part.unlink()
            if not self.path.exists():
                return None
        except OSError as error:
            raise LuceError(f"{folder}: cannot hold checkpoints: {error.strerror}; choose another") from error
        found = _read(self.path)
        if self._resume:
            self._refuse(_differences(found["about"], self._about))
            return found
        if found["status"] not in _OVER:
            raise InputError(
                f"{self.path} holds a fit that was cut off at {_where(found['history'][-1])}: resume it, or "
                "choose another folder, or remove the file"
            )
        return None

    def begin(self, objective: Objective, solver: Solver) -> tuple[State, list[Progress]] | None:
        """Go on from the checkpoint, if that is asked for and there is one."""
        found = self.prepare()
        self._problem = _problem(objective, solver)
        self._packing = solver if isinstance(solver, Packing) else None
        self._now = None
        self._due = time.monotonic() + self._every
        if found is None:
            return None
        self._refuse(_differences(found["problem"], self._problem))
        history = [entry for entry in found["history"] if not entry.certified]
        theta = found["theta"]
        if theta.shape != objective.shape or not np.isfinite(theta).all():
            raise _damaged(self.path)
        self._say(f"going on from {self.path}: {_where(history[-1])}")
        if self._packing is not None:
            return self._packing.unpack(objective, theta, history[-1].loss, found["memory"]), history
        return solver.init(objective, objective.placed(theta)), history

    def __call__(self, progress: Progress) -> None:
        """Do nothing: :meth:`keep` sees more."""

    def keep(self, state: State, history: Sequence[Progress]) -> None:
        """Write the state, if it is time."""
        packed = {} if self._packing is None else self._packing.pack(state)
        self._now = state, list(history), packed
        if time.monotonic() >= self._due:
            self._write(None)
            self._due = time.monotonic() + self._every

    def end(self, status: str | None) -> None:
        """Write the last state."""
        self._write(status)

    def _write(self, status: str | None) -> None:
        if self._now is None:
            return
        state, history, packed = self._now
        content = {
            "format_version": FORMAT_VERSION,
            "status": status,
            "history": [list(asdict(entry).values()) for entry in history],
            "about": self._about,
            "problem": self._problem,
            "memory": packed,
            "theta": on_host(state.theta),
        }
        try:
            with written_whole(self.path) as file:
                file.write(_as_bytes(content))
        except (OSError, MemoryError) as error:
            why = getattr(error, "strerror", None) or str(error) or "out of memory"
            trouble = f"{self.path}: no checkpoint was written: {why}"
            if trouble != self._trouble:
                self._warn(f"{trouble}; the fit goes on, and the last good checkpoint stays")
            self._trouble = trouble
            return
        if self._trouble:
            self._say(f"{self.path}: checkpoints are written again")
        self._trouble = ""

    def _refuse(self, differences: list[str]) -> None:
        if differences:
            raise InputError(
                f"{self.path} is the checkpoint of another fit: {'; '.join(differences[:3])}: "
                "give the data and the options of that fit, or choose another folder"
            )


def _problem(objective: Objective, solver: Solver) -> dict[str, Any]:
    """Return what tells a fit from others, under names for a message."""
    data = objective.data
    _, square = objective.moments()
    mean_xt, share = objective.class_means()
    mix = np.cos(np.arange(len(square))) / np.sqrt(np.where(square > 0, square, 1.0) * len(square))
    options: dict[str, Any] = asdict(solver) if is_dataclass(solver) and not isinstance(solver, type) else {}
    return {
        "the number of rows": data.n_samples,
        "the number of features": data.n_features,
        "the number of classes": data.n_classes,
        "the dtype of the features": str(data.dtype),
        "the sum of the rows' weights": data.total_weight,
        "the share of each class": share,
        "the mean square of each feature": square,
        _LABELS: mix @ mean_xt,  # of the order of 1, and moved by any row
        "the squared penalty, reg = 1 / (C N)": objective.reg,
        "the absolute penalty": objective.l1,
        "fit_intercept": objective.fit_intercept,
        "the solver": type(solver).__name__,
        **{f"the solver's {k}": v for k, v in options.items() if isinstance(v, str | int | float | None)},
    }


def _differences(there: dict[str, Any], here: dict[str, Any]) -> list[str]:
    """Say what differs between a checkpoint and this fit."""
    return [
        _difference(name, there.get(name), here.get(name))
        for name in {**here, **there}
        if not _same(name, there.get(name), here.get(name))
    ]


def _same(name: str, a: Any, b: Any) -> bool:
    if isinstance(a, bool | str | list | None) or isinstance(b, bool | str | list | None):
        return bool(a == b)
    return np.shape(a) == np.shape(b) and not _far(name, a, b).any()


def _far(name: str, a: Any, b: Any) -> Array:
    """Return where numbers differ by more than rounding."""
    least = _ROUNDING if name == _LABELS else 0.0
    return np.asarray(~np.isclose(a, b, rtol=_ROUNDING, atol=least))


def _difference(name: str, there: Any, here: Any) -> str:
    if not isinstance(there, np.ndarray) or not isinstance(here, np.ndarray):
        return f"{name} is {there} there and {here} here"
    if name == _LABELS or there.shape != here.shape:
        return f"{name} differs"
    i = int(_far(name, there, here).argmax())
    return f"{name} differs, first in number {i + 1} ({there[i]:.6g} there, {here[i]:.6g} here)"


def _as_bytes(content: dict[str, Any]) -> bytes:
    """Return nested values and arrays in the safetensors format."""
    from safetensors.numpy import save

    tensors: dict[str, Array] = {}

    def plain(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            tensors[str(len(tensors))] = np.ascontiguousarray(value)
            return {"array": len(tensors) - 1}
        return {k: plain(v) for k, v in value.items()} if isinstance(value, dict) else value

    header = json.dumps(plain(content))
    return save(tensors, {"luce": header})


def _read(path: Path) -> dict[str, Any]:
    """Return the content of a checkpoint."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            header = json.loads((file.metadata() or {})["luce"])
    except (SafetensorError, LookupError, TypeError, ValueError, RecursionError) as error:
        raise _damaged(path) from error
    except OSError as error:
        raise LuceError(f"{path}: cannot be read: {error.strerror or error}; check permissions") from error

    def whole(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return (
            tensors[str(value["array"])]
            if set(value) == {"array"}
            else {k: whole(v) for k, v in value.items()}
        )

    try:
        version = header["format_version"]
        if version > FORMAT_VERSION:
            raise ModelFileError(f"{path} was written by a newer luce: pip install --upgrade luce")
        found = whole(header)
        found["history"] = [Progress(*entry) for entry in found["history"]]
        if {"status", "about", "problem", "memory", "theta"} <= set(found) and found["history"]:
            return dict(found)
    except (LookupError, TypeError, RecursionError) as error:
        raise _damaged(path) from error
    raise _damaged(path)


def _damaged(path: Path) -> ModelFileError:
    return ModelFileError(f"{path} is damaged, or no checkpoint of luce; remove it to start anew")


def _where(progress: Progress) -> str:
    return (
        f"iteration {progress.iteration}, {progress.passes:.0f} passes, {progress.seconds:.1f} s, "
        f"loss {progress.loss:.6g}"
    )


def _to_stderr(text: str) -> None:
    print(f"luce: {text}", file=sys.stderr)
