"""One loss and gradient, as a multiple of the two bare products ``X @ W`` and ``X.T @ R`` of that size.

    python -m benchmarks.evaluation [--threads 2] [--repeats 15] [--json]

Every contender and the bare products take turns within one process, each on an idle machine; the least time
of each counts, so that what else the machine does weighs little. All give the same gradient, which is checked
first.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable

import numpy as np
from threadpoolctl import threadpool_limits

from luce._native import core
from luce.loss import kernels, passes
from luce.loss.vectorized import softmax_loss_vectorized

SIZES = [(60000, 784, 10), (200000, 20, 10), (100000, 54, 7), (20000, 1024, 100), (10000, 1024, 1000)]
GOALS = [0.45, 1.2, 0.9, 1.0, 1.05]


def contenders(X, W, y, threads: int) -> dict[str, Callable[[], np.ndarray]]:
    """Return functions that give the gradient (D, C) of the mean loss, by name."""
    import torch
    from sklearn._loss import HalfMultinomialLoss
    from sklearn.linear_model._linear_loss import LinearModelLoss

    n_classes = W.shape[1]
    half = LinearModelLoss(HalfMultinomialLoss(n_classes=n_classes), fit_intercept=False)
    flat, labels = np.asfortranarray(W.T), y.astype(X.dtype)
    torch.set_num_threads(threads)
    X_, y_ = torch.from_numpy(X), torch.from_numpy(y)

    def scikit_learn():
        return half.loss_gradient(flat, X, labels, n_threads=threads)[1].T

    def pytorch():
        W_ = torch.from_numpy(W).requires_grad_()
        torch.nn.functional.cross_entropy(X_ @ W_, y_).backward()
        return W_.grad.numpy()

    def by(module):
        return lambda: module.value_and_gradient(W, None, X, y, None, 0.0, threads)[1] / len(X)

    return {
        "matrix form": lambda: softmax_loss_vectorized(W, X, y, 0.0)[1],
        "scikit-learn": scikit_learn,
        "PyTorch": pytorch,
        "tiled NumPy": by(passes),
        "luce": by(kernels),
    }


def measure(size: tuple[int, int, int], dtype: type, threads: int, repeats: int) -> dict[str, float]:
    """Return the least seconds of the bare products and of every contender."""
    n, d, c = size
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n, d)).astype(dtype)
    W, R = (rng.standard_normal(s).astype(dtype) / np.sqrt(d).astype(dtype) for s in ((d, c), (n, c)))
    y = rng.integers(0, c, n)
    runs: dict[str, Callable[[], object]] = {"bare": lambda: (X @ W, X.T @ R)}
    runs |= contenders(X, W, y, threads)
    gradients = {name: run() for name, run in runs.items() if name != "bare"}
    for name, gradient in gradients.items():
        error = np.abs(gradient - gradients["tiled NumPy"]).max() / np.abs(gradients["tiled NumPy"]).max()
        assert error < 1e-4, f"{name} gives another gradient: {error:.1e} away"
    best = dict.fromkeys(runs, np.inf)
    for _ in range(repeats):
        for name, run in runs.items():
            time.sleep(0.15)  # the threads of the one before may spin for so long
            began = time.perf_counter()
            run()
            best[name] = min(best[name], time.perf_counter() - began)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument(
        "--sizes", type=int, nargs="*", default=list(range(len(SIZES))), help="rows of the table"
    )
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = []
    with threadpool_limits(options.threads):
        for k in options.sizes:
            for dtype in (np.float32, np.float64):
                best = measure(SIZES[k], dtype, options.threads, options.repeats)
                rows.append(
                    {"size": SIZES[k], "dtype": np.dtype(dtype).name, "goal": GOALS[k], "seconds": best}
                )
                if not options.json:
                    show(rows[-1], first=len(rows) == 1)
    if options.json:
        print(json.dumps({"schema_version": 1, "threads": options.threads, "rows": rows}))
    else:
        variant = "NumPy" if core is None else core.variants()[0]
        print(f"\n{options.threads} threads, {platform.machine()}, {variant}; multiples of the bare products")


def show(row: dict, first: bool) -> None:
    names = [name for name in row["seconds"] if name != "bare"]
    if first:
        print(
            f"{'N x D x C':<18}{'dtype':<9}{'bare ms':>8}"
            + "".join(f"{n:>14}" for n in names)
            + f"{'goal':>7}"
        )
    size, bare = "x".join(map(str, row["size"])), row["seconds"]["bare"]
    multiples = "".join(f"{row['seconds'][name] / bare:>14.2f}" for name in names)
    print(f"{size:<18}{row['dtype']:<9}{bare * 1e3:>8.1f}{multiples}{row['goal']:>7.2f}", flush=True)


if __name__ == "__main__":
    main()
