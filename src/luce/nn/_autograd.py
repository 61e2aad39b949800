"""Where the loss meets autograd and torch.compile: two operators and one autograd function.

The operators are opaque to the compiler, so a compiled model holds one node for the whole stream of tiles;
without the compiler they would only cost time and are passed by. Kernels for a kind of device are slotted in
as another module in `BACKENDS`.
"""

from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Protocol, cast

import torch
from torch import Tensor

from luce.nn._geometry import accumulator
from luce.nn._problem import (
    Gradients,
    Needs,
    Options,
    Problem,
    check_targets,
    empty_gradients,
    kept,
    weight_gradient_dtype,
)

# Modules with kernels, by device type, imported at first use; plain PyTorch tiles serve all others.
BACKENDS: dict[str, str] = {}
if find_spec("triton") is not None and hasattr(torch.ops.aten.addmm, "dtype_out"):  # PyTorch 2.8
    BACKENDS["cuda"] = "luce.nn._triton"

Parts = tuple[Tensor, Tensor, Tensor, Tensor]  # Gradients, as the operators spell it


class Backend(Protocol):
    """What a backend's module holds."""

    def forward(self, p: Problem, options: Options, needs: Needs, /) -> tuple[Tensor, Tensor, Gradients]:
        """Loss (N,), log-sum-exp (N,) and the gradients of the summed loss."""

    def backward(self, p: Problem, options: Options, needs: Needs, lse: Tensor, /) -> Gradients:
        """Gradients of the summed loss once the log-sum-exp is known."""


def backend(p: Problem) -> Backend:
    """The module that serves the device on which p lies."""
    return cast(Backend, import_module(BACKENDS.get(p.x.device.type, "luce.nn._tiles")))


def _fake_gradients(p: Problem, options: Options, needs: Needs) -> Gradients:
    kernels = p.x.device.type in BACKENDS
    dtype = accumulator(p.x.dtype)
    return empty_gradients(p, needs, dtype, weight_gradient_dtype(p, options) if kernels else None)


