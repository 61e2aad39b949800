# %% data
import time

import numpy as np
from threadpoolctl import threadpool_limits

import luce

threadpool_limits(1)  # one core for everybody: the comparison is of forms, not of machines
rng = np.random.default_rng(0)


def problem(N, D, C):
    X = rng.standard_normal((N, D))
    return 0.1 * rng.standard_normal((D, C)), X, rng.integers(0, C, N)


def seconds(f, repeats=5):
    """The least of a few runs: what disturbs a measurement only ever makes it longer."""
    best = np.inf
    for _ in range(repeats):
        start = time.perf_counter()
        f()
        best = min(best, time.perf_counter() - start)
    return best


# %% loops
W, X, y = problem(200, 64, 10)
forms = {
    "loops": luce.softmax_loss_naive,
    "matrices": luce.softmax_loss_vectorized,
    "tiles": lambda *problem: luce.softmax_loss(*problem, n_threads=1),
}
times = {name: seconds(lambda f=form: f(W, X, y, 1e-3), 3) for name, form in forms.items()}
for name, t in times.items():
    print(f"{name:9} {1e6 * t / 200:9.2f} microseconds per sample   {times['loops'] / t:8.0f} x")

# %% count
N, D, C = X.shape[0], *W.shape
multiplications = 2 * N * D * C  # X W, and X^T (P - Y)
print(f"{multiplications:,} multiplications and as many additions, {N * C:,} exponentials")
print(f"loops:    {1e9 * times['loops'] / multiplications:8.2f} nanoseconds for each")
print(f"matrices: {1e9 * times['matrices'] / multiplications:8.2f}")
print(f"tiles:    {1e9 * times['tiles'] / multiplications:8.2f}")


# %% tiles
def softmax_loss_tiles(W, X, y, reg, rows):
    """The matrix form on a few rows at a time: nothing larger than (rows, C) is stored."""
    loss, dW = 0.0, np.zeros_like(W)
    for start in range(0, len(X), rows):
        x, t = X[start : start + rows], y[start : start + rows]
        Z = x @ W
        Z -= Z.max(axis=1, keepdims=True)
        loss -= Z[np.arange(len(t)), t].sum()
        np.exp(Z, out=Z)
        total = Z.sum(axis=1, keepdims=True)
        loss += np.log(total).sum()
        Z /= total
        Z[np.arange(len(t)), t] -= 1
        dW += x.T @ Z
    return loss / len(X) + reg / 2 * np.sum(W * W), dW / len(X) + reg * W


W, X, y = problem(8192, 64, 400)
reference = luce.softmax_loss(W, X, y, 1e-3)[1]
print(f"all the scores: {X.shape[0] * W.shape[1] * 8 / 2**20:.0f} MiB")
sizes = [4, 16, 64, 256, 1024, 4096, 8192]
by_size = []
for rows in sizes:
    by_size.append(seconds(lambda rows=rows: softmax_loss_tiles(W, X, y, 1e-3, rows), 2))
    error = abs(softmax_loss_tiles(W, X, y, 1e-3, rows)[1] - reference).max()
    print(
        f"{rows:6} rows: {rows * W.shape[1] * 8 / 2**10:8.0f} KiB  {by_size[-1]:.3f} s  differs {error:.0e}"
    )

# %% tiles_picture tags=["hide-input"]
import matplotlib.pyplot as plt

whole = seconds(lambda: luce.softmax_loss_vectorized(W, X, y, 1e-3), 2)
native = seconds(lambda: luce.softmax_loss(W, X, y, 1e-3, n_threads=1), 3)
figure, axis = plt.subplots()
axis.loglog(sizes, by_size, "o-", label="tiles in NumPy")
axis.axhline(whole, color="C1", ls="--", label="softmax_loss_vectorized")
axis.axhline(native, color="C2", ls="--", label="softmax_loss (compiled tiles)")
axis.set(xlabel="rows in a tile", ylabel="seconds")
axis.legend()
# %% growth
import tracemalloc

grid = [1000, 2000, 4000, 8000]
peaks = {"matrices": [], "tiles in NumPy": []}
for N in grid:
    W, X, y = problem(N, 64, 400)
    for name, form in (
        ("matrices", lambda: luce.softmax_loss_vectorized(W, X, y, 0.0)),
        ("tiles in NumPy", lambda: softmax_loss_tiles(W, X, y, 0.0, 256)),
    ):
        tracemalloc.start()
        form()
        peaks[name].append(tracemalloc.get_traced_memory()[1] / 2**20)
        tracemalloc.stop()
for name, peak in peaks.items():
    print(f"{name:15}", "  ".join(f"N = {N}: {p:6.1f} MiB" for N, p in zip(grid, peak, strict=True)))

# %% single
W, X, y = problem(8192, 64, 400)
W32, X32 = W.astype(np.float32), X.astype(np.float32)
loss64, dW64 = luce.softmax_loss(W, X, y, 1e-3)
loss32, dW32 = luce.softmax_loss(W32, X32, y, 1e-3)
t64 = seconds(lambda: luce.softmax_loss(W, X, y, 1e-3, n_threads=1))
t32 = seconds(lambda: luce.softmax_loss(W32, X32, y, 1e-3, n_threads=1))
print(f"float64 {1e3 * t64:.1f} ms, float32 {1e3 * t32:.1f} ms")
error = abs(dW32 - dW64).max() / abs(dW64).max()
print(f"loss differs by {abs(loss32 / loss64 - 1):.0e}, gradient by {error:.0e}")
