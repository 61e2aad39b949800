"""luce: the softmax classifier, done to the end."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from luce import callbacks, solvers
    from luce.estimator import SoftmaxClassifier
    from luce.loss.check import numerical_gradient, relative_error
    from luce.loss.naive import softmax_loss_naive
    from luce.loss.tiled import softmax_loss
    from luce.loss.vectorized import softmax_loss_vectorized
    from luce.model_file import load, save
    from luce.path import SoftmaxClassifierCV, softmax_path

__version__ = "0.1.0"

# Where each public name lives; it is imported at its first use, so that `import luce` costs nothing.
_HOME = {
    "SoftmaxClassifier": "luce.estimator",
    "SoftmaxClassifierCV": "luce.path",
    "load": "luce.model_file",
    "numerical_gradient": "luce.loss.check",
    "relative_error": "luce.loss.check",
    "save": "luce.model_file",
    "softmax_loss": "luce.loss.tiled",
    "softmax_loss_naive": "luce.loss.naive",
    "softmax_loss_vectorized": "luce.loss.vectorized",
    "softmax_path": "luce.path",
}
_MODULES = ("callbacks", "nn", "plot", "report", "solvers")

__all__ = [
    "SoftmaxClassifier",
    "SoftmaxClassifierCV",
    "callbacks",
    "load",
    "numerical_gradient",
    "relative_error",
    "save",
    "softmax_loss",
    "softmax_loss_naive",
    "softmax_loss_vectorized",
    "softmax_path",
    "solvers",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    if name in _MODULES:
        return importlib.import_module(f"luce.{name}")
    raise AttributeError(f"module 'luce' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*__all__, *_MODULES, "__version__"})