@torch.library.custom_op("luce::stream_forward", mutates_args=())
def stream_forward(
    tensors: Sequence[Tensor | None],
    numbers: Sequence[float],
    normalize: bool,
    negatives: str,
    constants: Sequence[float],
    binary: Sequence[float],
    product: torch.dtype,
    needs: Sequence[bool],
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Loss and log-sum-exp of every row, and the gradients of the summed loss."""
    p, options = unpack(tensors, numbers, normalize, negatives, constants, binary, product)
    check_targets(p.target, len(p.weight), options.ignore_index)
    with torch.autocast(p.x.device.type, enabled=False):
        loss, lse, gradients = backend(p).forward(p, options, Needs(*needs))
    return loss, lse, *gradients


@stream_forward.register_fake
def _(tensors, *settings_and_needs):  # type: ignore[no-untyped-def]
    *settings, needs = settings_and_needs
    p, options = unpack(tensors, *settings)
    rows = [p.x.new_empty(len(p.x), dtype=accumulator(p.x.dtype)) for _ in range(2)]
    return *rows, *_fake_gradients(p, options, Needs(*needs))


@torch.library.custom_op("luce::stream_backward", mutates_args=())
def stream_backward(
    tensors: Sequence[Tensor | None],
    numbers: Sequence[float],
    normalize: bool,
    negatives: str,
    constants: Sequence[float],
    binary: Sequence[float],
    product: torch.dtype,
    needs: Sequence[bool],
    lse: Tensor,
) -> Parts:
    """The gradients of the summed loss, from the log-sum-exp of every row."""
    p, options = unpack(tensors, numbers, normalize, negatives, constants, binary, product)
    with torch.autocast(p.x.device.type, enabled=False):
        return backend(p).backward(p, options, Needs(*needs), lse)


@stream_backward.register_fake
def _(tensors, *settings_and_needs):  # type: ignore[no-untyped-def]
    *settings, needs, _lse = settings_and_needs
    p, options = unpack(tensors, *settings)
    return _fake_gradients(p, options, Needs(*needs))


def pack(p: Problem, options: Options) -> tuple[Any, ...]:
    """A problem in the few types that an operator may take."""
    numbers = [float(options.ignore_index), options.softcap]
    return (
        list(p),
        numbers,
        options.normalize,
        options.negatives,
        list(options.constants),
        list(options.binary),
        options.product,
    )


def unpack(
    tensors: Sequence[Tensor | None],
    numbers: Sequence[float],
    normalize: bool,
    negatives: str,
    constants: Sequence[float],
    binary: Sequence[float],
    product: torch.dtype,
) -> tuple[Problem, Options]:
    """What `pack` packed."""
    p = Problem(*tensors)  # type: ignore[arg-type]
    ignore_index, softcap = int(numbers[0]), numbers[1]
    return p, Options(ignore_index, softcap, normalize, negatives, tuple(constants), tuple(binary), product)


def stream(p: Problem, options: Options, needs: Needs) -> tuple[Tensor, Tensor, Gradients]:
    """Loss and log-sum-exp of every row, and the gradients of the summed loss, by the device's backend."""
    if not torch.compiler.is_compiling():
        check_targets(p.target, len(p.weight), options.ignore_index)
        return backend(p).forward(p, options, needs)
    loss, lse, *parts = stream_forward(*pack(p, options), list(needs))
    return loss, lse, Gradients(*parts)


def stream_again(p: Problem, options: Options, needs: Needs, lse: Tensor) -> Gradients:
    """The gradients of the summed loss, from the log-sum-exp of every row."""
    if not torch.compiler.is_compiling():
        with torch.autocast(p.x.device.type, enabled=False):
            return backend(p).backward(p, options, needs, lse)
    return Gradients(*stream_backward(*pack(p, options), list(needs), lse))


class LinearCrossEntropy(torch.autograd.Function):
    """The loss as one node of the graph; `apply(options, needs, total, owner, along_x, along_w, *problem)`.

    total: return the summed loss. What comes back from above is then one number, so the gradients are taken
    along with the loss, while the scores are at hand, and backward only scales them. The losses of the single
    rows can be weighted by anything from above, so there backward streams the classes once more.

    owner (N,), along_x (N,), along_w (N,): phi also moves with |x_i| and with |w| of the target, whose vector
    is row owner_i of the flattened weight: d phi_i / dx_i holds along_x_i x_i, and d phi_i / dw holds
    along_w_i w, on top of the part through the target's raw score. None where the vectors are normalised.
    """

    @staticmethod
    def forward(
        ctx: Any,
        options: Options,
        needs: Needs,
        total: bool,
        owner: Tensor | None,
        along_x: Tensor | None,
        along_w: Tensor | None,
        *tensors: Tensor | None,
    ) -> Tensor:
        """Summed loss (), or losses (N,)."""
        p = Problem(*tensors)  # type: ignore[arg-type]
        ctx.options, ctx.needs, ctx.total = options, needs, total
        now = needs if total else Needs(False, False, False, False)
        loss, lse, parts = stream(p, options, now)
        if not total:
            ctx.save_for_backward(lse, owner, along_x, along_w, *tensors)
            return loss
        parts = finish(p, needs, parts, owner, along_x, along_w)
        ctx.dtypes = p.x.dtype, p.weight.dtype
        ctx.save_for_backward(*rounded(parts, *map(kept, ctx.dtypes)))
        return loss.sum()

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of x, weight, bias and phi, each only if wanted."""
        compiling = torch.compiler.is_compiling()
        if torch.is_grad_enabled() and not compiling:
            raise NotImplementedError(
                "linear_cross_entropy has no second derivative: call backward without create_graph=True, "
                "or use torch.nn.functional.cross_entropy on luce.nn.functional.linear_scores for it"
            )
        if ctx.total:
            parts = Gradients(*ctx.saved_tensors)
            # A weight's gradient is too large to copy for nothing: unless backward may come again, it is
            # scaled in place and handed over. (On an accelerator, to look at upstream is to wait for it.)
            if compiling or _graph_is_kept():
                parts = Gradients(*(part * upstream for part in parts))
            elif not (upstream.is_cpu and upstream == 1):
                for part in parts:
                    part.mul_(upstream)
            parts = rounded(parts, *ctx.dtypes)
        else:
            lse, owner, along_x, along_w, *tensors = ctx.saved_tensors
            p = Problem(*tensors)
            streamed = stream_again(p.scaled(upstream), ctx.options, ctx.needs, lse)
            parts = finish(p, ctx.needs, streamed, owner, along_x, along_w)
            parts = rounded(parts, p.x.dtype, p.weight.dtype)
        wanted = [part if need else None for part, need in zip(parts, ctx.needs, strict=True)]
        return *[None] * 6, *wanted, *[None] * (len(Problem._fields) - len(wanted))


def _graph_is_kept() -> bool:
    """Whether the backward now running was called with retain_graph; yes where torch does not tell."""
    ask = getattr(torch._C._autograd, "_get_current_graph_task_keep_graph", lambda: True)
    return bool(ask())


def finish(
    p: Problem,
    needs: Needs,
    parts: Gradients,
    owner: Tensor | None,
    along_x: Tensor | None,
    along_w: Tensor | None,
) -> Gradients:
    """Add what phi owes to the lengths of x and w."""
    x, weight, bias, phi = parts
    if needs.x and along_x is not None:
        x = x.addcmul(p.x.to(x.dtype), (phi * along_x)[:, None])
    if needs.weight and along_w is not None and owner is not None:
        vectors = p.weight.flatten(0, -2)[owner].to(weight.dtype)
        weight.flatten(0, -2).index_add_(0, owner, vectors * (phi * along_w)[:, None])
    return Gradients(x, weight, bias, phi)


def rounded(parts: Gradients, x: torch.dtype, weight: torch.dtype) -> Gradients:
    """The gradients, those of x and the weight in these dtypes."""
    return parts._replace(x=parts.x.to(x), weight=parts.weight.to(weight))
