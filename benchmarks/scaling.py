"""How the cost of a pass grows with N, D, C and the threads: seconds, and the slope in logarithms.

    python -m benchmarks.scaling [--repeats 5]

A slope of 1 is proportional; below 1, fixed costs or shared memory traffic are being spread.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from threadpoolctl import threadpool_limits

from luce.loss import kernels
from luce.loss.threads import available_threads

BASE = {"N": 20000, "D": 200, "C": 20}
GROWTH = {"N": (2500, 5000, 10000, 20000, 40000, 80000), "D": (25, 50, 100, 200, 400, 800)}
GROWTH["C"] = (5, 10, 20, 40, 80, 160, 320)


def seconds(size: dict[str, int], threads: int, repeats: int) -> float:
    """Return the least seconds of one loss and gradient."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((size["N"], size["D"]), dtype=np.float32)
    W = rng.standard_normal((size["D"], size["C"]), dtype=np.float32)
    y = rng.integers(0, size["C"], size["N"])
    times = []
    with threadpool_limits(threads):
        for _ in range(repeats):
            start = time.perf_counter()
            kernels.value_and_gradient(W, None, X, y, None, 0.0, threads)
            times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    most = available_threads()
    print(f"float32, around N x D x C = {BASE['N']} x {BASE['D']} x {BASE['C']}, {most} threads")
    for axis, values in GROWTH.items():
        times = [seconds({**BASE, axis: value}, most, options.repeats) for value in values]
        slopes = np.diff(np.log(times)) / np.diff(np.log(values))
        print(f"\n{axis:>8s}{'ms':>10s}{'slope':>8s}")
        for k, (value, t) in enumerate(zip(values, times, strict=True)):
            print(f"{value:8d}{t * 1e3:10.2f}" + (f"{slopes[k - 1]:8.2f}" if k else ""))
    print(f"\n{'threads':>8s}{'ms':>10s}{'speed-up':>10s}")
    alone = seconds(BASE, 1, options.repeats)
    for threads in range(1, most + 1):
        t = seconds(BASE, threads, options.repeats)
        print(f"{threads:8d}{t * 1e3:10.2f}{alone / t:10.2f}")


if __name__ == "__main__":
    main()
