"""Linear layer, margin and cross-entropy in one, without the N x C scores ever existing."""

from collections.abc import Callable
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, linear

from luce.errors import InputError
from luce.nn import _tiles
from luce.nn._autograd import BACKENDS, LinearCrossEntropy
from luce.nn._geometry import accumulator, unit
from luce.nn._problem import Needs, Options, Problem
from luce.nn.margins import Margin

__all__ = ["linear_cross_entropy", "linear_scores"]

Reduction = Literal["mean", "sum", "none"]

# Up to so many scores on the CPU, PyTorch's own two functions are called: there they are faster than tiles;
# where tiles would compute all scores twice, for as long as PyTorch's three N x C arrays fit in one tile.
WHOLE, WHOLE_IF_TWICE = 1 << 20, _tiles.TILE // 3


def linear_cross_entropy(
    input: Tensor,
    weight: Tensor,
    target: Tensor,
    bias: Tensor | None = None,
    *,
    margin: Margin | None = None,
    class_weight: Tensor | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    softcap: float | None = None,
    logit_bias: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """Cross-entropy of ``linear(input, weight, bias)`` against target, with a margin on the target's score.

    Equal to ``torch.nn.functional.cross_entropy(linear(input, weight, bias), target)`` and its options of the
    same name, but streamed over tiles: beside the gradients, memory does not grow with N C.

    Parameters
    ----------
    input : Tensor of shape (..., D)
        Features, of any floating dtype; N rows in all.
    weight : Tensor of shape (C, D) or (C, K, D)
        Class vectors as in `torch.nn.Linear`. With K centres per class, the best of them scores.
    target : Tensor of shape (...), integer, or of shape (..., C), floating
        Class numbers 0..C-1 or `ignore_index`; or probabilities, which get no gradient.
    bias : Tensor of shape (C,), optional
        Added to the scores, the target's after its margin.
    margin : luce.nn.margins.Margin, optional
        What replaces the target's score; None for the plain softmax. Needs class numbers as target.
    class_weight : Tensor of shape (C,), optional
        Weight of each class, `weight` in cross_entropy.
    ignore_index : int
        Rows with this target count for nothing and get gradient 0.
    label_smoothing : float
        Share of the target spread evenly over all classes, in [0, 1].
    z_loss : float
        Adds ``z_loss * logsumexp(scores)**2`` per row; for "mean", averaged over the rows not ignored.
    softcap : float, optional
        Scores z become ``softcap * tanh(z / softcap)``, after bias and margin.
    logit_bias : Tensor of shape (C,), optional
        Constant added to the final scores, such as log priors of the classes (-inf rules a class out).
    reduction : {"mean", "sum", "none"}
        As in cross_entropy: "mean" divides by the sum of the targets' class weights, or by N for
        probabilities, and is NaN where every row is ignored.

    Returns
    -------
    Tensor
        () or, for "none", of the shape of the rows; float64 if input or weight is, else float32.

    Raises
    ------
    InputError
        If shapes or options do not fit together, or a target lies outside 0..C-1 (seen on the CPU only).

    Notes
    -----
    Sums are kept in float32 for half-precision tensors, with or without autocast, and each gradient has its
    tensor's dtype. For "mean" and "sum", gradients are computed along with the loss; "none" leaves them to
    backward, which computes the scores anew. There is no second derivative; asking for one is an error, save
    where N C is small (below `WHOLE`), on the CPU and without options of luce's own, that PyTorch's functions
    are called instead.

    Examples
    --------
    >>> import torch
    >>> from luce.nn.functional import linear_cross_entropy
    >>> from luce.nn.margins import CosFace
    >>> x, w = torch.eye(2, 3, requires_grad=True), torch.eye(4, 3)
    >>> linear_cross_entropy(x, w, torch.tensor([0, 1]), margin=CosFace(m=0.5, s=2.0))
    tensor(0.7437, grad_fn=<WhereBackward0>)
    """
    _check(input, weight, target, bias, margin, class_weight, label_smoothing, z_loss, softcap, logit_bias)
    if reduction not in get_args(Reduction):
        raise InputError(f"reduction is {reduction!r}; choose 'mean', 'sum' or 'none'")
    device, product = input.device.type, torch.promote_types(input.dtype, weight.dtype)
    autocast = torch.is_autocast_enabled(device)
    if autocast and product != torch.float64:
        product = torch.get_autocast_dtype(device)
    plain = margin is None and softcap is None and logit_bias is None and not (z_loss or autocast)
    if plain and _better_whole(input, weight, target, bias, class_weight, ignore_index, reduction):
        z = linear(input.reshape(-1, input.shape[-1]), weight, bias)
        whole = cross_entropy(
            z, target.reshape(-1), class_weight, label_smoothing=label_smoothing, reduction=reduction
        )
        return whole if reduction != "none" else whole.reshape(input.shape[:-1])
    with torch.autocast(device, enabled=False):
        n_classes, dtype = len(weight), accumulator(torch.promote_types(input.dtype, weight.dtype))
        x = input.reshape(-1, input.shape[-1])
        x = x.double() if dtype == torch.float64 else x
        soft = target.is_floating_point()
        y = target.reshape(-1, n_classes) if soft else target.reshape(-1).long()
        counted = x.new_ones(len(x), dtype=torch.bool) if soft else y != ignore_index
        omega = None if class_weight is None else class_weight.detach().to(dtype)
        rows = row_coefficients(y, counted, n_classes, omega, label_smoothing, z_loss, reduction, dtype)

        options = Options(ignore_index, softcap or 0.0, product=product)
        applied = Applied(x)
        if margin is not None:
            applied = apply_margin(margin, x, weight, y, counted)
            options = options._replace(
                normalize=margin.normalize_weight,
                negatives=margin.negatives,
                constants=margin.constants,
                binary=margin.binary,
            )
        problem = Problem(
            applied.x,
            weight,
            None if bias is None else bias.to(dtype),
            applied.phi,
            applied.slope,
            y,
            *rows,
            applied.state,
            omega,
            None if logit_bias is None else logit_bias.to(dtype),
        )
        total = reduction != "none"
        loss: Tensor = LinearCrossEntropy.apply(  # type: ignore[no-untyped-call]
            options, needs_of(problem), total, applied.owner, applied.along_x, applied.along_w, *problem
        )
        if applied.penalty is not None:
            penalty = torch.where(counted, applied.penalty, 0.0)
            loss = loss + (penalty.sum() / divisor(counted, reduction, dtype) if total else penalty)
        if reduction == "mean":
            loss = torch.where(counted.any(), loss, torch.nan)
        return loss if total else loss.reshape(input.shape[:-1])


def linear_scores(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, *, margin: Margin | None = None
) -> Tensor:
    """The scores (..., C) that `linear_cross_entropy` compares, without the margin: for evaluation.

    Parameters
    ----------
    input : Tensor of shape (..., D)
        Features.
    weight : Tensor of shape (C, D) or (C, K, D)
        Class vectors, or K centres per class of which the best scores.
    bias : Tensor of shape (C,), optional
        Added to the scores.
    margin : luce.nn.margins.Margin, optional
        Says which sides are brought to a fixed length; `s` times the cosine for most.

    Returns
    -------
    Tensor of shape (..., C)
        Differentiable by ordinary autograd, as often as wanted.

    Examples
    --------
    >>> import torch
    >>> from luce.nn.functional import linear_scores
    >>> from luce.nn.margins import CosFace
    >>> linear_scores(torch.tensor([[3.0, 0.0]]), torch.eye(2), margin=CosFace(s=2.0))
    tensor([[2., 0.]])
    """
    if margin is not None and margin.s is not None:
        input = margin.s * unit(input)[0]
    if margin is not None and margin.normalize_weight:
        weight = unit(weight)[0]
    scores = linear(input.to(weight.dtype), weight.flatten(0, -2))
    if weight.ndim == 3:
        scores = scores.reshape(*scores.shape[:-1], *weight.shape[:2]).amax(-1)
    return scores if bias is None else scores + bias


class Applied(NamedTuple):
    """What a margin makes of the features and of the target's score; see `LinearCrossEntropy` for along_*."""

    x: Tensor
    phi: Tensor | None = None
    slope: Tensor | None = None
    state: Tensor | None = None
    owner: Tensor | None = None
    along_x: Tensor | None = None
    along_w: Tensor | None = None
    penalty: Tensor | None = None


def apply_margin(
    margin: Margin,
    x: Tensor,
    weight: Tensor,
    y: Tensor,
    counted: Tensor,
    exchange: Callable[[Tensor], Tensor] = lambda own: own,
) -> Applied:
    """The margin's part: all of it concerns the N target scores only, so it is plain PyTorch.

    Where the weight is a part of the classes, exchange turns (2, N) cosines and class lengths, as far as
    this part knows them, into those of all rows.

    phi = r k psi(c) with r = |x| or s, k = |w| or 1. As a function of u = x . w and of both lengths,
    d phi / du = psi' and d phi / d|x| = k (psi - c psi'), d phi / d|w| = r (psi - c psi').
    """
    x = torch.where(counted[:, None], x, 0.0)  # whatever ignored rows hold, their gradient is 0
    direction, length = unit(x)
    owner = y.clamp(0, len(weight) - 1)  # a wrong target is reported by the stream
    with torch.no_grad():
        w_direction, w_length = unit(weight[owner])
        if weight.ndim == 3:
            c = (w_direction @ direction[:, :, None])[:, :, 0]
            centre = (c if margin.normalize_weight else c * w_length).argmax(1, keepdim=True)
            c, w_length = (part.gather(1, centre)[:, 0] for part in (c, w_length))
            owner = owner * weight.shape[1] + centre[:, 0]
        else:
            c = (direction * w_direction).sum(1)
        c, w_length = exchange(torch.stack([c, w_length.to(c.dtype)]))
        r = length.detach() if margin.s is None else torch.full_like(length, margin.s)
        k = torch.ones_like(r) if margin.normalize_weight else w_length.to(r.dtype)
    psi, slope, state = margin(c.to(r.dtype).clamp(-1, 1), length, counted)
    with torch.no_grad():
        radial = psi - c * slope
        along_x = None if margin.s is not None else torch.where(r > 0, k * radial / r, 0.0)
        along_w = None if margin.normalize_weight else torch.where(k > 0, r * radial / k, 0.0)
    scaled = x if margin.s is None else margin.s * direction
    return Applied(
        scaled, r * k * psi, slope.detach(), state, owner, along_x, along_w, margin.penalty(length)
    )


class _Rows(NamedTuple):
    """Row coefficients of a `Problem`, in its order."""

    mass: Tensor
    hit: Tensor
    smooth: Tensor | None
    zeta: Tensor | None


def row_coefficients(
    y: Tensor,
    counted: Tensor,
    n_classes: int,
    omega: Tensor | None,
    label_smoothing: float,
    z_loss: float,
    reduction: str,
    dtype: torch.dtype,
) -> _Rows:
    """Class weights, label smoothing, z-loss and reduction, as coefficients of each row."""
    ones = counted.to(dtype)
    share = ones  # of the target's log-probability, (N,)
    if y.ndim == 1 and omega is not None:
        share = torch.where(counted, omega[y.clamp(0, n_classes - 1)], 0.0)
    scale = 1 / (share if y.ndim == 1 else ones).sum() if reduction == "mean" else 1.0
    hit = share * scale * (1 - label_smoothing)
    mass = hit.clone()  # the compiler wants no tensor twice
    if y.ndim == 2:
        mass = hit * (y.sum(1).to(dtype) if omega is None else y.to(dtype) @ omega)
    smooth = None
    if label_smoothing > 0:
        smooth = ones * scale * (label_smoothing / n_classes)
        mass = mass + smooth * (n_classes if omega is None else omega.sum())
    zeta = z_loss * ones / divisor(counted, reduction, dtype) if z_loss > 0 else None
    return _Rows(mass, hit, smooth, zeta)


def divisor(counted: Tensor, reduction: str, dtype: torch.dtype) -> Tensor:
    return (
        counted.sum().to(dtype) if reduction == "mean" else torch.ones((), dtype=dtype, device=counted.device)
    )


def _better_whole(
    input: Tensor,
    weight: Tensor,
    target: Tensor,
    bias: Tensor | None,
    class_weight: Tensor | None,
    ignore_index: int,
    reduction: str,
) -> bool:
    """Whether PyTorch's own functions take these tensors, give the same result, and do so sooner."""
    others = (weight, bias, class_weight)
    twice = (
        reduction == "none"
        and torch.is_grad_enabled()
        and any(part is not None and part.requires_grad for part in (input, weight, bias))
    )
    if (
        torch.compiler.is_compiling()
        or weight.ndim != 2
        or target.dtype != torch.int64
        or not 0 < target.numel() * len(weight) <= (WHOLE_IF_TWICE if twice else WHOLE)
        or input.dtype not in (torch.float32, torch.float64)
        or any(part is not None and part.dtype != input.dtype for part in others)
        or input.device.type in BACKENDS
    ):
        return False
    # An ignored row may hold anything here, NaN too; in PyTorch's product it may not.
    lowest, highest = (int(bound) for bound in target.aminmax())
    return lowest >= 0 and highest < len(weight) and not lowest <= ignore_index <= highest


def needs_of(p: Problem) -> Needs:
    x, weight, bias, phi = (
        torch.is_grad_enabled() and part is not None and part.requires_grad
        for part in (p.x, p.weight, p.bias, p.phi)
    )
    # The lengths of x and of the target's vector are reached through phi.
    return Needs(x, weight, bias, p.phi is not None and (x or weight or phi))


def _check(
    input: Tensor,
    weight: Tensor,
    target: Tensor,
    bias: Tensor | None,
    margin: Margin | None,
    class_weight: Tensor | None,
    label_smoothing: float,
    z_loss: float,
    softcap: float | None,
    logit_bias: Tensor | None,
) -> None:
    """Raise InputError where the arguments do not fit together."""
    if weight.ndim not in (2, 3) or 0 in weight.shape:
        raise InputError(
            f"weight has shape {tuple(weight.shape)}; it must be (C, D), or (C, K, D) with K centres"
        )
    n_classes, width = weight.shape[0], weight.shape[-1]
    if input.ndim == 0 or input.shape[-1] != width:
        raise InputError(
            f"input has shape {tuple(input.shape)}; its last dimension must be the weight's, {width}"
        )
    rows = tuple(input.shape[:-1])
    expected = (*rows, n_classes) if target.is_floating_point() else rows
    if tuple(target.shape) != expected:
        raise InputError(
            f"target has shape {tuple(target.shape)} and dtype {target.dtype}; for this input give class "
            f"numbers of shape {rows}, or probabilities of shape {(*rows, n_classes)}"
        )
    for name, value in (("bias", bias), ("class_weight", class_weight), ("logit_bias", logit_bias)):
        if value is not None and tuple(value.shape) != (n_classes,):
            raise InputError(
                f"{name} has shape {tuple(value.shape)}; it must be ({n_classes},), one per class"
            )
    if not 0 <= label_smoothing <= 1:
        raise InputError(f"label_smoothing is {label_smoothing!r}; it must lie in [0, 1]")
    if not z_loss >= 0:
        raise InputError(f"z_loss is {z_loss!r}; it must not be below 0")
    if softcap is not None and not softcap > 0:
        raise InputError(f"softcap is {softcap!r}; it must be above 0, or None")
    if logit_bias is not None and logit_bias.requires_grad:
        raise InputError("logit_bias is a constant; detach it, or pass what is learned as bias")
    if target.is_floating_point() and target.requires_grad:
        raise InputError("probabilities as target get no gradient; detach them")
    if margin is not None and target.is_floating_point():
        raise InputError(
            "a margin belongs to one target class; give class numbers as target, not probabilities"
        )
    if margin is not None and margin.binary and (label_smoothing or z_loss):
        raise InputError(f"{type(margin).__name__} has no softmax; leave label_smoothing and z_loss at 0")
