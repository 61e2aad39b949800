"""Start-up: seconds to import luce, and to print its help, above what they stand on.

python -m benchmarks.startup [--repeats 7]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time

CASES = [
    ("import luce", "import luce", "pass"),
    ("luce --help", "from luce.cli import main; main(['--help'])", "import click"),
    (
        "luce.SoftmaxClassifier",
        "import luce; luce.SoftmaxClassifier",
        "import numpy, scipy.sparse, scipy.linalg, threadpoolctl, sklearn.base, sklearn.utils.validation, "
        "sklearn.utils.class_weight, sklearn.utils.multiclass",
    ),
    ("luce.nn", "import luce.nn", "import torch"),
]


def seconds(code: str, repeats: int) -> float:
    """Return the least time that a fresh interpreter takes over some code."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    print(f"{'':24s}{'seconds':>9s}{'below it':>10s}{'luce adds':>11s}")
    for name, code, below in CASES:
        ours, floor = seconds(code, options.repeats), seconds(below, options.repeats)
        print(f"{name:24s}{ours:9.3f}{floor:10.3f}{ours - floor:11.3f}")


if __name__ == "__main__":
    main()
