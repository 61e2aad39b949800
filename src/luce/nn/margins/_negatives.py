"""The few elementwise functions that bend the scores of the classes that are *not* the target.

Each takes a tile u (R, T) of scores s cos(theta), the rows' state (R, S) and the margin's constants, and
returns the bent scores and their derivative; u may be overwritten. They are named, not passed, so that the
same problem can be handed to a compiled operator or to a GPU kernel.
"""

from collections.abc import Callable

import torch
from torch import Tensor

Bend = Callable[..., tuple[Tensor, Tensor]]


def curricular(u: Tensor, state: Tensor, s: float) -> tuple[Tensor, Tensor]:
    """The score s c (t + c) where c exceeds the row's threshold, else s c; state holds (threshold, t)."""
    threshold, t = state[:, :1], state[:, 1:]
    easy = u <= s * threshold
    factor = u.div(s).add_(t).masked_fill_(easy, 1.0)  # t + c
    return u.mul_(factor), factor.mul_(2).sub_(t).masked_fill_(easy, 1.0)


def sphereface2(
    u: Tensor, state: Tensor | None, s: float, m: float, t: float, straight: float
) -> tuple[Tensor, Tensor]:
    """The score s (g(c) + m) with g(c) = 2 ((c + 1) / 2)^t - 1."""
    half = u.div_(2 * s).add_(0.5).clamp_min_(0)
    slope = torch.ones_like(half) if straight else t * half ** (t - 1)
    return half.pow_(t).mul_(2 * s).add_(s * (m - 1)), slope


NEGATIVES: dict[str, Bend] = {"curricular": curricular, "sphereface2": sphereface2}
