"""The loss and its gradients on a GPU, by Triton kernels and the vendor's matrix products.

Forward streams the classes through one kernel: a tile of products, turned into scores and reduced to a
running log-sum-exp before it leaves the registers. The classes are split over programs, so that few rows
still fill the device, and the splits' few numbers per row are put together afterwards.

Backward takes a chunk of classes at a time. One kernel computes the chunk's scores again and writes their
gradient, in the dtype of the products, to the only tile there is; then two matrix products carry the tile to
x and to the chunk's own rows of the weight's gradient. Those rows are written once and in their final dtype:
in float32 the weight's gradient would take more room than all the rest together.

Products of half-precision operands are summed in float32. Under autocast, and for margins that leave x in
float32, `Options.product` says to which dtype operands are rounded; the weight is rounded tile by tile, so
that no second copy of it exists.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from luce.nn import _tiles
from luce.nn import _triton_kernels as kernels
from luce.nn._problem import Gradients, Needs, Options, Problem, empty_gradients, weight_gradient_dtype

TILE = 1 << 25  # scores per tile of the backward pass: 64 MB in half precision
FEWEST_CLASSES = 128  # per tile, however many rows there are
PROGRAMS = 132  # that run at once on the largest devices
FEWEST_SPLITS = 8  # of the classes, so that GROUP row blocks alone keep all programs busy
_DTYPES = {torch.bfloat16: tl.bfloat16, torch.float16: tl.float16, torch.float32: tl.float32}


def forward(p: Problem, options: Options, needs: Needs) -> tuple[Tensor, Tensor, Gradients]:
    """Loss (N,), log-sum-exp (N,) and the gradients of the summed loss."""
    if not _has_kernel(p, options):
        loss, lse, gradients = _tiles.forward(p, options, needs)
        return loss, lse, _in_final_dtype(gradients, p, options)
    with torch.cuda.device_of(p.x):  # type: ignore[no-untyped-call]
        call = _Call(p, options)
        loss, lse = call.loss()
        return loss, lse, call.gradients(needs, lse)


def backward(p: Problem, options: Options, needs: Needs, lse: Tensor) -> Gradients:
    """Gradients of the summed loss once the log-sum-exp is known."""
    if not _has_kernel(p, options):
        return _in_final_dtype(_tiles.backward(p, options, needs, lse), p, options)
    with torch.cuda.device_of(p.x):  # type: ignore[no-untyped-call]
        return _Call(p, options).gradients(needs, lse)


def _has_kernel(p: Problem, options: Options) -> bool:
    """Whether the kernels know this problem; the tiles also do float64, probabilities and several centres."""
    return len(p.x) > 0 and p.weight.ndim == 2 and p.target.ndim == 1 and options.product in _DTYPES


def _in_final_dtype(gradients: Gradients, p: Problem, options: Options) -> Gradients:
    return gradients._replace(weight=gradients.weight.to(weight_gradient_dtype(p, options)))


class _Call:
    """One problem, made ready for the kernels."""

    def __init__(self, p: Problem, options: Options) -> None:
        self.counted = p.target != options.ignore_index
        # Whatever ignored rows hold, they count for nothing.
        clean = {
            name: value.where(self.counted, 0.0)
            for name in ("mass", "hit", "smooth", "zeta")
            if (value := getattr(p, name)) is not None
        }
        x = p.x.where(self.counted[:, None], 0.0).to(options.product)
        p = p._replace(x=x, **clean)
        self.p = Problem(*(None if part is None else part.contiguous() for part in p))  # type: ignore[arg-type]
        self.options, self.n, self.n_classes, self.width = options, *x.shape[:1], *p.weight.shape
        self.inverse = self._inverse_lengths() if options.normalize else None
        p = self.p
        self.operands = (
            p.x, p.weight, p.target, p.phi, p.state, self.inverse, p.bias, p.prior, p.class_weight,
        )  # fmt: skip
        self.settings = {
            "D": self.width,
            "BLOCK_N": min(128, max(16, triton.next_power_of_2(self.n))),
            "PRODUCT": _DTYPES[options.product],
            "PRECISION": "ieee" if torch.get_float32_matmul_precision() == "highest" else "tf32",
            "SOFTCAP": options.softcap or None,
            "NEGATIVES": options.negatives,
            "CONSTANTS": options.constants,
            "BINARY": options.binary or None,
            "GROUP": kernels.GROUP,
        }
        self.row_blocks = triton.cdiv(self.n, self.settings["BLOCK_N"])

    def loss(self) -> tuple[Tensor, Tensor]:
        """Loss (N,) and log-sum-exp (N,)."""
        p, n_splits = self.p, max(FEWEST_SPLITS, triton.cdiv(PROGRAMS, self.row_blocks))
        peaks, sums = (p.mass.new_empty(n_splits, self.n) for _ in range(2))
        spreads = None if p.smooth is None else torch.empty_like(peaks)
        target = torch.zeros_like(p.mass)
        kernels.reduce_scores[(self.row_blocks * n_splits,)](
            *self.operands, peaks, sums, spreads, target, self.n, self.n_classes, n_splits, **self.settings
        )
        if self.options.binary:
            return p.hit * sums.sum(0), torch.zeros_like(p.hit)
        peak = peaks.amax(0)
        log_sum = (sums * torch.exp(peaks - peak)).sum(0).log()
        lse = peak + log_sum
        # peak - target first: both may be large where the loss is small.
        loss = p.hit * (peak - target) + p.mass * log_sum + (p.mass - p.hit) * peak
        if p.smooth is not None and spreads is not None:
            loss -= p.smooth * spreads.sum(0)
        if p.zeta is not None:
            loss += p.zeta * lse**2
        return loss.where(self.counted, 0.0), lse.where(self.counted, 0.0)

    def gradients(self, needs: Needs, lse: Tensor) -> Gradients:
        """Gradients of the summed loss."""
        weight_dtype = weight_gradient_dtype(self.p, self.options)
        out = empty_gradients(self.p, needs, torch.float32, weight_dtype)
        if not any(needs):
            return out
        out.phi.zero_()
        rate, hit, smooth, unit = self._row_rates(lse)
        size = min(self.n_classes, max(FEWEST_CLASSES, TILE // self.n // 128 * 128))
        stride = triton.cdiv(size, 8) * 8  # matrix products want rows that start at multiples of 16 bytes
        tile = self.p.x.new_empty(self.n, stride)
        rounded = self.p.x.new_empty(size, self.width) if needs.x and self._rounds_weight() else None
        d_bias = self.p.mass.new_empty(self.row_blocks, stride) if needs.bias else None
        for first in range(0, self.n_classes, size):
            last = min(first + size, self.n_classes)

            def grid(meta: dict[str, int], span: int = last - first) -> tuple[int]:
                return (self.row_blocks * triton.cdiv(span, meta["BLOCK_C"]),)

            kernels.score_gradients[grid](
                *self.operands, lse, rate, hit, smooth, self.p.slope, tile, d_bias,
                out.phi if needs.phi else None, self.n, first, last, stride, **self.settings,
            )  # fmt: skip
            g = tile[:, : last - first]
            if d_bias is not None:
                torch.sum(d_bias[:, : last - first], 0, out=out.bias[first:last])
            if needs.x:
                _multiply(g, self._vectors(first, last, rounded), out.x, add=first > 0)
            if needs.weight:
                _multiply(g.T, self.p.x, out.weight[first:last], scale=unit)
        if unit is not None:
            for part in (out.x, out.bias, out.phi):
                part.mul_(unit)
        if needs.weight and self.inverse is not None:
            kernels.through_directions[(self.n_classes,)](
                out.weight, self.p.weight, self.inverse, D=self.width, BLOCK_D=self._line()
            )
        return out

    def _row_rates(self, lse: Tensor) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        """DL/d lse, the coefficients of target and smoothing, and the unit they are all counted in.

        float16 ends at 6e-8, where a mean over many rows begins. So there the coefficients are divided by a
        power of two that brings the largest to about 1, and the gradients are multiplied by it afterwards.
        """
        p = self.p
        rate = p.mass if p.zeta is None else p.mass + 2 * p.zeta * lse
        if self.options.product != torch.float16:
            return rate, p.hit, p.smooth, None
        largest = torch.maximum(rate.abs().amax(), p.hit.abs().amax())
        unit = largest.clamp_min(torch.finfo(torch.float32).tiny).log2().floor().exp2()
        return rate / unit, p.hit / unit, None if p.smooth is None else p.smooth / unit, unit

    def _rounds_weight(self) -> bool:
        return self.inverse is not None or self.p.weight.dtype != self.options.product

    def _vectors(self, first: int, last: int, rounded: Tensor | None) -> Tensor:
        """What the scores of some classes are products with, in the dtype of the products."""
        vectors = self.p.weight[first:last]
        if rounded is None:
            return vectors
        rounded = rounded[: last - first]
        if self.inverse is None:
            return rounded.copy_(vectors)
        return torch.mul(vectors, self.inverse[first:last, None], out=rounded)

    def _inverse_lengths(self) -> Tensor:
        inverse = self.p.mass.new_empty(self.n_classes)
        info = torch.finfo(torch.float32)
        kernels.inverse_lengths[(self.n_classes,)](
            self.p.weight, inverse, info.tiny / info.eps, D=self.width, BLOCK_D=self._line()
        )
        return inverse

    def _line(self) -> int:
        return min(1024, int(triton.next_power_of_2(self.width)))


def _multiply(a: Tensor, b: Tensor, out: Tensor, add: bool = False, scale: Tensor | None = None) -> None:
    """Out = a b scale, or out += a b; summed in float32 and rounded once."""
    if not a.is_cuda:  # the interpreter's tensors; here no product widens its operands
        product = a.float() @ b.float()
        product = product if scale is None else product * scale
        out.copy_(out + product if add else product)
    elif add:
        torch.addmm(out, a, b, out_dtype=torch.float32, out=out)
    elif scale is not None:
        torch.mul(torch.mm(a, b, out_dtype=torch.float32), scale, out=out)
    elif out.dtype == a.dtype:
        torch.mm(a, b, out=out)
    else:
        torch.mm(a, b, out_dtype=out.dtype, out=out)
