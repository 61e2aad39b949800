"""Linear layer and cross-entropy over very many classes on one GPU: checked, then timed against the peers.

    python -m benchmarks.gpu_heads [--quick]

Peers that are not installed are left out: cut-cross-entropy (`cut_cross_entropy`) and Liger (`liger_kernel`).
Every entry gets the same bfloat16 tensors. The gradients of a small problem are first compared with float64.
Times are medians over CUDA events; memory is the peak above the inputs, gradients included.
"""

import argparse
import sys
from collections.abc import Callable
from importlib.util import find_spec
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from luce.nn import margins
from luce.nn.functional import linear_cross_entropy

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
SHAPES = [(8192, 2304, 256_000), (8192, 4096, 131_072)]  # tokens, width, classes; the first is Gemma 2's
QUICK = [(1024, 512, 32_000)]
REPEATS, WARM_UP = 10, 3


class Entry(NamedTuple):
    name: str
    loss: Loss
    truth: Loss  # in float64


def eager(x: Tensor, w: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(F.linear(x, w).float(), y)


def eager_exact(x: Tensor, w: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(F.linear(x, w), y)


def with_margin(name: str, margin: margins.Margin) -> Entry:
    """In float64 the same call is served by the plain tiles, which stand as the truth here."""
    margin = margin.cuda()

    def loss(x: Tensor, w: Tensor, y: Tensor) -> Tensor:
        return linear_cross_entropy(x, w, y, margin=margin)

    return Entry(f"luce, {name}", loss, loss)


def entries() -> list[Entry]:
    peers: dict[str, Loss] = {
        "luce": linear_cross_entropy,
        "eager PyTorch": eager,
        "torch.compile": torch.compile(eager),
    }
    if hasattr(torch.nn, "LinearCrossEntropyOptions"):
        chunked = torch.nn.LinearCrossEntropyOptions()
        peers["torch linear_cross_entropy"] = lambda x, w, y: F.linear_cross_entropy(x, w, y, options=chunked)
    if find_spec("cut_cross_entropy"):
        from cut_cross_entropy import linear_cross_entropy as cut

        peers["cut-cross-entropy"] = cut
        peers["cut-cross-entropy, exact"] = lambda x, w, y: cut(x, w, y, filter_eps=None)
    if find_spec("liger_kernel"):
        from liger_kernel.transformers import LigerFusedLinearCrossEntropyLoss

        liger = LigerFusedLinearCrossEntropyLoss()
        peers["Liger"] = lambda x, w, y: liger(w, x, y)
    return [
        *(Entry(name, loss, eager_exact) for name, loss in peers.items()),
        with_margin("CosFace", margins.CosFace()),
        with_margin("ArcFace", margins.ArcFace()),
        with_margin("L-Softmax m=4", margins.LSoftmax(4)),
    ]


def problem(n: int, d: int, c: int) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    x = torch.randn(n, d, device="cuda", dtype=torch.bfloat16)
    w = torch.randn(c, d, device="cuda", dtype=torch.bfloat16) / d**0.5
    return x.requires_grad_(), w.requires_grad_(), torch.randint(0, c, (n,), device="cuda")


def error(entry: Entry) -> float:
    """Largest error of the two gradients relative to their largest entry, on a problem of odd shape."""
    x, w, y = problem(509, 1000, 5003)
    exact = [part.detach().double().requires_grad_() for part in (x, w)]
    truth = torch.autograd.grad(entry.truth(*exact, y), exact)
    got = torch.autograd.grad(entry.loss(x, w, y), (x, w))
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(got, truth, strict=True))


def milliseconds(step: Callable[[], object]) -> float:
    for _ in range(WARM_UP):
        step()
    times = []
    for _ in range(REPEATS):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        step()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    return sorted(times)[len(times) // 2]


def peak_gigabytes(step: Callable[[], object]) -> float:
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    step()
    return (torch.cuda.max_memory_allocated() - before) / 1e9


def measure(entry: Entry, shape: tuple[int, int, int]) -> str:
    x, w, y = problem(*shape)

    def forward() -> Tensor:
        with torch.no_grad():
            return entry.loss(x, w, y)

    def both() -> tuple[Tensor, ...]:
        return torch.autograd.grad(entry.loss(x, w, y), (x, w))

    times = milliseconds(forward), milliseconds(both)
    memory = peak_gigabytes(both)
    return f"{entry.name:28} {times[0]:10.1f} {times[1]:10.1f} {memory:9.2f} {error(entry):10.1e}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one small shape")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("gpu_heads: no GPU here, so nothing was measured", file=sys.stderr)
        return 1
    print(f"{torch.cuda.get_device_name()}, PyTorch {torch.__version__}, bfloat16")
    for shape in QUICK if options.quick else SHAPES:
        print(f"\n{shape[0]} rows, {shape[1]} wide, {shape[2]} classes")
        print(f"{'':28} {'forward ms':>10} {'+back ms':>10} {'peak GB':>9} {'grad err':>10}")
        for entry in entries():
            try:
                print(measure(entry, shape), flush=True)
            except Exception as failure:  # a peer that fails is a line of the table, not its end
                print(f"{entry.name:28} {type(failure).__name__}: {str(failure).splitlines()[0][:80]}")
            torch.cuda.empty_cache()
    return 0


if __name__ == "__main__":
    sys.exit(main())
