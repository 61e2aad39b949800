"""Sparse text: one pass over CSR, and a whole fit with its peak memory.

    python -m benchmarks.sparse [--rows 20000] [--columns 60000] [--classes 500] [--terms 100] [--threads 2]

The pass is a multiple of the two bare products of SciPy, which run on one thread; memory is counted in arrays
of the size of W, over what the process held before the fit.
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np
import scipy.sparse as sp
from threadpoolctl import threadpool_limits

import luce
from luce.objective import InMemory


def text(rows: int, columns: int, classes: int, terms: int, dtype: type = np.float32):
    """Return made-up documents: words by Zipf's law, a tenth of each from the words of its class."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, classes, rows)
    word = np.minimum((columns ** rng.random((rows, terms))).astype(np.int64), columns - 1)
    own = rng.random((rows, terms)) < 0.1
    word[own] = ((y[:, None] * 7919 + rng.integers(0, 50, (rows, terms)) * 104729) % columns)[own]
    indptr = np.arange(0, rows * terms + 1, terms)
    X = sp.csr_array((np.ones(rows * terms, dtype), word.ravel(), indptr), shape=(rows, columns))
    X.sum_duplicates()
    X.data = 1 + np.log(X.data)
    lengths = np.sqrt(X.multiply(X).sum(axis=1))
    X.data /= np.repeat(lengths, np.diff(X.indptr))
    X.data = X.data.astype(dtype)
    return X, y


def least(run, repeats: int) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    for name, default in (("rows", 20000), ("columns", 60000), ("classes", 500), ("terms", 100)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    X, y = text(options.rows, options.columns, options.classes, options.terms)
    W = np.zeros((options.columns, options.classes), dtype=np.float32)
    R = np.ones((options.rows, options.classes), dtype=np.float32)
    b = np.zeros(options.classes)
    with threadpool_limits(options.threads):
        bare = least(lambda: (X @ W, X.T @ R), 3)
        data = InMemory(X, y, options.classes, n_threads=options.threads)
        ours = least(lambda: data.sum("value_and_gradient", W, b), 6)  # by columns from the third on
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        clf = luce.SoftmaxClassifier(C=10.0, tol=1e-2, n_threads=options.threads)
        start = time.perf_counter()
        clf.fit(X, y)
        seconds = time.perf_counter() - start
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / W.nbytes
    print(
        f"{X.shape[0]} x {X.shape[1]}, {X.nnz} entries, {options.classes} classes, {options.threads} threads"
    )
    print(f"bare products (SciPy)   {bare:8.2f} s")
    print(f"luce, one pass          {ours:8.2f} s  {ours / bare:.2f} of that")
    last = clf.history_[-1]
    print(f"luce, fit to tol=1e-2   {seconds:8.2f} s  {last['passes']:.0f} passes, {clf.status_}")
    print(f"peak memory of the fit  {peak:8.1f} arrays of the size of W in float32 ({W.nbytes >> 20} MiB)")


if __name__ == "__main__":
    main()
