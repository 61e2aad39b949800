"""A line on stderr that says how a long fit is getting on."""

from __future__ import annotations

import sys
import time

from luce.solvers import Progress

_PATIENCE = 2.0  # seconds without a word
_INTERVAL = {True: 0.2, False: 10.0}  # seconds between lines, on a terminal or off it


class ProgressLine:
    """A callback: one line rewritten on a terminal, a line now and then otherwise, silence for short fits.

    Parameters
    ----------
    verbose : int
        From 2 on, every iteration is written, on a line of its own.
    """

    def __init__(self, verbose: int = 1) -> None:
        self._every = verbose >= 2
        self._rewrite = sys.stderr.isatty() and not self._every
        self._last = time.perf_counter() + _PATIENCE - _INTERVAL[self._rewrite]
        self._open = False

    def __call__(self, progress: Progress) -> None:
        """Write the line, if it is time."""
        now = time.perf_counter()
        due = self._every or now - self._last >= _INTERVAL[self._rewrite]
        if not due and not (progress.certified and self._open):
            return
        self._last = now
        line = (
            f"luce: iteration {progress.iteration}  loss {progress.loss:.6g}  "
            f"{'proven' if progress.certified else 'estimated'} gap {progress.gap:.1e}  "
            f"{progress.passes:.0f} passes  {progress.seconds:.1f} s"
        )
        if self._rewrite:
            print(f"\r{line:<79}", end="\n" if progress.certified else "", file=sys.stderr, flush=True)
            self._open = not progress.certified
        else:
            print(line, file=sys.stderr, flush=True)
