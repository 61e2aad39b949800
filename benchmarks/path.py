"""The path: DINOv2's 45 values of C, each to a proven gap, against our own cold fits and scikit-learn's.

    python -m benchmarks.path [--cases "embedding 384x53" fashion] [--tol 1e-3] [--every 9] [--seconds 60]

Cold fits are timed at every so-manieth C from the weakest penalty down. scikit-learn's lbfgs starts cold at
each, as its users' sweeps do, with growing budgets until its objective is within the gap of ours or it has
taken `--seconds`; what it did not reach counts as that long, so that its total is a lower bound.
"""

from __future__ import annotations

import argparse
import time
import warnings

import numpy as np

import luce
from benchmarks.cases import CASES, load
from benchmarks.race import BUDGETS, objective, sklearn_fit

GRID = 10.0 ** np.linspace(-6, 5, 45)


def cold(X, y, C: float, tol: float) -> float:
    start = time.perf_counter()
    luce.SoftmaxClassifier(C=C, tol=tol, max_iter=5000).fit(X, y)
    return time.perf_counter() - start


def sklearn_seconds(X, y, C: float, goal: float, most: float) -> tuple[float, bool]:
    """Return the seconds of the smallest budget that reaches an objective, and whether any did."""
    reg, fit = 1 / (C * len(X)), sklearn_fit("lbfgs")
    seconds = 0.0
    for budget in BUDGETS:
        start = time.perf_counter()
        coef, intercept, _ = fit(X, y, reg, budget)
        seconds = time.perf_counter() - start
        if objective(X, y, coef, intercept, reg) <= goal:
            return seconds, True
        if seconds > most:
            break
    return seconds, False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--cases", nargs="*", default=["embedding 384x53", "fashion"], choices=list(CASES))
    parser.add_argument("--tol", type=float, default=1e-3)
    parser.add_argument("--every", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=60)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    for case in options.cases:
        loaded = load(case)
        if loaded is None:
            continue
        X, y = loaded
        start = time.perf_counter()
        path = luce.softmax_path(X, y, GRID, tol=options.tol, max_iter=5000)
        ours = time.perf_counter() - start
        proven = f"{np.sum(path.gaps <= options.tol * path.losses)} of {len(GRID)}"
        print(f"\n{case}: {X.shape[0]} x {X.shape[1]}, {len(GRID)} values of C, tol={options.tol:g}")
        print(f"path                    {ours:9.1f} s, {path.passes.sum():.0f} passes, {proven} proven")
        some = range(len(GRID) - 1, -1, -options.every)
        colds = {i: cold(X, y, GRID[i], options.tol) for i in some}
        slowest = max(colds.values())
        print(
            f"slowest cold fit        {slowest:9.1f} s; the path costs {ours / slowest:.2f} of them",
            flush=True,
        )
        total, reached = 0.0, 0
        for i in some:
            goal = path.losses[i] * (1 + options.tol)
            seconds, done = sklearn_seconds(X, y, GRID[i], goal, options.seconds)
            total, reached = total + seconds, reached + done
            theirs = f"{'' if done else '>'}{seconds:.2f}"
            print(f"  C={GRID[i]:<9.3g} luce cold {colds[i]:8.2f} s   scikit-learn {theirs:>8s} s")
        total *= len(GRID) / len(colds)
        print(
            f"scikit-learn, cold lbfgs {total:8.1f} s at least for all of the grid "
            f"({reached} of {len(colds)} reached the gap): {total / ours:.1f} times the path"
        )


if __name__ == "__main__":
    main()
