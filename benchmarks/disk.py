"""Seconds of a pass over data on disk, against a bare scan of the file.

``python -m benchmarks.disk [MiB] [--features D] [--classes C]``. The file was just written, so that it is in
the page cache where that holds it: then the disk is as fast as it can be, and what is left is luce.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time

import numpy as np

from luce.blocks.disk import DiskSamples
from luce.blocks.rows import rows_of
from luce.objective import InMemory


def scan(path: str, size: int) -> float:
    """Return the seconds that reading a file from end to end takes, in pieces of `size` bytes."""
    buffer = np.empty(size, np.uint8)
    start = time.perf_counter()
    with open(path, "rb", buffering=0) as file:
        while file.readinto(buffer.data):
            pass
    return time.perf_counter() - start


def written(path: str, rows: int, features: int) -> np.memmap:
    """Return a mapped file of float32, made without holding it."""
    rng = np.random.default_rng(0)
    X = np.lib.format.open_memmap(path, "w+", np.float32, (rows, features))
    for first in range(0, rows, 65536):
        X[first : first + 65536] = rng.standard_normal((min(65536, rows - first), features), dtype=np.float32)
    X.flush()
    del X
    return np.load(path, mmap_mode="r")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("mib", nargs="?", type=int, default=512)
    parser.add_argument("--features", type=int, default=256)
    parser.add_argument("--classes", type=int, nargs="*", default=[2, 10, 100])
    arguments = parser.parse_args()
    rows = (arguments.mib << 20) // (4 * arguments.features)
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR") or "/var/tmp") as folder:
        path = os.path.join(folder, "X.npy")
        X = written(path, rows, arguments.features)
        memory = X.nbytes // 10
        shape = f"{rows:,} x {arguments.features} float32"
        print(f"{X.nbytes / 2**20:.0f} MiB, {shape}, in {memory / 2**20:.0f} MiB of memory")
        bare = min(scan(path, memory // 8) for _ in range(3))
        print(f"bare scan {bare:.3f} s = {X.nbytes / bare / 2**30:.2f} GiB/s")
        print("classes   pass on disk   of the scan   in memory   of max(scan, memory)")
        for n_classes in arguments.classes:
            y = np.arange(rows) % n_classes
            _, disk = DiskSamples(rows_of(X), memory).labelled(y, None, None, None)
            args = np.zeros((arguments.features, n_classes), np.float32), np.zeros(n_classes)
            seconds = passes(disk, args)
            # what the same work takes on data that are in memory already, from a part that surely fits
            part = np.array(X[: max(1, rows // 10)])
            there = passes(InMemory(part, y[: len(part)], n_classes), args) * rows / len(part)
            print(
                f"{n_classes:7}   {seconds:10.3f} s   {seconds / bare:11.2f}   {there:7.3f} s   "
                f"{seconds / max(bare, there):20.2f}"
            )


def passes(data, args) -> float:
    """Return the seconds of the fastest of some gradients."""
    data.sum("value_and_gradient", *args)  # also looks for NaN, once
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        data.sum("value_and_gradient", *args)
        seconds.append(time.perf_counter() - start)
    return min(seconds)


if __name__ == "__main__":
    main()
