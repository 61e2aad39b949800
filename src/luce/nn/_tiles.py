"""The loss and its gradients in plain PyTorch, a tile of scores at a time.

Rows are taken in blocks. Where a block's scores against *all* classes fit in one tile, they are kept, and the
gradient costs no second look: three matrix products in all, as many as plain autograd. With too many classes
for that, the classes are streamed twice, once for the log-sum-exp and once for the gradient: four products,
but no more memory. Either way a single buffer of one tile is reused throughout; `softcap` and margins that
bend the other classes' scores keep their derivative in a second one.

Products are taken in float32 (float64 for float64) also for half-precision operands, whose products float32
holds exactly: on CPUs this is as fast, and more accurate.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import softplus

from luce.nn._geometry import accumulator, inverse_lengths, remove_radial_
from luce.nn._problem import Gradients, Needs, Options, Problem, empty_gradients
from luce.nn.margins._negatives import NEGATIVES

TILE = 1 << 23  # scores per tile: 32 MB in float32
STREAMED = 1 << 20  # where classes are streamed: a tile that stays in the cache
FEWEST_ROWS = 64  # below this many rows per block the products wait for memory


def forward(p: Problem, options: Options, needs: Needs) -> tuple[Tensor, Tensor, Gradients]:
    """Loss (N,), log-sum-exp (N,) and the gradients of the summed loss."""
    loss, lse = (torch.zeros_like(p.x[:, 0], dtype=accumulator(p.x.dtype)) for _ in range(2))
    gradients = _stream(p, options, needs, loss, lse, known=False)
    return loss, lse, gradients


def backward(p: Problem, options: Options, needs: Needs, lse: Tensor) -> Gradients:
    """Gradients of the summed loss once the log-sum-exp is known."""
    return _stream(p, options, needs, torch.zeros_like(lse), lse, known=True)


def _stream(p: Problem, options: Options, needs: Needs, loss: Tensor, lse: Tensor, known: bool) -> Gradients:
    if p.target.ndim == 1:
        counted = p.target != options.ignore_index
        if not bool(counted.all()):
            return _stream_counted(p, options, needs, loss, lse, known, counted.nonzero()[:, 0])
    gradients = empty_gradients(p, needs, loss.dtype)
    if len(p.x) == 0:
        for part in gradients:
            part.zero_()
        return gradients
    n_rows, n_classes = _tile_shape(p, any(needs))
    sweep = _Sweep(p, options, needs, n_rows * n_classes, gradients)
    for start in range(0, len(p.x), n_rows):
        rows = slice(start, start + n_rows)
        sweep.block(rows, n_classes, loss[rows], lse[rows], known)
    if options.normalize and needs.weight:
        assert sweep.inverse is not None
        remove_radial_(gradients.weight.flatten(0, -2), p.weight.flatten(0, -2), sweep.inverse)
    return gradients


def _stream_counted(
    p: Problem, options: Options, needs: Needs, loss: Tensor, lse: Tensor, known: bool, index: Tensor
) -> Gradients:
    """Leave the ignored rows out: they cost nothing, and their gradient is 0 whatever they hold."""
    loss_part, lse_part = loss[index], lse[index]
    part = _stream(p.rows(index), options, needs, loss_part, lse_part, known)
    loss[index], lse[index] = loss_part, lse_part

    def spread(values: Tensor, wanted: bool) -> Tensor:
        return (
            values.new_zeros(len(p.x), *values.shape[1:]).index_copy_(0, index, values) if wanted else values
        )

    return part._replace(x=spread(part.x, needs.x), phi=spread(part.phi, needs.phi))


def _tile_shape(p: Problem, with_gradient: bool) -> tuple[int, int]:
    """Rows and classes per tile.

    All classes at once if that leaves enough rows for efficient products; for this a tile may take up to an
    eighth of the weight, which is small beside the weight's own gradient.
    """
    n, vectors = len(p.x), p.weight.flatten(0, -2).shape[0]
    rows = min(n, max(TILE, p.weight.numel() // 8) // vectors)
    if with_gradient and rows >= min(n, FEWEST_ROWS):
        return rows, len(p.weight)
    rows = min(n, 1024)
    return rows, min(len(p.weight), max(1, min(TILE, STREAMED) * len(p.weight) // (rows * vectors)))


@dataclass
class _Tile:
    """Scores of a block of rows for the classes lo..hi, and how they came about."""

    lo: int
    hi: int
    z: Tensor  # (R, T)
    hits: tuple[Tensor, Tensor] | None  # rows and columns of the targets that lie in this tile
    centre: Tensor | None  # (R, T) which of the K centres scored
    cap_slope: Tensor | None  # (R, T)
    negative_slope: Tensor | None  # (R, T)


class _Sweep:
    """All that is shared by the blocks of rows: the buffer, the class lengths, the growing gradients."""

    def __init__(self, p: Problem, options: Options, needs: Needs, size: int, gradients: Gradients) -> None:
        self.p, self.options, self.needs, self.gradients = p, options, needs, gradients
        self.vectors = p.weight.flatten(0, -2)  # (C K, D)
        self.k = len(self.vectors) // len(p.weight)
        self.dtype = accumulator(p.x.dtype)
        self.inverse = inverse_lengths(self.vectors).to(self.dtype) if options.normalize else None
        self.buffer = p.x.new_empty(size * self.k, dtype=self.dtype)
        self.first_block = True  # the gradient of the weight holds nothing yet
        for part in (gradients.x, gradients.bias, gradients.phi):
            part.zero_()

    def block(self, rows: slice, n_classes: int, loss: Tensor, lse: Tensor, known: bool) -> None:
        """Fill loss and lse of these rows, unless known, and add their share to the gradients."""
        p = self.p.rows(rows)
        p = p._replace(x=p.x.to(self.dtype))
        reduce = _Binary(p, self.options) if self.options.binary else _Softmax(p, lse if known else None)
        wanted = any(self.needs)
        total = len(p.weight)
        spans = [(lo, min(lo + n_classes, total)) for lo in range(0, total, n_classes)]
        keep = wanted and not known and len(spans) == 1
        if not known:
            for lo, hi in spans:
                tile = self.scores(p, lo, hi, slopes=keep)
                reduce.add(tile)
            loss.copy_(reduce.loss())
            lse.copy_(reduce.lse())
        if keep:
            self.accumulate(p, rows, tile, reduce.gradient(tile, kept=True))
        elif wanted:
            for lo, hi in spans:
                tile = self.scores(p, lo, hi, slopes=True)
                self.accumulate(p, rows, tile, reduce.gradient(tile, kept=False))
        self.first_block = False

    def scores(self, p: Problem, lo: int, hi: int, slopes: bool) -> _Tile:
        """Scores of all rows of p for the classes lo..hi."""
        centre = cap_slope = negative_slope = None
        n, width = len(p.x), (hi - lo) * self.k
        z = self.buffer[: n * width].view(n, width)
        for columns, w in self.vectors_of(lo, hi):
            torch.mm(p.x, w.T, out=z[:, columns])
        if self.inverse is not None:
            z.mul_(self.inverse[lo * self.k : hi * self.k])
        if self.k > 1:
            z, centre = z.view(n, hi - lo, self.k).max(-1)
        if self.options.negatives:
            z, negative_slope = NEGATIVES[self.options.negatives](z, p.state, *self.options.constants)
        hits = _hits(p.target, lo, hi)
        if p.phi is not None:
            assert hits is not None
            z[hits] = p.phi[hits[0]]
        if p.bias is not None:
            z.add_(p.bias[lo:hi])
        if self.options.softcap:
            z.div_(self.options.softcap).tanh_()
            cap_slope = 1 - z * z if slopes else None
            z.mul_(self.options.softcap)
        if p.prior is not None:
            z.add_(p.prior[lo:hi])
        return _Tile(lo, hi, z, hits, centre, cap_slope, negative_slope)

    def accumulate(self, p: Problem, rows: slice, tile: _Tile, g: Tensor) -> None:
        """Carry g = dL/dz of a tile back to x, the weight, the bias and phi; g is overwritten."""
        out = self.gradients
        if tile.cap_slope is not None:
            g.mul_(tile.cap_slope)
        if self.needs.bias:
            out.bias[tile.lo : tile.hi] += g.sum(0)
        d_phi = None
        if p.phi is not None and tile.hits is not None:
            d_phi = g[tile.hits]
            if self.needs.phi:
                out.phi[rows][tile.hits[0]] = d_phi
        if tile.negative_slope is not None:
            g.mul_(tile.negative_slope)
        if p.slope is not None and d_phi is not None and tile.hits is not None:
            g[tile.hits] = d_phi * p.slope[tile.hits[0]]
        if tile.centre is not None:
            g = g.new_zeros(*g.shape, self.k).scatter_(2, tile.centre[..., None], g[..., None]).flatten(1)
        lo, hi = tile.lo * self.k, tile.hi * self.k
        if self.inverse is not None:
            g.mul_(self.inverse[lo:hi])
        if self.needs.x:
            for columns, w in self.vectors_of(tile.lo, tile.hi):
                out.x[rows].addmm_(g[:, columns], w)
        if self.needs.weight:
            d_w = out.weight.flatten(0, -2)[lo:hi]
            torch.addmm(d_w, g.T, p.x, beta=0 if self.first_block else 1, out=d_w)

    def vectors_of(self, lo: int, hi: int) -> Iterator[tuple[slice, Tensor]]:
        """The class vectors lo..hi in the dtype of the sums, in pieces where that takes a copy."""
        vectors = self.vectors[lo * self.k : hi * self.k]
        size = len(vectors) if vectors.dtype == self.dtype else max(1, TILE // (4 * vectors.shape[1]))
        for start in range(0, len(vectors), size):
            piece = vectors[start : start + size]
            yield slice(start, start + len(piece)), piece.to(self.dtype)


def _hits(target: Tensor, lo: int, hi: int) -> tuple[Tensor, Tensor] | None:
    if target.ndim != 1:
        return None
    rows = ((target >= lo) & (target < hi)).nonzero()[:, 0]
    return rows, target[rows] - lo


def _exp_(z: Tensor) -> Tensor:
    """Exp in place, but 0 below 4e-31 (float32), as subnormal numbers count for nothing and slow products."""
    lowest = 0.8 * math.log(torch.finfo(z.dtype).tiny)
    return torch.threshold_(z, lowest, -math.inf).exp_()


class _Softmax:
    """Log-sum-exp over a growing number of classes, then its gradient."""

    def __init__(self, p: Problem, lse: Tensor | None) -> None:
        self.p, self.known = p, lse
        # The lowest finite number instead of -inf: a prior of -inf (a class ruled out) then gives no NaN.
        self.peak = torch.full_like(p.mass, torch.finfo(p.mass.dtype).min)
        self.sum, self.target, self.all = (torch.zeros_like(p.mass) for _ in range(3))

    def add(self, tile: _Tile) -> None:
        """Take in a tile; its scores become exp(z - peak)."""
        z, weight = tile.z, self.p.class_weight
        if tile.hits is not None:
            self.target[tile.hits[0]] = z[tile.hits]
        else:
            self.target += torch.linalg.vecdot(z, self.soft(tile))
        if self.p.smooth is not None:
            self.all += z.sum(1) if weight is None else z @ weight[tile.lo : tile.hi]
        peak = torch.maximum(self.peak, z.amax(1))
        self.sum *= torch.exp(self.peak - peak)
        self.sum += _exp_(z.sub_(peak[:, None])).sum(1)
        self.peak = peak

    def lse(self) -> Tensor:
        return self.peak + self.sum.log()

    def loss(self) -> Tensor:
        p = self.p
        # peak - target first: both may be large where the loss is small.
        loss = p.hit * (self.peak - self.target) + p.mass * self.sum.log() + (p.mass - p.hit) * self.peak
        if p.smooth is not None:
            loss -= p.smooth * self.all
        if p.zeta is not None:
            loss += p.zeta * self.lse() ** 2
        return loss

    def gradient(self, tile: _Tile, kept: bool) -> Tensor:
        """dL/dz in place of z (or of exp(z - peak), where the tile was kept)."""
        p, g, weight = self.p, tile.z, self.p.class_weight
        lse = self.lse() if self.known is None else self.known
        slope = p.mass if p.zeta is None else p.mass + 2 * p.zeta * lse
        if kept:
            g.mul_((slope / self.sum)[:, None])
        else:
            _exp_(g.sub_(lse[:, None])).mul_(slope[:, None])
        if tile.hits is not None:
            g[tile.hits] -= p.hit[tile.hits[0]]
        else:
            g.addcmul_(p.hit[:, None], self.soft(tile), value=-1)
        if p.smooth is not None and weight is None:
            g.sub_(p.smooth[:, None])
        elif p.smooth is not None and weight is not None:
            g.addcmul_(p.smooth[:, None], weight[tile.lo : tile.hi], value=-1)
        return g

    def soft(self, tile: _Tile) -> Tensor:
        """The class-weighted probabilities that the target gives these classes."""
        part = self.p.target[:, tile.lo : tile.hi].to(tile.z.dtype)
        weight = self.p.class_weight
        return part if weight is None else part * weight[tile.lo : tile.hi]


class _Binary:
    """One yes-or-no question per class, summed: nothing needs to be known about the other classes."""

    def __init__(self, p: Problem, options: Options) -> None:
        self.p = p
        self.positive, self.negative = options.binary
        self.sum = torch.zeros_like(p.hit)

    def add(self, tile: _Tile) -> None:
        assert tile.hits is not None
        loss = softplus(tile.z, threshold=40.0).mul_(self.negative)
        loss[tile.hits] = self.positive * softplus(-tile.z[tile.hits], threshold=40.0)
        self.sum += loss.sum(1)

    def lse(self) -> Tensor:
        return torch.zeros_like(self.sum)

    def loss(self) -> Tensor:
        return self.p.hit * self.sum

    def gradient(self, tile: _Tile, kept: bool) -> Tensor:
        assert tile.hits is not None
        at_target = -self.positive * torch.sigmoid(-tile.z[tile.hits])
        g = tile.z.sigmoid_().mul_(self.negative)
        g[tile.hits] = at_target
        return g.mul_(self.p.hit[:, None])
