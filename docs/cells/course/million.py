# %% arithmetic
N, D, C = 8192, 512, 1_000_000
for name, size in {"features": N * D, "class vectors": C * D, "scores": N * C}.items():
    print(f"{name:14} {size:>13,} numbers  {4 * size / 2**30:6.2f} GiB in float32")

# %% online
import numpy as np

rng = np.random.default_rng(0)
z = 50 * rng.standard_normal(1_000_000)
top, total = -np.inf, 0.0
for start in range(0, len(z), 4096):  # any tile of the scores may be forgotten once it was added
    part = z[start : start + 4096]
    higher = max(top, part.max())
    total = total * np.exp(top - higher) + np.exp(part - higher).sum()
    top = higher
print("in tiles:", top + np.log(total))
print("at once: ", z.max() + np.log(np.exp(z - z.max()).sum()))


# %% stream
def streamed(x, W, target, tile):
    """Loss and gradients with C in tiles: one way for log sum exp, one for the gradients."""
    top, total = np.full(len(x), -np.inf), np.zeros(len(x))
    for start in range(0, len(W), tile):
        Z = x @ W[start : start + tile].T  # (N, tile)
        higher = np.maximum(top, Z.max(axis=1))
        total = total * np.exp(top - higher) + np.exp(Z - higher[:, None]).sum(axis=1)
        top = higher
    log_sum = top + np.log(total)
    loss = (log_sum - (x * W[target]).sum(axis=1)).mean()
    dx, dW = -W[target], np.zeros_like(W)
    np.subtract.at(dW, target, x)
    for start in range(0, len(W), tile):
        P = np.exp(x @ W[start : start + tile].T - log_sum[:, None])  # the scores again, not remembered
        dx += P @ W[start : start + tile]
        dW[start : start + tile] += P.T @ x
    return loss, dx / len(x), dW / len(x)


import torch

from luce.nn.functional import linear_cross_entropy

x, W = rng.standard_normal((64, 16)), rng.standard_normal((1000, 16))
target = rng.integers(0, 1000, 64)
loss, dx, dW = streamed(x, W, target, tile=128)
tx, tW = torch.tensor(x, requires_grad=True), torch.tensor(W, requires_grad=True)
fused = linear_cross_entropy(tx, tW, torch.tensor(target))
fused.backward()
print(f"loss {loss:.12f}\nluce {fused:.12f}")
print("gradients differ by", abs(dx - tx.grad.numpy()).max(), "and", abs(dW - tW.grad.numpy()).max())

# %% memory
import subprocess
import sys

PROGRAM = """
import resource, sys, torch
from luce.nn.functional import linear_cross_entropy
form, N, D, C = sys.argv[1], *map(int, sys.argv[2:])
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
warm = torch.randn(2, D, requires_grad=True)
linear_cross_entropy(warm, torch.randn(3, D), torch.tensor([0, 1])).backward()
x, W = torch.randn(N, D, requires_grad=True), torch.randn(C, D).requires_grad_()
target = torch.randint(0, C, (N,))
ballast = torch.ones(50_000_000)  # lifts what is in use above the peak of the imports
before = peak()
if form == "luce":
    loss = linear_cross_entropy(x, W, target)
else:
    loss = torch.nn.functional.cross_entropy(x @ W.T, target)
loss.backward()
print(peak() - before)
"""


def extra_memory(form, N, D, C):
    """MiB that loss and gradients need, beyond features and class vectors, in a process of its own."""
    command = [sys.executable, "-c", PROGRAM, form, *map(str, (N, D, C))]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


N, D = 512, 16
print("gradient of W: 64 bytes a class; scores: 2 KiB a class")
print("          C    scores alone    PyTorch       luce     of which dW")
memory = {"PyTorch": {}, "luce": {}}
for C in (10_000, 100_000, 1_000_000):
    memory["luce"][C] = extra_memory("luce", N, D, C)
    if C <= 100_000:
        memory["PyTorch"][C] = extra_memory("torch", N, D, C)
    torch_used = f"{memory['PyTorch'][C]:7.0f} MiB" if C in memory["PyTorch"] else "   not run "
    scores, gradient = 4 * N * C / 2**20, 4 * C * D / 2**20
    print(f"{C:11,} {scores:10.0f} MiB {torch_used} {memory['luce'][C]:6.0f} MiB {gradient:10.0f} MiB")

# %% memory_picture tags=["hide-input"]
import matplotlib.pyplot as plt

figure, axis = plt.subplots()
for name, used in memory.items():
    axis.loglog(used.keys(), used.values(), "o-", label=name)
classes = np.array([1e4, 1e6])
axis.loglog(classes, 4 * N * classes / 2**20, ":", color="gray", label=r"$N \times C$ scores once")
axis.set(xlabel="classes", ylabel="MiB beyond features and weights")
axis.legend()
# %% margin
from luce.nn import ArcFaceLoss

torch.manual_seed(0)
head = ArcFaceLoss(in_features=32, num_classes=100_000, margin=0.5, scale=64.0)
features = torch.randn(64, 32, requires_grad=True)
loss = head(features, torch.randint(0, 100_000, (64,)))
loss.backward()
print(f"loss {loss:.4f}; gradients {tuple(features.grad.shape)} and {tuple(head.weight.grad.shape)}")
