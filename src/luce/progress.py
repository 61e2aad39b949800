"""A line on stderr that says how a long fit is getting on."""

from __future__ import annotations

import shutil
import sys
import time

import numpy as np

from luce.solvers import Progress

_PATIENCE = 2.0  # seconds without a word
_INTERVAL = {True: 0.2, False: 10.0}  # seconds between lines, on a terminal or off it
_FEWEST = 6  # gaps from which to tell how fast they fall
_FARTHEST = 20  # how many times longer than they were watched their fall is drawn on


class ProgressLine:
    """A callback: one line rewritten on a terminal, a line now and then otherwise, silence for short fits.

    Parameters
    ----------
    verbose : int
        From 2 on, every iteration is written, on a line of its own.
    tol : float
        The relative gap at which the fit will stop, to tell the time that is left.
    """

    def __init__(self, verbose: int = 1, tol: float = 0.0) -> None:
        self._every = verbose >= 2
        self._rewrite = sys.stderr.isatty() and not self._every
        self._last = time.perf_counter() + _PATIENCE - _INTERVAL[self._rewrite]
        self._open = False
        self._tol = tol
        self._gaps: list[tuple[float, float]] = []  # seconds, relative gap

    def __call__(self, progress: Progress) -> None:
        """Write the line, if it is time."""
        if 0 < progress.gap < np.inf and progress.loss > 0:
            self._gaps.append((progress.seconds, progress.gap / progress.loss))
        now = time.perf_counter()
        due = self._every or now - self._last >= _INTERVAL[self._rewrite]
        if due or (progress.certified and self._open):
            self._last = now
            self._write(progress)
        if progress.certified:  # the next fit starts afresh
            self._gaps.clear()

    def _write(self, progress: Progress) -> None:
        left = None if progress.certified else time_left(self._gaps, self._tol)
        certainty = "proven gap " if progress.certified else "gap ~"
        parts = (
            f"luce: iteration {progress.iteration}",
            f"loss {progress.loss:.6g}",
            None if progress.gap == np.inf else f"{certainty}{progress.gap:.1e}",
            None if left is None else f"{_roughly(left)} left",
            f"{progress.passes:.0f} passes",
            f"{progress.seconds:.1f} s",
        )
        line = "  ".join(part for part in parts if part is not None)
        if self._rewrite:
            width = shutil.get_terminal_size().columns - 1  # a longer line would not be rewritten
            end = "\n" if progress.certified else ""
            print(f"\r{line[:width]:<{width}}", end=end, file=sys.stderr, flush=True)
            self._open = not progress.certified
        else:
            print(line, file=sys.stderr, flush=True)


def time_left(gaps: list[tuple[float, float]], tol: float) -> float | None:
    """Estimate the seconds until the gap is at tol, if it goes on falling as it does; None if it hardly does.

    Parameters
    ----------
    gaps : list of (seconds, gap)
        The latter half of them is taken: a solver's rate changes as it comes near the optimum.
    tol : float

    Examples
    --------
    >>> time_left([(float(s), 10.0**-s) for s in range(6)], 1e-8)
    3.0
    """
    recent = np.array(gaps[-max(_FEWEST, len(gaps) // 2) :])
    if len(recent) < _FEWEST or not tol > 0:
        return None
    seconds, logs = recent[:, 0] - recent[-1, 0], np.log(recent[:, 1])
    spread = seconds - seconds.mean()
    if not spread.any():
        return None
    rate = float(spread @ logs / (spread @ spread))
    if not rate < 0:
        return None
    now = logs.mean() - rate * seconds.mean()  # where the fitted line is at the last of them
    left = max(0.0, float((np.log(tol) - now) / rate))
    return round(left, 3) if left <= -_FARTHEST * seconds[0] else None


def _roughly(seconds: float) -> str:
    """Return a duration with the precision that an estimate has.

    Examples
    --------
    >>> [_roughly(s) for s in (0.4, 42, 250, 9000)]
    ['~1 s', '~40 s', '~4 min', '~2.5 h']
    """
    if seconds < 95:
        return f"~{max(1, round(seconds, -1 if seconds >= 20 else 0)):.0f} s"
    return f"~{seconds / 60:.0f} min" if seconds < 5700 else f"~{seconds / 3600:.1f} h"
