"""How the results of a pass over two sets of samples make that of the pass over both: all are sums."""

from __future__ import annotations

from typing import Any


def plus(first: Any, second: Any) -> Any:
    """Return the sum of two results of one pass of :mod:`luce.loss.kernels`, tuples part by part.

    Examples
    --------
    >>> plus((1.0, 2), (0.5, 3)), plus(1, 2)
    ((1.5, 5), 3)
    """
    if isinstance(first, tuple):
        return tuple(a + b for a, b in zip(first, second, strict=True))
    return first + second
