"""What one call of the loss is made of, free of any backend.

Every loss of `luce.nn` has the form, for row i with raw scores u_ij = x_i . w_j (or x_i . w_j / |w_j|)::

    v_ij = f(u_ij)  for j != y_i          f: what a margin does to the other scores, nearly always nothing
    v_iy = phi_i                          what a margin does to the target's score; u_iy where there is none
    z_ij = cap(v_ij + bias_j) + prior_j   cap(a) = softcap * tanh(a / softcap)

    softmax:  loss_i = mass_i lse_i - hit_i z_iy - smooth_i sum_j class_weight_j z_ij + zeta_i lse_i^2
    binary:   loss_i = hit_i (positive * softplus(-z_iy) + negative * sum_{j != y} softplus(z_ij))

with lse_i = logsumexp_j z_ij. Weights of classes, label smoothing, reduction and z-loss are all in the row
coefficients, and phi is known before any class is streamed, because it needs the target's own score alone.
So a backend (tiles here, a GPU kernel, one shard of the classes) implements this form and nothing else. Class
numbers that lie outside the weight's rows are nobody's target, which is what a shard of the classes needs;
for whole problems `check_targets` rules them out.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from luce.errors import InputError


class Problem(NamedTuple):
    """The tensors of one call; None where an option is off. The first four can carry gradient."""

    x: Tensor  # (N, D)
    weight: Tensor  # (C, D), or (C, K, D): K centres per class, the best one scores
    bias: Tensor | None  # (C,)
    phi: Tensor | None  # (N,) replaces the target's raw score
    slope: Tensor | None  # (N,) d phi / d u_iy with |x| and |w| held fixed
    target: Tensor  # (N,) class numbers, or (N, C) probabilities
    mass: Tensor  # (N,) coefficient of lse
    hit: Tensor  # (N,) coefficient of the target's score
    smooth: Tensor | None  # (N,) coefficient of the class-weighted sum of all scores
    zeta: Tensor | None  # (N,) coefficient of lse^2
    state: Tensor | None  # (N, S) what f reads about the row
    class_weight: Tensor | None  # (C,)
    prior: Tensor | None  # (C,)

    def rows(self, index: slice | Tensor) -> "Problem":
        """The same problem for some of the rows."""
        return self._replace(
            **{
                name: value[index]
                for name in ("x", "phi", "slope", "target", "mass", "hit", "smooth", "zeta", "state")
                if (value := getattr(self, name)) is not None
            }
        )

    def scaled(self, by: Tensor) -> "Problem":
        """The same problem with row i's loss multiplied by by[i]."""
        return self._replace(
            **{
                name: value * by
                for name in ("mass", "hit", "smooth", "zeta")
                if (value := getattr(self, name)) is not None
            }
        )


class Options(NamedTuple):
    """The settings of one call that are not tensors."""

    ignore_index: int = -100
    softcap: float = 0.0  # 0: none
    normalize: bool = False  # divide each class's score by |w_j|
    negatives: str = ""  # f, by its name in `luce.nn.margins._negatives.NEGATIVES`; empty: the identity
    constants: tuple[float, ...] = ()  # of f
    binary: tuple[float, ...] = ()  # (positive, negative); empty: softmax
    product: torch.dtype = torch.float32  # operands' on a device that has products of half precision


class Needs(NamedTuple):
    """Which gradients are wanted."""

    x: bool
    weight: bool
    bias: bool
    phi: bool


class Gradients(NamedTuple):
    """Gradients of the summed loss; an empty tensor where none was wanted."""

    x: Tensor
    weight: Tensor
    bias: Tensor
    phi: Tensor


def check_targets(target: Tensor, n_classes: int, ignore_index: int) -> None:
    """Raise InputError at the first target outside 0..C-1; on the CPU only: elsewhere, to look is to wait."""
    if target.ndim != 1 or not target.is_cpu:
        return
    outside = (target != ignore_index) & ((target < 0) | (target >= n_classes))
    if bool(outside.any()):
        row = int(outside.nonzero()[0])
        raise InputError(
            f"target of row {row} is {int(target[row])}, outside 0..{n_classes - 1}; "
            "give class numbers below the number of classes, or set ignore_index to leave the row out"
        )


def empty_gradients(
    p: Problem, needs: Needs, dtype: torch.dtype, weight_dtype: torch.dtype | None = None
) -> Gradients:
    """Uninitialised room for the gradients that are wanted."""

    def room(wanted: bool, like: Tensor | None, dtype: torch.dtype = dtype) -> Tensor:
        return p.x.new_empty(like.shape if wanted and like is not None else (0,), dtype=dtype)

    return Gradients(
        room(needs.x, p.x),
        room(needs.weight, p.weight, weight_dtype or dtype),
        room(needs.bias, p.bias),
        room(needs.phi, p.phi),
    )


def weight_gradient_dtype(p: Problem, options: Options) -> torch.dtype:
    """The dtype of a weight gradient whose every row is summed up in one go: the weight's own.

    Except in float16, which is kept back until the gradient from above is known, and where the length of the
    target's vector moves phi: then many more small parts are yet to be added.
    """
    in_one_go = p.phi is None or options.normalize
    return torch.promote_types(kept(p.weight.dtype), p.weight.dtype if in_one_go else torch.float32)


def kept(dtype: torch.dtype) -> torch.dtype:
    """The dtype in which a gradient of dtype waits to be scaled from above.

    A mean's gradients lie below float16's smallest number, unless what `torch.amp.GradScaler` multiplies the
    loss by gets to them first.
    """
    return torch.float32 if dtype == torch.float16 else dtype
