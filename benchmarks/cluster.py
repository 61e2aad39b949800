"""What a pass over data on a Dask cluster costs: bytes moved, overhead, and what follows for large clusters.

``python -m benchmarks.cluster [--workers 2] [--rows N] [--features D] [--classes C]``. The cluster is made of
processes on this machine. Bytes are those that its loopback device carries, from which an idle cluster's are
taken off: all that client, scheduler and workers say to each other.
"""

from __future__ import annotations

import argparse
import math
import time

import numpy as np
import psutil

from luce.objective import InMemory

FAN = 8  # of the trees in luce.blocks.cluster
NETWORK = 1.25e9  # bytes/s between two machines: 10 Gbit/s
HOP = 5e-4  # seconds for a message between two machines and a task to start
FLOPS = 5e11  # of one machine's kernels
PASSES = 60  # of a fit to a gap of 1e-4, about


def carried() -> int:
    """Return the bytes that the loopback device has carried so far."""
    return psutil.net_io_counters(pernic=True)["lo"].bytes_sent


def measured(function, times: int = 10) -> tuple[float, float]:
    """Return the seconds of the fastest call, and the bytes moved by each on average."""
    function()
    start, before = time.perf_counter(), carried()
    time.sleep(2)
    idle = (carried() - before) / (time.perf_counter() - start)
    seconds, begun, before = [], time.perf_counter(), carried()
    for _ in range(times):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    moved = carried() - before - idle * (time.perf_counter() - begun)
    return min(seconds), moved / times


def model(rows: float, workers: int, features: int, classes: int, task: float) -> tuple[float, float, float]:
    """Return the seconds of a fit, and the shares of the trees and of the scheduler in them.

    `task` is what the scheduler spends on a task: it does so one after the other, for all workers.
    """
    compute = 4.0 * rows * features * classes / (workers * FLOPS)
    W = 8 * features * classes
    depth = math.ceil(math.log(max(workers, 2), FAN))
    trees = 2 * depth * (HOP + FAN * W / NETWORK)
    scheduler = workers * (1 + 2 / FAN) * task
    total = compute + trees + scheduler
    return PASSES * total, trees / total, scheduler / total


def main() -> None:
    import dask.array as da
    from distributed import Client, LocalCluster

    from luce.blocks.cluster import DaskSamples

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--features", type=int, default=100)
    parser.add_argument("--classes", type=int, default=10)
    arguments = parser.parse_args()
    N, D, C = arguments.rows, arguments.features, arguments.classes
    y = np.arange(N) % C
    args = np.zeros((D, C)), np.zeros(C)
    X = np.random.default_rng(0).standard_normal((N, D))
    here, _ = measured(lambda: InMemory(X, y, C, None, 1).sum("value_and_gradient", *args), 3)
    with (
        LocalCluster(n_workers=arguments.workers, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster),
    ):
        blocks = da.random.default_rng(0).standard_normal(
            (N, D), chunks=(-(-N // (4 * arguments.workers)), D)
        )
        _, data = DaskSamples(blocks).labelled(y, None, None, None)
        few = data.take(slice(0, N, max(1, N // 100)))  # next to no work: what is left is overhead
        there, moved = measured(lambda: data.sum("value_and_gradient", *args))
        overhead, _ = measured(lambda: few.sum("value_and_gradient", *args))
        tasks = 2 + arguments.workers  # one sends, one adds up
    W = 8 * (D * C + C)
    print(f"{N:,} x {D}, {C} classes, {X.nbytes / 1e6:.0f} MB; W takes {W / 1e3:.1f} kB")
    processes = arguments.workers + 1
    print(f"one process, one thread   {here * 1e3:8.1f} ms a pass")
    print(f"{arguments.workers} workers of one thread    {there * 1e3:8.1f} ms a pass")
    print(
        f"overhead                  {overhead * 1e3:8.1f} ms a pass, {overhead / tasks * 1e3:.1f} ms a task"
    )
    print(f"moved                     {moved / 1e3:8.1f} kB a pass, {moved / W / processes:.1f} W a process")
    print(f"                          {moved / X.nbytes:8.2%} of X\n")
    task = min(overhead / tasks, 1e-3)
    print(f"A model of a fit: {PASSES} passes, 1,000 features, 100 classes, machines of {FLOPS:.0e} flop/s,")
    network = f"{NETWORK * 8 / 1e9:.0f} Gbit/s, {HOP * 1e3:.1f} ms a hop"
    print(f"{network}, {task * 1e3:.2f} ms of the scheduler a task.")
    print("Seconds (share of the trees, of the scheduler):")
    sizes = (10, 100, 1000, 10_000)
    print("rows      " + "".join(f"{n:>15,} workers" for n in sizes))
    for power in (6, 8, 10, 12):
        cells = [model(10.0**power, n, 1000, 100, task) for n in sizes]
        line = "".join(f"{s:>11.4g} ({t:4.0%},{q:5.0%})" for s, t, q in cells)
        print(f"1e{power:<8}{line}")


if __name__ == "__main__":
    main()
