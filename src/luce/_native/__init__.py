"""The compiled kernels, where they could be built and this machine can run them.

Two environment variables, read at import, choose among them: ``LUCE_NATIVE=0`` does without, and
``LUCE_CPU=baseline`` (``avx2``, ``avx512``) takes the code for another instruction set than the best one.
"""

from __future__ import annotations

import os
import warnings
from importlib import import_module
from typing import Any

__all__ = ["core"]


def _load() -> Any:
    if os.environ.get("LUCE_NATIVE", "1") == "0":
        return None
    try:
        kernels: Any = import_module("luce._native._core")
    except ImportError as error:
        warnings.warn(
            f"luce's compiled kernels cannot be loaded ({error}): pure NumPy is used, which is slower; "
            "reinstalling luce where a C++ compiler is at hand mends it",
            RuntimeWarning,
            stacklevel=3,
        )
        return None
    wanted = os.environ.get("LUCE_CPU")
    if wanted:
        kernels.use(wanted)
    return kernels


core = _load()  # None without them
