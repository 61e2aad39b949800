"""Linear layer and cross-entropy, with margins and without: luce against its peers, checked, then timed.

    python -m benchmarks.heads [--quick] [--device cpu|cuda] [--float32]

Every entry gets the same tensors: float32 on the CPU, bfloat16 on a GPU unless told otherwise. The gradients
of a small problem are compared with float64. All entries take turns, and times are medians over the turns;
memory is the peak above the inputs, gradients included. Peers: eager PyTorch, torch.compile, PyTorch's own
linear_cross_entropy, pytorch-metric-learning for margins; on a GPU also cut-cross-entropy and Liger, which
have kernels for nothing else. Those that are not installed are named and left out.
"""

import argparse
import ctypes
import sys
import time
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from luce.nn import margins
from luce.nn.functional import linear_cross_entropy

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
SHAPES = {  # rows, width, classes
    "cpu": [(128, 128, 1000), (512, 512, 1000), (1024, 256, 10_000), (256, 128, 200_000)],
    "cuda": [(8192, 2304, 256_000), (8192, 4096, 131_072)],  # the first is Gemma 2's
}
QUICK = {"cpu": [(512, 128, 4000)], "cuda": [(1024, 512, 32_000)]}
ODD = (509, 123, 1003)  # where gradients are compared with float64
SECONDS = 3.0  # of turns per entry and shape
TURNS = 3, 200  # at least and at most


class Entry(NamedTuple):
    name: str
    loss: Loss
    truth: Loss  # the same in float64


