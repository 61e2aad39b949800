"""The race: seconds to a relative gap, luce against the solvers that people use.

Each fit runs in a fresh process with a growing budget (iterations for the peers, tolerance for luce). What it
returns is judged outside, in float64, by ``mean loss + reg/2 ||W||^2``; the optimum is the lowest value that
any of them reached, and luce's own proven bound says how far that can be off.

    python -m benchmarks.race [--cases NAME ...] [--regs 1e-3 1e-5] [--seconds 60] [--picture race.png]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import scipy.sparse as sp

from benchmarks.cases import CASES, load

LEVELS = (1e-2, 1e-3, 1e-4, 1e-6)


def luce_fit(X, y, reg, budget):
    from luce import SoftmaxClassifier

    clf = SoftmaxClassifier(C=1 / (reg * X.shape[0]), tol=budget, max_iter=5000).fit(X, y)
    return clf.coef_, clf.intercept_, clf.gap_


def sklearn_fit(solver):
    def fit(X, y, reg, budget):
        from sklearn.linear_model import LogisticRegression

        clf = LogisticRegression(C=1 / (reg * X.shape[0]), solver=solver, tol=1e-12, max_iter=int(budget))
        clf.fit(X, y)
        return clf.coef_, clf.intercept_, None

    return fit


def cyanure_fit(X, y, reg, budget):
    from cyanure.estimators import Classifier

    clf = Classifier(
        loss="multiclass-logistic", penalty="l2", lambda_1=reg, fit_intercept=True, tol=1e-9,
        max_iter=int(budget), verbose=False, duality_gap_interval=int(budget), safe=False,
    )  # fmt: skip
    clf.fit(X, y)
    coef = np.asarray(clf.get_weights()[0] if isinstance(clf.get_weights(), tuple) else clf.coef_)
    coef = coef if coef.shape[1] == X.shape[1] else coef.T
    return coef, np.asarray(clf.intercept_).ravel(), None


def torch_fit(X, y, reg, budget):
    import torch

    data, target = torch.from_numpy(X), torch.from_numpy(y)
    W = torch.zeros(X.shape[1], int(y.max()) + 1, dtype=data.dtype, requires_grad=True)
    b = torch.zeros(W.shape[1], dtype=data.dtype, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [W, b], max_iter=int(budget), tolerance_grad=0, tolerance_change=0, history_size=20,
        line_search_fn="strong_wolfe",
    )  # fmt: skip

    def closure():
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(data @ W + b, target) + reg / 2 * W.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return W.detach().numpy().T, b.detach().numpy(), None


def glmnet_fit(X, y, reg, budget):
    from glmnet import LogitNet

    path = np.geomspace(
        1e3 * reg, reg, 7
    )  # as its authors advise: down to the penalty, each fit from the last
    net = LogitNet(alpha=0, lambda_path=path, standardize=False, tol=budget, max_iter=10**7, n_splits=0)
    net.fit(np.asfortranarray(X, dtype=np.float64), y)
    return net.coef_path_[..., -1], net.intercept_path_[..., -1].ravel(), None


BUDGETS = tuple(round(2 ** (k / 2)) for k in range(2, 24))  # 2, 3, 4, 6, 8, 11, 16, ... 2896
PEERS = {
    "luce": (luce_fit, (1e-1, 1e-2, 1e-3, 1e-4, 1e-6, 1e-8)),
    "sklearn lbfgs": (sklearn_fit("lbfgs"), BUDGETS),
    "sklearn newton-cg": (sklearn_fit("newton-cg"), BUDGETS),
    "sklearn newton-cholesky": (sklearn_fit("newton-cholesky"), BUDGETS),
    "sklearn saga": (sklearn_fit("saga"), BUDGETS),
    "Cyanure": (cyanure_fit, BUDGETS),
    "PyTorch L-BFGS": (torch_fit, BUDGETS),
    "glmnet": (glmnet_fit, (1e-3, 1e-5, 1e-7, 1e-9, 1e-11)),
}


def _saved(folder: Path, X, y) -> None:
    np.save(folder / "y.npy", y)
    if sp.issparse(X):
        sp.save_npz(folder / "X.npz", X)
    else:
        np.save(folder / "X.npy", X)


def _loaded(folder: Path):
    sparse = folder / "X.npz"
    X = sp.load_npz(sparse) if sparse.exists() else np.load(folder / "X.npy")
    return X, np.load(folder / "y.npy")


def worker(data: str, peer: str, reg: float, budget: float, out: str) -> None:
    """One fit in its own process: warm up the imports, then time the fit alone."""
    warnings.simplefilter("ignore")
    X, y = _loaded(Path(data))
    fit = PEERS[peer][0]
    few = np.sort(np.concatenate([np.flatnonzero(y == k)[:3] for k in range(y.max() + 1)]))
    fit(X[few], y[few], 1e-1, PEERS[peer][1][0])
    start = time.perf_counter()
    coef, intercept, gap = fit(X, y, reg, budget)
    seconds = time.perf_counter() - start
    np.savez(out, coef=coef, intercept=intercept, seconds=seconds, gap=np.nan if gap is None else gap)


def objective(X, y, coef, intercept, reg) -> float:
    """The mean loss and the penalty in float64, by blocks of rows."""
    total = 0.0
    W, b = coef.astype(np.float64).T, intercept.astype(np.float64)
    for start in range(0, X.shape[0], 4096):
        Z = X[start : start + 4096].astype(np.float64) @ W + b
        top = Z.max(axis=1)
        total += np.sum(np.log(np.exp(Z - top[:, None]).sum(axis=1)) + top)
        total -= np.sum(Z[np.arange(len(Z)), y[start : start + 4096]])
    return total / X.shape[0] + reg / 2 * np.sum(W * W)


def race(X, y, reg: float, seconds: float, peers) -> dict[str, list[tuple[float, float]]]:
    """Return, for each peer, (seconds, objective) for growing budgets until one fit takes too long."""
    traces: dict[str, list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        out = str(Path(folder) / "out.npz")
        _saved(Path(folder), X, y)
        for peer in peers:
            traces[peer] = []
            for budget in PEERS[peer][1]:
                call = [
                    sys.executable,
                    "-m",
                    "benchmarks.race",
                    "--worker",
                    folder,
                    peer,
                    str(reg),
                    str(budget),
                    out,
                ]
                try:
                    done = subprocess.run(call, timeout=4 * seconds + 30, capture_output=True, text=True)
                except subprocess.TimeoutExpired:
                    break
                if done.returncode:
                    print(f"  {peer}: {done.stderr.strip().splitlines()[-1][:100]}", file=sys.stderr)
                    break
                got = np.load(out)
                value = objective(X, y, got["coef"], got["intercept"], reg)
                traces[peer].append((float(got["seconds"]), value))
                print(f"  {peer:24s} {budget:>7g}  {got['seconds']:8.3f} s  {value:.10g}", file=sys.stderr)
                if got["seconds"] > seconds:
                    break
    return traces


def first(trace, optimum: float, level: float) -> float | None:
    """Return the least seconds in which a trace came within a relative gap of the optimum."""
    return min((s for s, value in trace if value - optimum <= level * optimum), default=None)


def table(traces, optimum: float) -> None:
    print(f"    {'seconds to a relative gap of':28s}" + "".join(f"{level:>10.0e}" for level in LEVELS))
    for peer, trace in traces.items():
        times = [first(trace, optimum, level) for level in LEVELS]
        print(f"    {peer:28s}" + "".join(f"{'-' if t is None else format(t, '.3g'):>10s}" for t in times))
    ratios = []
    for level in LEVELS:
        ours = first(traces.get("luce", []), optimum, level)
        others = [first(t, optimum, level) for p, t in traces.items() if p != "luce"]
        others = [t for t in others if t is not None]
        ratios.append("-" if not ours else f"{min(others) / ours:.1f}x" if others else "only luce")
    print(f"    {'best peer / luce':28s}" + "".join(f"{r:>10s}" for r in ratios))


def picture(results, path: str) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, len(results), figsize=(4.5 * len(results), 4), squeeze=False)
    for axis, ((case, reg), (traces, optimum)) in zip(axes[0], results.items(), strict=True):
        for peer, trace in traces.items():
            s, gap = [t for t, _ in trace], [max((v - optimum) / optimum, 1e-10) for _, v in trace]
            axis.loglog(s, gap, marker="o", ms=3, lw=2.5 if peer == "luce" else 1, label=peer)
        axis.set(title=f"{case}, reg {reg:g}", xlabel="seconds", ylabel="relative gap")
        axis.grid(alpha=0.3)
    axes[0][0].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=130)


def main() -> None:
    if sys.argv[1:2] == ["--worker"]:
        data, peer, reg, budget, out = sys.argv[2:]
        return worker(data, peer, float(reg), float(budget), out)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", nargs="*", default=list(CASES), choices=list(CASES))
    parser.add_argument("--regs", nargs="*", type=float, default=[1e-3, 1e-5, 1e-7])
    parser.add_argument("--peers", nargs="*", default=list(PEERS), choices=list(PEERS))
    parser.add_argument(
        "--seconds", type=float, default=30, help="a peer's last budget is the first over this"
    )
    parser.add_argument("--picture", help="write gap against seconds to this PNG")
    parser.add_argument("--json", help="write all traces to this file")
    options = parser.parse_args()
    results = {}
    for case in options.cases:
        loaded = load(case)
        if loaded is None:
            continue
        X, y = loaded
        for reg in options.regs:
            print(
                f"\n{case}: {X.shape[0]} x {X.shape[1]} {X.dtype}, {y.max() + 1} classes, reg {reg:g}",
                flush=True,
            )
            traces = race(X, y, reg, options.seconds, options.peers)
            optimum = min(value for trace in traces.values() for _, value in trace)
            results[case, reg] = (traces, optimum)
            table(traces, optimum)
    if options.picture:
        picture(results, options.picture)
    if options.json:
        Path(options.json).write_text(json.dumps({f"{c} reg {r:g}": v for (c, r), v in results.items()}))


if __name__ == "__main__":
    main()
