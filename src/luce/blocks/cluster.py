"""Data on a Dask cluster: the blocks stay on their workers, and each pass sends W out and sums back.

Neighbouring blocks that lie on one worker are a share of the data. A pass sends its arguments to all workers
once, runs one task on each share, and adds the results up in a tree on the workers, in an order that does not
change while the fit runs. A share that is lost with its worker is made again from the source, by Dask.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import CancelledError
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np

from luce.blocks import on_worker
from luce.blocks.samples import Samples
from luce.errors import ClusterError, InputError, MissingExtraError
from luce.loss.inputs import Array
from luce.numbering import at_least_two, weights_of

_FAN = 8  # workers that take the arguments of a pass from one; results that one task adds up
_TRIES = 5  # of a pass, when workers are lost during it
_PATIENCE = "60s"  # to wait for a worker, where distributed.scheduler.no-workers-timeout says nothing
_LOOK = 2  # seconds between two looks at whether there are workers

T = TypeVar("T")


@dataclass(frozen=True)
class Share:
    """Blocks that lie on one worker."""

    part: Any  # a future of an on_worker.Part
    spans: list[tuple[int, int]]  # the first row of each block and the one after its last


class DaskSamples(Samples):
    """A Dask array (N, D), dense or of SciPy CSR blocks, or a Dask data frame of numbers."""

    def __init__(self, X: Any) -> None:
        try:
            from distributed import get_client
        except ImportError:
            raise MissingExtraError("a fit to Dask collections", "dask") from None
        try:
            self._client = get_client()
        except ValueError:
            raise InputError(
                "X is a Dask collection, and there is no cluster: make one first, dask.distributed.Client()"
            ) from None
        if X.ndim != 2:
            raise InputError(f"X has shape {X.shape}: pass a 2-D array, samples as rows")
        self._X = X.rechunk({1: -1}) if hasattr(X, "rechunk") else X
        self.n_features = int(X.shape[1])
        dtypes = list(X.dtypes) if hasattr(X, "dtypes") else [X.dtype]
        if hasattr(X, "columns"):
            self.feature_names = np.array([str(name) for name in X.columns], dtype=object)
            for name, dtype in zip(X.columns, dtypes, strict=True):
                if getattr(dtype, "kind", "O") not in "fiub":
                    raise InputError(f"column {name!r} is of type {dtype}, not numbers: encode or drop it")
        single = all(dtype.kind == "f" and dtype.itemsize <= 4 for dtype in dtypes)
        self.dtype = np.dtype(np.float32 if single else np.float64)

    def labelled(
        self, y: Any, weight: Any, class_weight: Any, n_threads: int | None
    ) -> tuple[Array, OnWorkers]:
        """Return the classes, and the data with labels and weights beside their rows."""
        client = self._client
        described, blocks = self._blocks(y, weight)
        totals: dict[Any, float] = {}
        for _, found in described:
            for label, total in found:
                totals[label] = totals.get(label, 0.0) + total
        if not totals:
            raise InputError("X has no rows that count: at least one sample is needed")
        classes = at_least_two(np.unique(np.array(list(totals))))
        per_class = None
        if class_weight is not None:
            summed = np.array([totals[label] for label in classes.tolist()])
            per_class = weights_of(class_weight, classes, summed)
        ends = np.cumsum([0, *(rows for rows, _ in described)]).tolist()
        by_home: dict[str, list[int]] = {}
        for i, (home, _) in enumerate(blocks):
            if described[i][0]:
                by_home.setdefault(home, []).append(i)
        shares = []
        for home, members in by_home.items():
            spans = [(ends[i], ends[i + 1]) for i in members]
            args = [blocks[i][1] for i in members], [first for first, _ in spans], classes, per_class
            shares.append(Share(_run(client, on_worker.numbered, *args, n_threads, **_at(home)), spans))
        _gathered(client, [_run(client, len, share.part) for share in shares])
        client.run_on_scheduler(_released)
        weighted = weight is not None or class_weight is not None
        return classes, OnWorkers(client, shares, self.n_features, len(classes), self.dtype, weighted)

    def _blocks(self, y: Any, weight: Any) -> tuple[list[Any], list[tuple[str, Any]]]:
        """Return what is to be known of each block, and the blocks: the address of a worker and a future."""
        from dask import delayed

        client = self._client
        try:
            client.wait_for_workers(1, _patience())
        except TimeoutError:
            raise _deserted(client) from None
        X = self._X.to_delayed().ravel() if hasattr(self._X, "chunks") else self._X.to_delayed()
        labels, weights = self._beside(y, "y", len(X)), self._beside(weight, "sample_weight", len(X))
        make = delayed(on_worker.block, pure=False)
        wanted = [
            make(x, label, w, self.n_features, self.dtype, k)
            for k, (x, label, w) in enumerate(zip(X, labels, weights, strict=True))
        ]
        homes = self._homes([x.key for x in X])
        futures: list[Any] = [None] * len(X)
        for home in dict.fromkeys(homes):
            members = [k for k, other in enumerate(homes) if other == home]
            made = client.compute([wanted[k] for k in members], **_at(home))
            for k, future in zip(members, made, strict=True):
                futures[k] = future
        described = [
            _run(client, on_worker.describe, future, **_at(home))
            for home, future in zip(homes, futures, strict=True)
        ]
        found = _gathered(client, described)
        return found, list(zip(homes, futures, strict=True))

    def _beside(self, values: Any, name: str, n_blocks: int) -> list[Any]:
        """Return the labels or the weights of each block of X."""
        if values is None:
            return [None] * n_blocks
        chunks = self._X.chunks[0] if hasattr(self._X, "chunks") else None
        if not hasattr(values, "to_delayed"):
            if chunks is None or np.isnan(chunks).any():
                raise InputError(f"{name} is in memory, X is not: pass it as a Dask collection like X")
            values = np.asarray(values)
            if values.shape != (sum(chunks),):
                raise InputError(f"{name} has shape {values.shape}, expected ({sum(chunks)},)")
            return np.split(values, np.cumsum(chunks)[:-1])
        if (
            chunks is not None
            and hasattr(values, "chunks")
            and not np.isnan([*chunks, *values.chunks[0]]).any()
        ):
            if sum(values.chunks[0]) != sum(chunks):
                raise InputError(f"{name} has {sum(values.chunks[0])} rows but X has {sum(chunks)}")
            values = values.ravel().rechunk((chunks,))
        parts = list(np.ravel(values.to_delayed()))
        if len(parts) != n_blocks:
            raise InputError(f"{name} has {len(parts)} partitions but X has {n_blocks}: divide them alike")
        return parts

    def _homes(self, keys: list[Any]) -> list[str]:
        """Return a worker for each block: where it lies, or neighbours together where it lies nowhere yet."""
        from distributed import futures_of

        workers = sorted(self._client.nthreads())
        placed = futures_of(self._X)  # by the user, who called persist
        held = self._client.who_has(placed) if placed else {}
        spread = [workers[k * len(workers) // len(keys)] for k in range(len(keys))]
        return [
            min(there) if (there := held.get(key, ())) else other
            for key, other in zip(keys, spread, strict=True)
        ]


class OnWorkers:
    """Data whose blocks are held by the workers of a Dask cluster."""

    def __init__(
        self, client: Any, shares: list[Share], n_features: int, n_classes: int, dtype: Any, weighted: bool
    ) -> None:
        self._client, self._shares, self._weighted = client, shares, weighted
        self.n_features, self.n_classes, self.dtype = n_features, n_classes, np.dtype(dtype)
        self.n_samples = sum(stop - start for share in shares for start, stop in share.spans)
        self.total_weight, self.least_weight = float(self.n_samples), 1.0
        if weighted:
            parts = [_run(client, on_worker.weights, share.part) for share in shares]
            known = self._patiently(lambda: _gathered(client, parts))
            self.total_weight = float(sum(total for total, _ in known))
            self.least_weight = float(min((least for _, least in known), default=np.inf))

    def sum(self, name: str, *args: Any, **options: Any) -> Any:
        """Return the pass `name` over all the shares."""
        import dask

        # W of many classes is large for the arguments of a task, and is sent only once
        with dask.config.set({"distributed.admin.large-graph-warning-threshold": "1TB"}):
            return self._patiently(lambda: self._sum((name, args, options)))

    def take(self, rows: Any) -> OnWorkers:
        """Return some of the samples: they stay where they are."""
        shares, first = [], 0
        chosen = rows if isinstance(rows, slice) else np.sort(np.arange(self.n_samples)[rows])
        for share in self._shares:
            within = [_within(chosen, start, stop, self.n_samples) for start, stop in share.spans]
            ends = (first + np.cumsum([0, *(n for _, n in within)])).tolist()
            spans = [span for span in pairwise(ends) if span[0] < span[1]]
            if spans:
                part = _run(self._client, on_worker.taken, share.part, within, first)
                shares.append(Share(part, spans))
            first = ends[-1]
        return OnWorkers(self._client, shares, self.n_features, self.n_classes, self.dtype, self._weighted)

    def _sum(self, call: tuple[str, Any, Any]) -> Any:
        client, shares = self._client, self._shares
        # The arguments are part of a task, not data sent ahead: then Dask can make lost copies again too.
        copies = [_run(client, on_worker.same, call)]
        for i in range(len(shares) // _FAN):
            copies.append(_run(client, on_worker.same, copies[i // _FAN]))
        parts = [
            _run(client, on_worker.one_pass, share.part, copies[i // _FAN]) for i, share in enumerate(shares)
        ]
        while len(parts) > 1:
            groups = [parts[i : i + _FAN] for i in range(0, len(parts), _FAN)]
            parts = [_run(client, on_worker.added, group) for group in groups]
        return _gathered(client, parts)[0]

    def _patiently(self, task: Callable[[], T]) -> T:
        """Run a task again when workers were lost during it; say so when nothing can be done."""
        from distributed import KilledWorker
        from distributed.comm import CommClosedError

        scheduler = self._client.scheduler.address
        for attempt in range(_TRIES):
            try:
                return task()
            except (CancelledError, KilledWorker, OSError) as error:
                if self._client.status != "running":
                    raise ClusterError(
                        f"the Dask scheduler at {scheduler} is lost: start the cluster again, and the fit "
                        "(from its checkpoint, if it kept one)"
                    ) from error
                passing = isinstance(error, CancelledError | CommClosedError | TimeoutError)
                if passing and attempt < _TRIES - 1:
                    continue
                if passing or isinstance(error, KilledWorker):
                    raise ClusterError(
                        f"the workers of the Dask cluster at {scheduler} are lost again and again ({error}): "
                        "have they memory enough?"
                    ) from error
                raise
        raise AssertionError("unreachable")


def _at(home: str) -> dict[str, Any]:
    """Return the options of a task that runs on one worker, if that is alive."""
    return {"workers": [home], "allow_other_workers": True}


def _within(rows: Any, start: int, stop: int, n_samples: int) -> tuple[Any, int]:
    """Return which rows of a block (start to stop) are among the chosen ones, and how many."""
    if not isinstance(rows, slice):
        first, last = np.searchsorted(rows, (start, stop))
        return rows[first:last] - start, int(last - first)
    begin, end, step = rows.indices(n_samples)
    if step < 1:
        raise InputError(f"rows = {rows!r}: samples on a cluster are taken in their order")
    first = max(begin, begin + -(-(start - begin) // step) * step)
    local = slice(max(first - start, 0), max(min(end, stop) - start, 0), step)
    return local, len(range(local.start, local.stop, step))


def _run(client: Any, function: Any, *args: Any, **options: Any) -> Any:
    """Return the future of a function that runs where most of its arguments are."""
    return client.submit(function, *args, pure=False, **options)


def _gathered(client: Any, futures: list[Any]) -> list[Any]:
    """Return the results of futures; ClusterError when for too long there was no worker to make them."""
    from distributed import wait

    since = time.monotonic()  # when there was a worker last
    while True:
        try:
            wait(futures, timeout=_LOOK)
        except TimeoutError:
            if client.nthreads():
                since = time.monotonic()
            elif time.monotonic() - since > _patience():
                raise _deserted(client) from None
        else:
            results: list[Any] = client.gather(futures)
            return results


def _patience() -> float:
    """Return how many seconds to wait for a worker."""
    import dask

    said = dask.config.get("distributed.scheduler.no-workers-timeout", None)
    return float(dask.utils.parse_timedelta(said or _PATIENCE))


def _deserted(client: Any) -> ClusterError:
    address = client.scheduler.address
    return ClusterError(
        f"the Dask cluster at {address} has had no worker for {_patience():g} s: start some (dask worker "
        f"{address}), and the fit again (from its checkpoint, if it kept one)"
    )


def _released(dask_scheduler: Any) -> None:
    """Let blocks that are made again be made anywhere.

    Even loosely bound to a worker, a task waits for it for ever once there was a moment without any worker.
    """
    for task in dask_scheduler.tasks.values():
        if task.loose_restrictions:
            task.worker_restrictions = None
