"""Margins that are subtracted from the cosine or added to the angle: CosFace, ArcFace and their mixtures."""

from typing import Literal

import torch
from torch import Tensor

from luce.errors import InputError
from luce.nn.margins._base import (
    Beyond,
    Gradient,
    Margin,
    Target,
    check_choice,
    check_positive,
    over_sine,
    passed_on,
    shifted,
    sine,
)


class CosFace(Margin):
    """CosFace (AM-Softmax): psi = c - m, features of length s.

    Parameters
    ----------
    m : float
        Margin in the cosine.
    s : float
        Length of the features.

    References
    ----------
    Wang et al.: CosFace: Large Margin Cosine Loss for Deep Face Recognition, CVPR 2018.
    Wang, Cheng, Liu, Liu: Additive Margin Softmax for Face Verification, IEEE SPL 2018.
    """

    def __init__(self, m: float = 0.35, s: float = 64.0) -> None:
        super().__init__()
        self.m, self.s = float(m), check_positive("s", s)

    def forward(self, c: Tensor, length: Tensor, counted: Tensor) -> Target:
        """Psi and its derivative; see `Margin.forward`."""
        return Target(c - self.m, torch.ones_like(c))

    def extra_repr(self) -> str:
        """Settings, for `repr`."""
        return f"m={self.m}, s={self.s}"


class ArcFace(Margin):
    """ArcFace: psi = cos(theta + m), features of length s. With K centres per class: sub-center ArcFace.

    Parameters
    ----------
    m : float
        Margin in radians, in [0, pi].
    s : float
        Length of the features.
    beyond : {"fallback", "easy", "exact"}
        Where theta + m > pi: the line c - m sin m of the original; easy margin, which is plain c from
        theta = pi/2 on; or cos(theta + m) throughout.
    gradient : {"exact", "straight_through"}
        The derivative of psi, or 1 as in insightface, where the margin is added outside the graph.

    References
    ----------
    Deng, Guo, Xue, Zafeiriou: ArcFace: Additive Angular Margin Loss for Deep Face Recognition, CVPR 2019.
    Deng, Guo, Liu, Gong, Zafeiriou: Sub-center ArcFace, ECCV 2020.

    Examples
    --------
    >>> import torch
    >>> from luce.nn.margins import ArcFace
    >>> psi, slope, _ = ArcFace(m=0.5)(torch.ones(1), torch.ones(1), torch.ones(1, dtype=torch.bool))
    >>> psi  # cos(0.5)
    tensor([0.8776])
    """

    def __init__(
        self, m: float = 0.5, s: float = 64.0, beyond: Beyond = "fallback", gradient: Gradient = "exact"
    ) -> None:
        super().__init__()
        _check_angle(m, beyond, gradient)
        self.m, self.s, self.beyond, self.gradient = float(m), check_positive("s", s), beyond, gradient

    def forward(self, c: Tensor, length: Tensor, counted: Tensor) -> Target:
        """Psi and its derivative; see `Margin.forward`."""
        psi, slope = shifted(c, self.m, self.beyond)
        return Target(psi, passed_on(slope, self.gradient))

    def extra_repr(self) -> str:
        """Settings, for `repr`."""
        return f"m={self.m}, s={self.s}, beyond={self.beyond!r}, gradient={self.gradient!r}"


class CombinedMargin(Margin):
    """SphereFace, ArcFace and CosFace in one: psi = cos(m1 theta + m2) - m3, features of length s.

    Parameters
    ----------
    m1, m2, m3 : float
        Factor of the angle, margin in radians, margin in the cosine.
    s : float
        Length of the features.
    beyond : {"exact", "fallback", "easy"}
        As in `ArcFace`; other than "exact" only for m1 = 1.
    gradient : {"exact", "straight_through"}
        As in `ArcFace`.

    References
    ----------
    Deng, Guo, Xue, Zafeiriou: ArcFace, CVPR 2019, section 2.2.
    """

    def __init__(
        self,
        m1: float = 1.0,
        m2: float = 0.5,
        m3: float = 0.0,
        s: float = 64.0,
        beyond: Beyond = "exact",
        gradient: Gradient = "exact",
    ) -> None:
        super().__init__()
        _check_angle(m2, beyond, gradient)
        check_positive("m1", m1)
        if m1 != 1 and beyond != "exact":
            raise InputError(
                f"beyond={beyond!r} is defined for m1 = 1 only, not m1 = {m1}; use beyond='exact'"
            )
        self.m1, self.m2, self.m3 = float(m1), float(m2), float(m3)
        self.s, self.beyond, self.gradient = check_positive("s", s), beyond, gradient

    def forward(self, c: Tensor, length: Tensor, counted: Tensor) -> Target:
        """Psi and its derivative; see `Margin.forward`."""
        if self.m1 == 1:
            psi, slope = shifted(c, self.m2, self.beyond)
        else:
            sin = sine(c)
            angle = self.m1 * torch.atan2(sin, c) + self.m2
            psi, slope = angle.cos(), self.m1 * over_sine(angle.sin(), sin)
        return Target(psi - self.m3, passed_on(slope, self.gradient))

    def extra_repr(self) -> str:
        """Settings, for `repr`."""
        return f"m1={self.m1}, m2={self.m2}, m3={self.m3}, s={self.s}, beyond={self.beyond!r}"


class ElasticFace(Margin):
    """ElasticFace: ArcFace or CosFace with a margin drawn anew for every row, m_i ~ Normal(m, sigma).

    In evaluation mode every row gets m. Draws come from torch's global generator (`torch.manual_seed`).

    Parameters
    ----------
    m, sigma : float
        Mean and standard deviation of the margins.
    s : float
        Length of the features.
    kind : {"arc", "cos"}
        Where the margin is applied: psi = cos(theta + m_i), or c - m_i.
    plus : bool
        Give the larger margins of the batch to the rows with the smaller cosines (ElasticFace+).

    References
    ----------
    Boutros, Damer, Kirchbuchner, Kuijper: ElasticFace: Elastic Margin Loss for Deep Face Recognition,
    CVPR Workshops 2022.
    """

    def __init__(
        self,
        m: float = 0.5,
        sigma: float = 0.05,
        s: float = 64.0,
        kind: Literal["arc", "cos"] = "arc",
        plus: bool = False,
    ) -> None:
        super().__init__()
        check_choice("kind", kind, Literal["arc", "cos"])
        if not sigma >= 0:
            raise InputError(f"sigma is {sigma!r}; a standard deviation is not below 0")
        self.m, self.sigma, self.s = float(m), float(sigma), check_positive("s", s)
        self.kind, self.plus = kind, plus

    def forward(self, c: Tensor, length: Tensor, counted: Tensor) -> Target:
        """Psi and its derivative; see `Margin.forward`."""
        m = torch.full_like(c, self.m)
        if self.training:
            m = m + self.sigma * torch.randn_like(c)
            if self.plus:
                m = torch.empty_like(m).scatter_(0, c.argsort(descending=True), m.sort().values)
        if self.kind == "cos":
            return Target(c - m, torch.ones_like(c))
        return Target(*shifted(c, m, "exact"))

    def extra_repr(self) -> str:
        """Settings, for `repr`."""
        return f"m={self.m}, sigma={self.sigma}, s={self.s}, kind={self.kind!r}, plus={self.plus}"


def _check_angle(m: float, beyond: str, gradient: str) -> None:
    check_choice("beyond", beyond, Beyond)
    check_choice("gradient", gradient, Gradient)
    if not 0 <= m <= torch.pi:
        raise InputError(f"the angular margin is {m!r}; it is in radians, between 0 and pi")
