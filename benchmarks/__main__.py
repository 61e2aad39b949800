"""All benchmarks, one after the other: ``make bench``. Each is also a program of its own."""

import subprocess
import sys
from pathlib import Path

if __name__ == "__main__":
    here = Path(__file__).parent
    names = sorted(
        path.stem for path in here.glob("*.py") if path.stem not in ("__init__", "__main__", "cases")
    )
    for name in names:
        print(f"\n== {name}: python -m benchmarks.{name}", flush=True)
        done = subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *sys.argv[1:]], check=False)
        if done.returncode:
            print(f"benchmarks.{name} ended with status {done.returncode}", flush=True)
