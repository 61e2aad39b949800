"""What all margins share: the protocol, and cos(theta + m) without acos."""

from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from luce.errors import InputError

Beyond = Literal["fallback", "easy", "exact"]
Gradient = Literal["exact", "straight_through"]


class Target(NamedTuple):
    """A margin's answer for N rows."""

    psi: Tensor  # (N,) takes the place of the target's cosine
    slope: Tensor  # (N,) d psi / dc
    state: Tensor | None = None  # (N, S) what the margin's entry of NEGATIVES reads about each row


class Margin(nn.Module):
    """Base of all margins; one of your own defines `forward` and, where it differs, the attributes below.

    Attributes
    ----------
    s : float or None
        Length given to every feature; None keeps the feature's own.
    normalize_weight : bool
        Whether class vectors are brought to length 1.
    negatives : str
        Entry of `luce.nn.margins._negatives.NEGATIVES` that bends the other classes' scores; empty for none.
    constants : tuple of float
        What that entry takes besides the scores and the rows' state.
    binary : tuple of float
        Weights (positive, negative) of one binary loss per class in place of the softmax; empty for softmax.
    """

    s: float | None = None
    normalize_weight: bool = True
    negatives: str = ""
    constants: tuple[float, ...] = ()
    binary: tuple[float, ...] = ()

    def forward(self, c: Tensor, length: Tensor, counted: Tensor) -> Target:
        """Psi and its derivative.

        Parameters
        ----------
        c : Tensor of shape (N,), float32 or float64
            Cosines between the features and their class vectors, in [-1, 1], without gradient.
        length : Tensor of shape (N,)
            Lengths of the features; a psi that depends on them carries gradient to them.
        counted : bool Tensor of shape (N,)
            False for ignored rows, which leave no trace in moving averages.
        """
        raise NotImplementedError

    def penalty(self, length: Tensor) -> Tensor | None:
        """What each row's loss gains by the length of its feature, (N,), or None."""
        return None


def sine(c: Tensor) -> Tensor:
    """sin(theta) >= 0 of c = cos(theta)."""
    return ((1 - c) * (1 + c)).clamp_min(0).sqrt()


def over_sine(value: Tensor, sin: Tensor) -> Tensor:
    """Value over sin(theta), bounded as the module's docstring says."""
    return value / sin.clamp_min(torch.finfo(sin.dtype).eps ** 0.5)


def shifted(c: Tensor, m: float | Tensor, beyond: str) -> tuple[Tensor, Tensor]:
    """cos(theta + m) = c cos m - sin(theta) sin m and its derivative, m of either sign, one or one per row.

    beyond says what happens where theta + m leaves [0, pi] and the cosine would turn round:
    "fallback" the line c - m sin m of the original ArcFace (m >= 0); "easy" plain c for all theta > pi/2;
    "clip" the bound itself; "exact" nothing.
    """
    m = torch.as_tensor(m, dtype=c.dtype, device=c.device)
    cos_m, sin_m = m.cos(), m.sin()
    sin = sine(c)
    psi = c * cos_m - sin * sin_m
    slope = cos_m + sin_m * over_sine(c, sin)
    if beyond == "fallback":
        inside = c > -cos_m
        return torch.where(inside, psi, c - m * sin_m), torch.where(inside, slope, 1.0)
    if beyond == "easy":
        return torch.where(c > 0, psi, c), torch.where(c > 0, slope, 1.0)
    if beyond == "clip":
        above, below = (m > 0) & (c < -cos_m), (m < 0) & (c > cos_m)
        psi = torch.where(above, -1.0, torch.where(below, 1.0, psi))
        return psi, torch.where(above | below, 0.0, slope)
    return psi, slope


def passed_on(slope: Tensor, gradient: str) -> Tensor:
    """The slope that backward uses: the exact one, or 1 as if psi were c."""
    return torch.ones_like(slope) if gradient == "straight_through" else slope


def check_choice(name: str, value: str, choices: object) -> None:
    """Raise InputError unless value is one of the Literal's choices."""
    if value not in get_args(choices):
        allowed = ", ".join(map(repr, get_args(choices)))
        raise InputError(f"{name} is {value!r}; choose one of {allowed}")


def check_positive(name: str, value: float) -> float:
    """The value as a float; raise InputError unless it is above 0."""
    if not value > 0:
        raise InputError(f"{name} is {value!r}; it must be above 0")
    return float(value)
