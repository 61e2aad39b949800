"""Lengths and directions of vectors that survive zero and huge entries."""

import torch
from torch import Tensor

_CHUNK = 1 << 18  # entries of the class weights looked at together, so that no second C x D array exists


def accumulator(dtype: torch.dtype) -> torch.dtype:
    """The dtype of sums over values of `dtype`: float64 stays, everything shorter is summed in float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def unit(x: Tensor) -> tuple[Tensor, Tensor]:
    """Direction (..., D) and length (...) of the vectors in the last dimension, both differentiable.

    The largest entry is divided out before squaring, so 1e30 in float32 does not overflow. Vectors whose
    entries all lie below tiny/eps (1e-31 in float32) count as zero: direction 0, length 0, gradient 0.
    """
    x = x.to(accumulator(x.dtype))
    peak = x.detach().abs().amax(-1, keepdim=True)
    zero = peak <= _smallest(x.dtype)
    scaled = torch.where(zero, 0.0, x / torch.where(zero, 1.0, peak))
    length = torch.linalg.vector_norm(scaled, dim=-1, keepdim=True)
    return scaled / torch.where(zero, 1.0, length), (length * peak).squeeze(-1)


def inverse_lengths(rows: Tensor) -> Tensor:
    """1/|row| of a (C, D) matrix as (C,), 0 for zero rows; not differentiable, works in small chunks."""
    with torch.no_grad():
        chunks = torch.split(rows, max(1, _CHUNK // rows.shape[1]))
        return torch.cat([_inverse_lengths(chunk.to(accumulator(rows.dtype))) for chunk in chunks])


def _inverse_lengths(rows: Tensor) -> Tensor:
    inverse: Tensor = 1 / torch.linalg.vector_norm(rows, dim=1)
    safe = _smallest(rows.dtype) ** 0.25
    if bool(((inverse > safe) & (inverse < 1 / safe)).all()):
        return inverse
    # Somewhere the squares left the range of the dtype, or came near to it.
    peak = rows.abs().amax(1)
    zero = peak <= _smallest(rows.dtype)
    peak = torch.where(zero, 1.0, peak)
    length = torch.linalg.vector_norm(rows / peak[:, None], dim=1)
    return torch.where(zero, 0.0, 1.0 / torch.where(zero, 1.0, length) / peak)


def remove_radial_(gradient: Tensor, rows: Tensor, inverse: Tensor) -> None:
    """Take from each row of `gradient` its part along that row of `rows`, in place and in small chunks.

    With w^ = w / |w|, a loss of w^ has dL/dw = (g - w^ (w^ . g)) / |w|. The tiles already deliver g / |w|.
    """
    size = max(1, _CHUNK // rows.shape[1])
    for g, w, inv in zip(*(torch.split(part, size) for part in (gradient, rows, inverse)), strict=True):
        direction = w.to(g.dtype) * inv[:, None]
        g.addcmul_(direction, torch.linalg.vecdot(direction, g)[:, None], value=-1.0)


def _smallest(dtype: torch.dtype) -> float:
    info = torch.finfo(dtype)
    return float(info.tiny / info.eps)