def eager(x: Tensor, w: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(F.linear(x, w).float(), y)


def eager_exact(x: Tensor, w: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(F.linear(x, w), y)


def plain_entries(device: str) -> list[Entry]:
    losses: dict[str, Loss] = {
        "luce": linear_cross_entropy,
        "eager PyTorch": eager,
        "torch.compile": torch.compile(eager, dynamic=False),
    }
    if hasattr(torch.nn, "LinearCrossEntropyOptions"):
        chunked = torch.nn.LinearCrossEntropyOptions()
        losses["torch linear_cross_entropy"] = lambda x, w, y: F.linear_cross_entropy(
            x, w, y, options=chunked
        )
    if device == "cuda" and installed("cut_cross_entropy"):
        from cut_cross_entropy import linear_cross_entropy as cut

        losses["cut-cross-entropy"] = cut
        losses["cut-cross-entropy, exact"] = lambda x, w, y: cut(x, w, y, filter_eps=None)
    if device == "cuda" and installed("liger_kernel"):
        from liger_kernel.transformers import LigerFusedLinearCrossEntropyLoss

        liger = LigerFusedLinearCrossEntropyLoss()
        losses["Liger"] = lambda x, w, y: liger(w, x, y)
    return [Entry(name, loss, eager_exact) for name, loss in losses.items()]


def margin_entries(device: str, width: int, n_classes: int) -> list[Entry]:
    def ours(name: str, margin: margins.Margin) -> Entry:
        margin = margin.to(device)

        def loss(x: Tensor, w: Tensor, y: Tensor) -> Tensor:
            return linear_cross_entropy(x, w, y, margin=margin)

        return Entry(f"luce, {name}", loss, loss)  # float64 is served by the plain tiles

    def theirs(name: str, module: torch.nn.Module, truth: Loss) -> Entry:
        def loss(x: Tensor, w: Tensor, y: Tensor) -> Tensor:
            return torch.func.functional_call(module, {"W": w.T}, (x, y))

        return Entry(f"metric-learning, {name}", loss, truth)

    entries = [
        ours("CosFace", margins.CosFace(0.35, 64.0)),
        ours("ArcFace", margins.ArcFace(0.5, 64.0, beyond="easy")),
        ours("L-Softmax m=4", margins.LSoftmax(4)),
    ]
    if installed("pytorch_metric_learning"):
        from pytorch_metric_learning.losses import CosFaceLoss

        module = CosFaceLoss(n_classes, width, margin=0.35, scale=64.0).to(device)
        entries.insert(1, theirs("CosFace", module, entries[0].truth))
    return entries


def installed(package: str) -> bool:
    if find_spec(package) is None:
        print(f"{package} is not installed and is left out", file=sys.stderr)
        return False
    return True


def problem(shape: tuple[int, int, int], device: str, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    n, d, c = shape
    torch.manual_seed(0)
    x = torch.randn(n, d, device=device, dtype=dtype)
    w = torch.randn(c, d, device=device, dtype=dtype) / d**0.5
    return x.requires_grad_(), w.requires_grad_(), torch.randint(0, c, (n,), device=device)


def error(entry: Entry, device: str, dtype: torch.dtype) -> float:
    """Largest error of the two gradients relative to their largest entry."""
    x, w, y = problem(ODD, device, dtype)
    exact = [part.detach().double().requires_grad_() for part in (x, w)]
    truth = torch.autograd.grad(entry.truth(*exact, y), exact)
    got = torch.autograd.grad(entry.loss(x, w, y), (x, w))
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(got, truth, strict=True))


def milliseconds(step: Callable[[], object], device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    begin = time.perf_counter()
    step()
    if device == "cuda":
        torch.cuda.synchronize()
    return 1e3 * (time.perf_counter() - begin)


def peak_gigabytes(step: Callable[[], object], device: str) -> float:
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        return (torch.cuda.max_memory_allocated() - before) / 1e9
    ctypes.CDLL(None).malloc_trim(0)  # what was freed and not given back would be used again unseen
    before = resident("VmRSS")
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    step()
    return (resident("VmHWM") - before) / 1e9


def resident(name: str) -> int:
    with open("/proc/self/status") as file:
        return 1024 * next(int(line.split()[1]) for line in file if line.startswith(name))


def table(shape: tuple[int, int, int], device: str, dtype: torch.dtype) -> None:
    torch.compiler.reset()  # it gives up on a function that it has compiled for many shapes
    x, w, y = problem(shape, device, dtype)
    groups = [plain_entries(device), margin_entries(device, *shape[1:])]
    checked = [plain_entries(device), margin_entries(device, *ODD[1:])]
    print(f"\n{shape[0]} rows, {shape[1]} wide, {shape[2]} classes, {str(dtype)[6:]}")
    print(f"{'':28} {'forward ms':>10} {'+back ms':>10} {'speed':>7} {'peak GB':>9} {'grad err':>9}")
    for group, small in zip(groups, checked, strict=True):
        steps: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {}
        for entry in group:

            def forward(loss: Loss = entry.loss) -> Tensor:
                with torch.no_grad():
                    return loss(x, w, y)

            def both(loss: Loss = entry.loss) -> tuple[Tensor, ...]:
                return torch.autograd.grad(loss(x, w, y), (x, w))

            try:
                forward(), both()
                steps[entry.name] = forward, both
            except Exception as failure:  # a peer that fails is a line of the table, not its end
                print(f"{entry.name:28} {type(failure).__name__}: {str(failure).splitlines()[0][:80]}")
        times = turns(steps, device)
        first = next(iter(times.values()))[1]
        for entry in small:
            if entry.name in times:
                ahead, back = times[entry.name]
                memory = peak_gigabytes(steps[entry.name][1], device)
                wrong = error(entry, device, dtype)
                speed = f"{first / back:.2f}x"
                row = f"{ahead:10.2f} {back:10.2f} {speed:>7} {memory:9.3f} {wrong:9.0e}"
                print(f"{entry.name:28} {row}", flush=True)


def turns(
    steps: dict[str, tuple[Callable[[], object], Callable[[], object]]], device: str
) -> dict[str, tuple[float, float]]:
    """Median milliseconds (forward, forward and backward) of each entry; all take turns."""
    taken: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in steps}
    begin, least, most = time.perf_counter(), *TURNS
    for turn in range(most):
        for name, pair in steps.items():
            for step, times in zip(pair, taken[name], strict=True):
                times.append(milliseconds(step, device))
        if turn + 1 >= least and time.perf_counter() - begin > SECONDS * len(steps):
            break
    return {
        name: (sorted(ahead)[len(ahead) // 2], sorted(back)[len(back) // 2])
        for name, (ahead, back) in taken.items()
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one small shape")
    parser.add_argument("--device", choices=["cpu", "cuda"], help="the GPU if there is one")
    parser.add_argument("--float32", action="store_true", help="on a GPU too")
    options = parser.parse_args()
    device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    if device == "cuda" and not torch.cuda.is_available():
        print("heads: no GPU here, so nothing was measured", file=sys.stderr)
        return 1
    warnings.filterwarnings("ignore", module="torch")
    dtype = torch.float32 if device == "cpu" or options.float32 else torch.bfloat16
    name = torch.cuda.get_device_name() if device == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    print(f"{name}, PyTorch {torch.__version__}; speed: of forward and backward, of the group's first as 1")
    if device == "cpu":
        print("cut-cross-entropy and Liger run on CUDA only")
    for shape in (QUICK if options.quick else SHAPES)[device]:
        table(shape, device, dtype)
    return 0


if __name__ == "__main__":
    sys.exit(main())
