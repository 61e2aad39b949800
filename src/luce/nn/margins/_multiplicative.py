"""Margins that multiply the angle: L-Softmax, A-Softmax, SphereFace-R."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from luce.errors import InputError
from luce.nn.margins._base import (
    Gradient,
    Margin,
    Target,
    check_choice,
    check_positive,
    over_sine,
    passed_on,
    sine,
)


class Anneal(NamedTuple):
    """Schedule of the blend (lambda c + psi) / (1 + lambda), which eases a multiplied angle into training.

    lambda = max(minimum, base (1 + gamma step)^-power); step counts the calls in training mode, from 0.
    """

    base: float = 1000.0
    gamma: float = 0.12
    power: float = 1.0
    minimum: float = 5.0


class LSoftmax(Margin):
    """L-Softmax: psi = (-1)^k cos(m theta) - 2k on [k pi/m, (k+1) pi/m].

    Features and class vectors keep their lengths. cos(m theta) is the Chebyshev polynomial T_m(c), k counts
    the j in 1..m-1 with c < cos(j pi/m), and d psi / dc = m |U_{m-1}(c)|, at most m^2.

    Parameters
    ----------
    m : int
        Factor of the angle, at least 1; 1 is the plain softmax.
    anneal : Anneal, optional
        Schedule of the blend with the plain cosine; its step counter is the buffer `step`.

    References
    ----------
    Liu, Wen, Yu, Yang: Large-Margin Softmax Loss for Convolutional Neural Networks, ICML 2016.

    Examples
    --------
    >>> import torch
    >>> from luce.nn.margins import LSoftmax
    >>> c = torch.tensor([1.0, 0.0, -1.0])
    >>> LSoftmax(m=2)(c, torch.ones(3), torch.ones(3, dtype=torch.bool)).psi
    tensor([ 1., -1., -3.])
    """

    normalize_weight = False

    def __init__(self, m: int = 4, anneal: Anneal | None = None) -> None:
        super().__init__()
        if m != int(m) or m < 1:
            raise InputError(
                f"m is {m!r}; it must be a whole number from 1 on (SphereFaceR takes any m >= 1)"
            )
        self.m, self.anneal = int(m), anneal
        self.step: Tensor
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))

    def forward(self, c: Tensor, length: Tensor, counted: Tensor) -> Target:
        """Psi and its derivative; see `Margin.forward`."""
        first, second = _chebyshev(c, self.m)
        k = sum(
            ((c < math.cos(j * math.pi / self.m)).to(c.dtype) for j in range(1, self.m)), torch.zeros_like(c)
        )
        psi = (1 - 2 * (k % 2)) * first - 2 * k
        slope = self.m * second.abs()
        if self.anneal is None:
            return Target(psi, slope)
        blend = self.blend().to(c.dtype)
        if self.training:
            self.step += 1
        return Target((blend * c + psi) / (1 + blend), (blend + slope) / (1 + blend))

    def blend(self) -> Tensor:
        """The lambda of the current step, ()."""
        a = self.anneal or Anneal(0.0, minimum=0.0)
        return (a.base * (1 + a.gamma * self.step.double()) ** -a.power).clamp_min(a.minimum)

    def extra_repr(self) -> str:
        """Settings, for `repr`."""
        return f"m={self.m}" + (f", anneal={self.anneal}" if self.anneal else "")


class ASoftmax(LSoftmax):
    """A-Softmax (SphereFace): the psi of L-Softmax, with class vectors of length 1.

    Parameters
    ----------
    m : int
        Factor of the angle, at least 1.
    anneal : Anneal, optional
        Schedule of the blend with the plain cosine; its step counter is the buffer `step`.

    References
    ----------
    Liu, Wen, Yu, Li, Raj, Song: SphereFace: Deep Hypersphere Embedding for Face Recognition, CVPR 2017.
    """

    normalize_weight = True


class SphereFaceR(Margin):
    """SphereFace-R (v1): psi = cos(min(m theta, pi)) for any real m >= 1, features of length s.

    Parameters
    ----------
    m : float
        Factor of the angle, at least 1.
    s : float
        Length of the features.
    gradient : {"exact", "straight_through"}
        The derivative of psi, or 1 (the paper's characteristic gradient detachment).

    References
    ----------
    Liu, Wen, Raj, Singh, Weller: SphereFace Revived, TPAMI 2022.
    """

    def __init__(self, m: float = 1.5, s: float = 30.0, gradient: Gradient = "exact") -> None:
        super().__init__()
        check_choice("gradient", gradient, Gradient)
        if not m >= 1:
            raise InputError(f"m is {m!r}; it must be at least 1")
        self.m, self.s, self.gradient = float(m), check_positive("s", s), gradient

    def forward(self, c: Tensor, length: Tensor, counted: Tensor) -> Target:
        """Psi and its derivative; see `Margin.forward`."""
        sin = sine(c)
        angle = self.m * torch.atan2(sin, c)
        inside = angle < math.pi
        psi = torch.where(inside, angle.cos(), -1.0)
        slope = torch.where(inside, self.m * over_sine(angle.sin(), sin), 0.0)
        return Target(psi, passed_on(slope, self.gradient))

    def extra_repr(self) -> str:
        """Settings, for `repr`."""
        return f"m={self.m}, s={self.s}, gradient={self.gradient!r}"


def _chebyshev(c: Tensor, m: int) -> tuple[Tensor, Tensor]:
    """T_m(c) and U_{m-1}(c), m >= 1, by T_n = 2 c T_{n-1} - T_{n-2} and likewise U."""
    first, first_before = c, torch.ones_like(c)
    second, second_before = torch.ones_like(c), torch.zeros_like(c)
    for _ in range(m - 1):
        first, first_before = 2 * c * first - first_before, first
        second, second_before = 2 * c * second - second_before, second
    return first, second
