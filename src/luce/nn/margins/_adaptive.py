"""Margins that follow the feature's length (MagFace, AdaFace) or the course of training (CurricularFace)."""

import torch
from torch import Tensor

from luce.errors import InputError
from luce.nn.margins._base import Beyond, Margin, Target, check_choice, check_positive, shifted


class MagFace(Margin):
    """MagFace: psi = cos(theta + m(a)) with a margin that grows with the feature's length.

    With a the length held to [l_a, u_a], m(a) = l_m + (u_m - l_m) (a - l_a) / (u_a - l_a), and
    each row's loss gains lambda_g (a / u_a^2 + 1 / a), which draws features to longer lengths. Both carry
    gradient to the length inside [l_a, u_a].

    Parameters
    ----------
    l_a, u_a : float
        Bounds of the length, 0 < l_a < u_a.
    l_m, u_m : float
        Margins at those bounds, in radians.
    s : float
        Length of the features in the scores.
    lambda_g : float
        Weight of the length's own term; 0 leaves it out.
    beyond : {"fallback", "easy", "exact"}
        As in `ArcFace`.

    References
    ----------
    Meng, Zhao, Huang, Zhou: MagFace: A Universal Representation for Face Recognition and Quality Assessment,
    CVPR 2021.
    """

    def __init__(
        self,
        l_a: float = 10.0,
        u_a: float = 110.0,
        l_m: float = 0.45,
        u_m: float = 0.8,
        s: float = 64.0,
        lambda_g: float = 35.0,
        beyond: Beyond = "fallback",
    ) -> None:
        super().__init__()
        check_choice("beyond", beyond, Beyond)
        if not 0 < l_a < u_a:
            raise InputError(f"l_a and u_a are {l_a!r} and {u_a!r}; they must satisfy 0 < l_a < u_a")
        self.l_a, self.u_a, self.l_m, self.u_m = float(l_a), float(u_a), float(l_m), float(u_m)
        self.s, self.lambda_g, self.beyond = check_positive("s", s), float(lambda_g), beyond

    def forward(self, c: Tensor, length: Tensor, counted: Tensor) -> Target:
        """Psi and its derivative; see `Margin.forward`."""
        a = length.clamp(self.l_a, self.u_a)
        m = self.l_m + (self.u_m - self.l_m) / (self.u_a - self.l_a) * (a - self.l_a)
        return Target(*shifted(c, m, self.beyond))

    def penalty(self, length: Tensor) -> Tensor | None:
        """lambda_g (a / u_a^2 + 1 / a)."""
        if self.lambda_g == 0:
            return None
        a = length.clamp(self.l_a, self.u_a)
        return self.lambda_g * (a / self.u_a**2 + 1 / a)

    def extra_repr(self) -> str:
        """Settings, for `repr`."""
        return (
            f"l_a={self.l_a}, u_a={self.u_a}, l_m={self.l_m}, u_m={self.u_m}, s={self.s}, "
            f"lambda_g={self.lambda_g}, beyond={self.beyond!r}"
        )


class AdaFace(Margin):
    """AdaFace: psi = cos(theta + g_angle) - g_add, both set by the feature's length as a measure of quality.

    With the length a held to [0.001, 100] and its moving mean and deviation (buffers `mean` and `std`),
    z = clip(h (a - mean) / (std + 0.001), -1, 1), g_angle = -m z, g_add = m z + m; theta + g_angle is held
    to [0, pi]. No gradient flows through the length. A batch of one row updates the mean and leaves the
    deviation alone.

    Parameters
    ----------
    m, h : float
        Margin, and how sharply it reacts to the length.
    s : float
        Length of the features in the scores.
    momentum : float
        Weight of the newest batch in the moving averages.

    References
    ----------
    Kim, Jain, Liu: AdaFace: Quality Adaptive Margin for Face Recognition, CVPR 2022.
    """

    def __init__(self, m: float = 0.4, h: float = 0.333, s: float = 64.0, momentum: float = 0.01) -> None:
        super().__init__()
        self.m, self.h, self.s, self.momentum = float(m), float(h), check_positive("s", s), float(momentum)
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(20.0))
        self.register_buffer("std", torch.tensor(100.0))

    def forward(self, c: Tensor, length: Tensor, counted: Tensor) -> Target:
        """Psi and its derivative; see `Margin.forward`."""
        a = length.detach().clamp(0.001, 100.0)
        if self.training:
            n = counted.sum()
            mean = torch.where(counted, a, 0.0).sum() / n
            variance = torch.where(counted, a - mean, 0.0).square().sum() / (n - 1)
            _move(self.mean, mean, self.momentum, n >= 1)
            _move(self.std, variance.sqrt(), self.momentum, n >= 2)
        z = (self.h * (a - self.mean) / (self.std + 0.001)).clamp(-1, 1)
        psi, slope = shifted(c, -self.m * z, "clip")
        return Target(psi - self.m * (z + 1), slope)

    def extra_repr(self) -> str:
        """Settings, for `repr`."""
        return f"m={self.m}, h={self.h}, s={self.s}, momentum={self.momentum}"


class CurricularFace(Margin):
    """CurricularFace: ArcFace whose hard negatives weigh more as training goes on.

    Other classes with c_j > cos(theta_y + m) score s c_j (t + c_j) in place of s c_j; t (buffer `t`, from 0)
    is the moving average of the target cosines. The target's psi is that of `ArcFace` with its fallback.

    Parameters
    ----------
    m : float
        Margin in radians.
    s : float
        Length of the features.
    momentum : float
        Weight of the newest batch in t.

    References
    ----------
    Huang et al.: CurricularFace: Adaptive Curriculum Learning Loss for Deep Face Recognition, CVPR 2020.
    """

    negatives = "curricular"

    def __init__(self, m: float = 0.5, s: float = 64.0, momentum: float = 0.01) -> None:
        super().__init__()
        self.m, self.s, self.momentum = float(m), check_positive("s", s), float(momentum)
        self.constants = (self.s,)
        self.t: Tensor
        self.register_buffer("t", torch.tensor(0.0))

    def forward(self, c: Tensor, length: Tensor, counted: Tensor) -> Target:
        """Psi and its derivative; see `Margin.forward`."""
        if self.training:
            n = counted.sum()
            _move(self.t, torch.where(counted, c, 0.0).sum() / n, self.momentum, n >= 1)
        psi, slope = shifted(c, self.m, "fallback")
        threshold, _ = shifted(c, self.m, "exact")
        return Target(psi, slope, torch.stack([threshold, self.t.to(c.dtype).expand_as(c)], dim=1))

    def extra_repr(self) -> str:
        """Settings, for `repr`."""
        return f"m={self.m}, s={self.s}, momentum={self.momentum}"


def _move(average: Tensor, newest: Tensor, momentum: float, enough: Tensor) -> None:
    """Move a buffer towards the newest value, unless there was too little to take it from."""
    newest = torch.where(enough, newest.to(average.dtype), average)
    average.lerp_(newest, momentum)
