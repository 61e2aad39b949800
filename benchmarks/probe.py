"""A linear probe of ImageNet's size on synthetic embeddings: one fit where the data lie, and its parts.

    python -m benchmarks.probe [--device cuda] [--rows 1280000] [--features 2048] [--classes 1000]
        [--C 0.01] [--tol 1e-5] [--tf32]

The embeddings have a spectrum that falls as 1/k and class centres, and a tenth of the labels is wrong. The
default size is that of ImageNet under ResNet-50 on a GPU, and a five-thousandth of it on a CPU. Printed are
the seconds of the fit, its passes and proven gap, and how much of the time was spent in passes over the data,
in float32 (steps) and in float64 (proofs): the rest is the solver's own, on the host.
"""

import argparse
import time
from collections import defaultdict

import torch
from torch import Tensor

from luce import SoftmaxClassifier
from luce.blocks import tensors


def embeddings(rows: int, features: int, classes: int, device: str) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    spectrum = torch.arange(1, features + 1, device=device).float().rsqrt()
    centres = torch.randn(classes, features, device=device) * spectrum
    y = torch.randint(0, classes, (rows,), device=device)
    X = torch.randn(rows, features, device=device).mul_(spectrum)
    for start in range(0, rows, 1 << 16):
        part = slice(start, start + (1 << 16))
        X[part] += 0.5 * centres[y[part]]
    wrong = torch.rand(rows, device=device) < 0.1
    return X, torch.where(wrong, torch.randint(0, classes, (rows,), device=device), y)


def timed_passes(device: str) -> dict[str, list[float]]:
    """Seconds of each pass from now on, by name and dtype."""
    seconds: dict[str, list[float]] = defaultdict(list)
    plain = tensors.OnDevice.sum

    def timed(self, name, *args, **options):
        begin = time.perf_counter()
        result = plain(self, name, *args, **options)  # its result is on the host, so the device is done
        dtype = args[0].dtype if args else options.get("dtype", "float64")
        seconds[f"{name}, {dtype}, {len(self.X)} rows"].append(time.perf_counter() - begin)
        return result

    tensors.OnDevice.sum = timed
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--rows", type=int)
    parser.add_argument("--features", type=int)
    parser.add_argument("--classes", type=int)
    parser.add_argument("--C", type=float, default=1e-2)
    parser.add_argument("--tol", type=float, default=1e-5)
    parser.add_argument("--tf32", action="store_true", help="let steps, not proofs, use TF32")
    args = parser.parse_args()
    sizes = (1_280_000, 2048, 1000) if args.device.startswith("cuda") else (20_000, 256, 100)
    given = (args.rows, args.features, args.classes)
    rows, features, classes = (mine or size for mine, size in zip(given, sizes, strict=True))
    torch.set_float32_matmul_precision("high" if args.tf32 else "highest")
    X, y = embeddings(rows, features, classes, args.device)
    seconds = timed_passes(args.device)
    begin = time.perf_counter()
    clf = SoftmaxClassifier(C=args.C, tol=args.tol).fit(X, y)
    total = time.perf_counter() - begin

    print(f"{rows} x {features}, {classes} classes, {X.dtype} on {X.device}{', TF32' * args.tf32}")
    print(
        f"{total:.2f} s, {clf.n_iter_[0]} iterations, {clf.history_[-1]['passes']:.1f} passes, {clf.status_}"
    )
    print(f"loss {clf.loss_:.7f}, proven relative gap {clf.gap_ / clf.loss_:.1e}")
    for name, times in sorted(seconds.items(), key=lambda item: -sum(item[1])):
        print(f"{sum(times):8.2f} s  {len(times):4} x {1e3 * sum(times) / len(times):9.1f} ms  {name}")
    print(f"{total - sum(map(sum, seconds.values())):8.2f} s  the solver itself, on the host")


if __name__ == "__main__":
    main()
