"""Data on disk: each pass reads the rows once, block by block, the next one while this one is used."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
from sklearn.utils.validation import check_consistent_length, column_or_1d

from luce.blocks.rows import Rows, Subset, Unchanged, stacked
from luce.blocks.samples import Samples
from luce.blocks.sums import plus
from luce.loss.inputs import Array, Matrix, as_matrix, as_weights
from luce.numbering import number
from luce.objective import Data, InMemory

_SHARE = 8  # of the memory bound that a block may take: one is used, one is read, and kernels need room
_LARGEST = 64 << 20  # bytes: larger blocks are no faster


class DiskSamples(Samples):
    """Rows on disk, to be fitted within `memory` bytes."""

    def __init__(self, rows: Rows, memory: int) -> None:
        self.rows, self.n_features = rows, rows.shape[1]
        self._block_bytes = min(memory // _SHARE, _LARGEST)

    def labelled(self, y: Any, weight: Any, class_weight: Any, n_threads: int | None) -> tuple[Array, OnDisk]:
        """Return the classes and the data; labels (N,) and weights (N,) are held in memory."""
        y = column_or_1d(y)
        check_consistent_length(self.rows, y)
        classes, labels, weight = number(y, as_weights(weight, len(y)), class_weight)
        narrow = np.min_scalar_type(len(classes))
        return classes, OnDisk(
            self.rows, labels.astype(narrow), len(classes), weight, n_threads, self._block_bytes
        )


class OnDisk:
    """Data whose rows are on disk; labels (N,) and weights (N,) are in memory.

    Parameters
    ----------
    rows : Rows
    y : array of int
    n_classes : int
    weight : array or None
    n_threads : int or None
        Of the passes; one more thread reads.
    block_bytes : int
    """

    def __init__(
        self,
        rows: Rows,
        y: Array,
        n_classes: int,
        weight: Array | None,
        n_threads: int | None,
        block_bytes: int,
    ) -> None:
        self.rows, self.y, self.n_classes, self.weight, self.n_threads = rows, y, n_classes, weight, n_threads
        self.n_samples, self.n_features = rows.shape
        self.dtype = as_matrix(np.empty((0, 1), rows.dtype)).dtype
        sums = InMemory(np.empty((self.n_samples, 0), self.dtype), y, n_classes, weight)
        self.total_weight, self.least_weight = sums.total_weight, sums.least_weight
        self._block_bytes, self._unchanged = block_bytes, Unchanged(rows.files)
        self._cuts = np.unique(rows.cuts(block_bytes))
        self._buffers: list[Array] = []
        self._finite = False  # known after the first pass

    def sum(self, name: str, *args: Any, **options: Any) -> Any:
        """Return the pass `name` over all the blocks."""
        total = None
        for start, block in self._blocks():
            if name == "class_grams":
                options["first"] = start
            part = block.sum(name, *args, **options)
            total = part if total is None else plus(total, part)
        self._finite = True
        return total

    def take(self, rows: Any) -> Data:
        """Return some of the samples, in memory if they are no more than a block."""
        index = np.arange(*rows.indices(self.n_samples)) if isinstance(rows, slice) else np.sort(rows)
        weight = None if self.weight is None else self.weight[index]
        part = OnDisk(
            Subset(self.rows, index), self.y[index], self.n_classes, weight, self.n_threads, self._block_bytes
        )
        if len(part._cuts) > 1 and len(index) * self.n_features * self.dtype.itemsize > self._block_bytes:
            return part
        empty = np.empty((0, self.n_features), self.dtype)
        blocks = [block.X.copy() for _, block in part._blocks()]
        X = stacked(blocks) if blocks else empty
        return InMemory(X, part.y.astype(np.int64), self.n_classes, weight, self.n_threads)

    def _blocks(self) -> Iterator[tuple[int, InMemory]]:
        """Yield the first row of each block, and the block: it is good until the next one is asked for."""
        self._unchanged.require()
        parts = list(zip(self._cuts[:-1].tolist(), self._cuts[1:].tolist(), strict=True))
        if not self._buffers and len(parts) > 1:
            self._buffers = [np.empty(self._block_bytes, np.uint8) for _ in range(2)]
        with ThreadPoolExecutor(1, "luce-read") as reader:
            ahead: Future[Matrix] | None = None
            for i, (start, stop) in enumerate(parts):
                buffer = self._buffers[i % 2] if self._buffers else None
                following = reader.submit(self._read, start, stop, buffer)
                if ahead is not None:
                    yield self._block(*parts[i - 1], ahead.result())
                ahead = following
            if ahead is not None:
                yield self._block(*parts[-1], ahead.result())

    def _read(self, start: int, stop: int, buffer: Array | None) -> Matrix:
        if self._finite:
            return as_matrix(self.rows.read(start, stop, buffer))
        return self.rows.finite(start, stop, buffer)

    def _block(self, start: int, stop: int, X: Matrix) -> tuple[int, InMemory]:
        part = slice(start, stop)
        weight = None if self.weight is None else self.weight[part]
        return start, InMemory(X, self.y[part].astype(np.int64), self.n_classes, weight, self.n_threads)
