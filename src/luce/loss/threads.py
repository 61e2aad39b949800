"""How many threads a pass uses: as many as NumPy's BLAS would, unless told otherwise."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any

from threadpoolctl import ThreadpoolController

_WORTH_A_THREAD = 1 << 20  # multiplications: fewer are done sooner than a thread starts


@cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController().select(user_api="blas")


def available_threads() -> int:
    """Return the processors this process may use, or fewer where BLAS is told so.

    BLAS reads ``OMP_NUM_THREADS`` when it is loaded, which is how joblib limits its workers, and
    ``threadpoolctl.threadpool_limits`` changes its number while it runs.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limits: list[int] = [library.num_threads for library in _blas().lib_controllers]
    return max(1, min([allowed, *limits]))


def thread_count(n_threads: int | None, work: int) -> int:
    """Return how many threads to use for so many multiplications."""
    wanted = available_threads() if n_threads is None else max(1, n_threads)
    return max(1, min(wanted, work // _WORTH_A_THREAD))


def blas_limited(n_threads: int | None) -> AbstractContextManager[Any]:
    """Return a context in which BLAS uses `n_threads` threads, or as many as it likes."""
    if n_threads is None:
        return nullcontext()
    limit: AbstractContextManager[Any] = _blas().limit(limits=n_threads)
    return limit
