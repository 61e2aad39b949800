"""How many threads a pass uses: as many as NumPy's BLAS would, unless told otherwise.

After each product, the threads of OpenBLAS go on spinning for a tenth of a second, in the way of any others.
So while luce works with threads of its own, BLAS is left one thread in each of them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from itertools import pairwise
from threading import Lock
from typing import Any, TypeVar

from threadpoolctl import ThreadpoolController

_WORTH_A_THREAD = 1 << 20  # multiplications: fewer are done sooner than a thread starts

T = TypeVar("T")
R = TypeVar("R")


@cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController().select(user_api="blas")


def available_threads() -> int:
    """Return the processors this process may use, or fewer where BLAS is told so.

    BLAS reads ``OMP_NUM_THREADS`` when it is loaded, which is how joblib limits its workers, and
    ``threadpoolctl.threadpool_limits`` changes its number while it runs.
    """
    if _quiet.depth:
        return _quiet.threads
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limits: list[int] = [library.num_threads for library in _blas().lib_controllers]
    return max(1, min([allowed, *limits]))


def thread_count(n_threads: int | None, work: int) -> int:
    """Return how many threads to use for so many multiplications."""
    wanted = available_threads() if n_threads is None else max(1, n_threads)
    return max(1, min(wanted, work // _WORTH_A_THREAD))


def blas_limited(n_threads: int | None) -> AbstractContextManager[Any]:
    """Return a context in which BLAS uses `n_threads` threads, or as many as are available."""
    limit: AbstractContextManager[Any] = _blas().limit(limits=n_threads or available_threads())
    return limit


class Shared:
    """A state of the whole process, from when the first of its contexts begins until none is left."""

    def __init__(self) -> None:
        self.depth = 0
        self._lock = Lock()

    @contextmanager
    def during(self, begin: Callable[[], None], end: Callable[[], None]) -> Iterator[None]:
        """Return a context; contexts may overlap, in any threads."""
        with self._lock:
            if not self.depth:
                begin()
            self.depth += 1
        try:
            yield
        finally:
            with self._lock:
                self.depth -= 1
                if not self.depth:
                    end()


class _Quiet(Shared):
    """BLAS has one thread; `threads` is what was available before."""

    threads = 1
    limit: Any = None


_quiet = _Quiet()


def blas_quiet(n_threads: int | None = None) -> AbstractContextManager[None]:
    """Leave BLAS one thread; what luce uses is as many threads as were available, or `n_threads`.

    BLAS has one number of threads for the whole process: where contexts overlap, the first one decides.
    """

    def begin() -> None:
        _quiet.threads = n_threads or available_threads()
        _quiet.limit = _blas().limit(limits=1)

    return _quiet.during(begin, lambda: _quiet.limit.restore_original_limits())


def in_threads(function: Callable[[T], R], items: Iterable[T], n_threads: int) -> list[R]:
    """Return a function's results for all items, which threads take in turn."""
    if n_threads == 1:
        return list(map(function, items))
    with blas_quiet(), ThreadPoolExecutor(n_threads) as pool:
        return list(pool.map(function, items))


def shares(n_rows: int, n_threads: int, step: int = 1) -> list[tuple[int, int]]:
    """Return the first row and the end of each thread's share, all but the last ends multiples of `step`.

    Examples
    --------
    >>> shares(100, 3, step=16)
    [(0, 32), (32, 64), (64, 100)]
    """
    ends = [n_rows * k // n_threads // step * step for k in range(n_threads)]
    return [(first, end) for first, end in pairwise([*ends, n_rows]) if first < end]
