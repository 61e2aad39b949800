"""The Triton kernels: a tile of scores, and what the loss and its gradient make of it.

Shapes: x (N, D), weight (C, D), both contiguous; all else as in `Problem`. A pointer that is None switches
its option off when the kernel is compiled, as do the settings in capitals. Sums are float32 throughout, and
every number is written by exactly one program, so runs repeat bit for bit.
"""

# Kernels have pointers and tensors of the device for arguments, which Python's types do not describe.
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, allow-untyped-calls

import triton
import triton.language as tl
from triton.knobs import runtime

INTERPRETED = runtime.interpret
# The interpreter keeps bfloat16 as bit patterns and would multiply those. float32 holds the products exactly.
_WIDEN = tl.constexpr(INTERPRETED)
_LOWEST = tl.constexpr(-3.4028234663852886e38)  # not -inf: a prior of -inf then gives no NaN

GROUP = (
    16  # row blocks that march over the classes together; at D = 4096 their features fill a third of the L2
)


def _configs() -> list[triton.Config]:
    """Tiles for tensor cores, largest first; what does not fit into shared memory is skipped by the tuner."""
    if INTERPRETED:
        return [triton.Config({"BLOCK_C": 16, "BLOCK_D": 16})]
    return [
        triton.Config({"BLOCK_C": c, "BLOCK_D": d}, num_warps=warps, num_stages=stages)
        for c, d, warps, stages in [
            (256, 64, 8, 4),
            (256, 64, 8, 3),
            (256, 32, 8, 4),
            (128, 64, 8, 4),
            (128, 64, 4, 4),
            (128, 32, 4, 3),
            (64, 32, 4, 3),
        ]
    ]


_KEY = ["D", "BLOCK_N", "PRODUCT", "PRECISION"]


@triton.jit
def _place(n_rows, n_columns, GROUP: tl.constexpr):
    """Row and column of this program: neighbours share both, so that what they load meets in the L2 cache."""
    pid = tl.program_id(0)
    first = pid // (GROUP * n_columns) * GROUP
    size = min(n_rows - first, GROUP)
    within = pid % (GROUP * n_columns)
    return first + within % size, within // size


@triton.jit
def _products(
    x, weight, rows, classes, n, last, D: tl.constexpr, PRODUCT: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """x_i . w_j for a block of rows and one of classes, the weight rounded to x's dtype on the way."""
    columns = tl.arange(0, BLOCK_D)
    x_at = x + rows[:, None] * D + columns[None, :]
    w_at = weight + classes[None, :] * D + columns[:, None]
    u = tl.zeros((BLOCK_N, BLOCK_C), tl.float32)
    for start in range(0, D, BLOCK_D):
        inside = columns < D - start
        a = tl.load(x_at, mask=(rows < n)[:, None] & inside[None, :], other=0.0)
        b = tl.load(w_at, mask=(classes < last)[None, :] & inside[:, None], other=0.0).to(PRODUCT)
        if _WIDEN:
            a, b = a.to(tl.float32), b.to(tl.float32)
        u = tl.dot(a, b, u, input_precision=PRECISION)
        x_at += BLOCK_D
        w_at += BLOCK_D
    return u


@triton.jit
def _scores(
    u, y, rows, classes, n, last, phi, state, inverse, bias, prior,
    SOFTCAP: tl.constexpr, NEGATIVES: tl.constexpr, CONSTANTS: tl.constexpr,
):  # fmt: skip
    """Scores z (-inf past the last class), where the targets are, and the slopes of softcap and negatives."""
    known, counted = classes < last, rows < n
    hits = (y[:, None] == classes[None, :]) & known[None, :]
    cap_slope = tl.full(u.shape, 1.0, tl.float32)
    slope = tl.full(u.shape, 1.0, tl.float32)
    if inverse is not None:
        u = u * tl.load(inverse + classes, mask=known, other=0.0)[None, :]
    if NEGATIVES == "curricular":
        threshold = tl.load(state + 2 * rows, mask=counted, other=0.0)[:, None]
        t = tl.load(state + 2 * rows + 1, mask=counted, other=0.0)[:, None]
        c = u / CONSTANTS[0]
        hard = u > CONSTANTS[0] * threshold
        u = tl.where(hard, u * (c + t), u)
        slope = tl.where(hard, 2 * c + t, 1.0)
    if NEGATIVES == "sphereface2":
        half = tl.maximum(u / (2 * CONSTANTS[0]) + 0.5, 1e-30)
        below = tl.exp2((CONSTANTS[2] - 1) * tl.log2(half))
        u = half * below * (2 * CONSTANTS[0]) + CONSTANTS[0] * (CONSTANTS[1] - 1)
        if CONSTANTS[3] == 0:
            slope = CONSTANTS[2] * below
    if phi is not None:
        u = tl.where(hits, tl.load(phi + rows, mask=counted, other=0.0)[:, None], u)
    if bias is not None:
        u += tl.load(bias + classes, mask=known, other=0.0)[None, :]
    if SOFTCAP is not None:
        t = _tanh(u / SOFTCAP)
        u = SOFTCAP * t
        cap_slope = 1 - t * t
    if prior is not None:
        u += tl.load(prior + classes, mask=known, other=0.0)[None, :]
    return tl.where(known[None, :], u, -float("inf")), hits, cap_slope, slope


@triton.jit
def _tanh(a):
    e = tl.exp(-2 * tl.abs(a))
    t = (1 - e) / (1 + e)
    return tl.where(a < 0, -t, t)


@triton.jit
def _softplus(a):
    e = tl.exp(-tl.abs(a))
    # log(1 + e) loses a small e, of which a million classes have a million.
    return tl.maximum(a, 0.0) + tl.where(e < 1e-2, e * (1 - e * (0.5 - e / 3)), tl.log(1 + e))


@triton.jit
def _sigmoid(a):
    e = tl.exp(-tl.abs(a))
    return tl.where(a < 0, e, 1.0) / (1 + e)


@triton.autotune(_configs(), _KEY)
@triton.jit
def reduce_scores(
    x, weight, target, phi, state, inverse, bias, prior, class_weight,
    peaks, sums, spreads, at_target, n, n_classes, n_splits,
    D: tl.constexpr, BLOCK_N: tl.constexpr, PRODUCT: tl.constexpr, PRECISION: tl.constexpr,
    SOFTCAP: tl.constexpr, NEGATIVES: tl.constexpr, CONSTANTS: tl.constexpr, BINARY: tl.constexpr,
    GROUP: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """What the loss needs of a block of rows and one share of the classes.

    peaks and sums (n_splits, N): the greatest score and the sum of exp(z - peak), or the sum of the yes-or-no
    losses; spreads (n_splits, N): class-weighted sum of all scores; at_target (N,): the target's score.
    """
    block, split = _place(tl.cdiv(n, BLOCK_N), n_splits, GROUP)
    rows = block.to(tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)
    counted = rows < n
    y = tl.load(target + rows, mask=counted, other=-1)
    share = tl.cdiv(tl.cdiv(n_classes, n_splits), BLOCK_C) * BLOCK_C
    first = split * share
    last = min(first + share, n_classes)
    peak = tl.full((BLOCK_N,), _LOWEST, tl.float32)
    total = tl.zeros((BLOCK_N,), tl.float32)
    spread = tl.zeros((BLOCK_N,), tl.float32)
    hit = tl.zeros((BLOCK_N,), tl.float32)
    for start in range(first, last, BLOCK_C):
        classes = start + tl.arange(0, BLOCK_C).to(tl.int64)
        u = _products(
            x, weight, rows, classes, n, n_classes, D, PRODUCT, PRECISION, BLOCK_N, BLOCK_C, BLOCK_D
        )
        z, hits, _, _ = _scores(
            u, y, rows, classes, n, n_classes, phi, state, inverse, bias, prior, SOFTCAP, NEGATIVES, CONSTANTS
        )
        if BINARY is not None:
            yes, no = BINARY[0] * _softplus(-z), BINARY[1] * _softplus(z)
            total += tl.sum(tl.where(hits, yes, no), 1)
        else:
            top = tl.maximum(peak, tl.max(z, 1))
            total = total * tl.exp(peak - top) + tl.sum(tl.exp(z - top[:, None]), 1)
            peak = top
            hit += tl.sum(tl.where(hits, z, 0.0), 1)
        if spreads is not None:
            known = (classes < n_classes)[None, :]
            if class_weight is not None:
                z *= tl.load(class_weight + classes, mask=classes < n_classes, other=1.0)[None, :]
            spread += tl.sum(tl.where(known, z, 0.0), 1)
    at = split.to(tl.int64) * n + rows
    tl.store(peaks + at, peak, mask=counted)
    tl.store(sums + at, total, mask=counted)
    if spreads is not None:
        tl.store(spreads + at, spread, mask=counted)
    tl.store(at_target + rows, hit, mask=counted & (y >= first) & (y < last))


@triton.autotune(_configs(), _KEY)
@triton.jit
def score_gradients(
    x, weight, target, phi, state, inverse, bias, prior, class_weight,
    lse, rate, hit, smooth, slope, gradient, d_bias, d_phi, n, first, last, stride,
    D: tl.constexpr, BLOCK_N: tl.constexpr, PRODUCT: tl.constexpr, PRECISION: tl.constexpr,
    SOFTCAP: tl.constexpr, NEGATIVES: tl.constexpr, CONSTANTS: tl.constexpr, BINARY: tl.constexpr,
    GROUP: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """dL/d(x_i . w_j), save for the factor 1/|w_j| of normalised classes, for the classes first..last.

    gradient (N, stride): that, in the dtype of the products; d_bias (row blocks, stride): its sum over each
    block of rows, before the margin's slopes; d_phi (N,). rate (N,): dL_i / d lse_i.
    """
    n_rows = tl.cdiv(n, BLOCK_N)
    block, column = _place(n_rows, tl.cdiv(last - first, BLOCK_C), GROUP)
    rows = block.to(tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)
    offsets = column * BLOCK_C + tl.arange(0, BLOCK_C)
    classes = first + offsets.to(tl.int64)
    counted, known = rows < n, classes < last
    y = tl.load(target + rows, mask=counted, other=-1)
    u = _products(x, weight, rows, classes, n, last, D, PRODUCT, PRECISION, BLOCK_N, BLOCK_C, BLOCK_D)
    z, hits, cap_slope, negative_slope = _scores(
        u, y, rows, classes, n, last, phi, state, inverse, bias, prior, SOFTCAP, NEGATIVES, CONSTANTS
    )
    hit_i = tl.load(hit + rows, mask=counted, other=0.0)[:, None]
    if BINARY is not None:
        g = hit_i * tl.where(hits, -BINARY[0] * _sigmoid(-z), BINARY[1] * _sigmoid(z))
    else:
        lse_i = tl.load(lse + rows, mask=counted, other=float("inf"))[:, None]
        g = tl.exp(z - lse_i) * tl.load(rate + rows, mask=counted, other=0.0)[:, None]
        g -= tl.where(hits, hit_i, 0.0)
    if smooth is not None:
        even = tl.load(smooth + rows, mask=counted, other=0.0)[:, None]
        if class_weight is not None:
            even = even * tl.load(class_weight + classes, mask=known, other=0.0)[None, :]
        g -= even
    g *= cap_slope
    if d_bias is not None:
        at = d_bias + block.to(tl.int64) * stride + offsets
        tl.store(at, tl.sum(g, 0), mask=known)
    if d_phi is not None:
        at_target = tl.sum(tl.where(hits, g, 0.0), 1)
        low = first + column * BLOCK_C
        tl.store(d_phi + rows, at_target, mask=counted & (y >= low) & (y < min(low + BLOCK_C, last)))
    if slope is not None:
        slope_i = tl.load(slope + rows, mask=counted, other=0.0)[:, None]
        negative_slope = tl.where(hits, slope_i, negative_slope)
    g *= negative_slope
    at = gradient + rows[:, None] * stride + offsets[None, :]
    tl.store(at, g.to(gradient.dtype.element_ty), mask=counted[:, None] & known[None, :])


@triton.jit
def inverse_lengths(weight, inverse, smallest, D: tl.constexpr, BLOCK_D: tl.constexpr):
    """1 / |w_j|, 0 for zero vectors; their largest entry is divided out first. A program per class."""
    j = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, BLOCK_D)
    peaks = tl.zeros((BLOCK_D,), tl.float32)
    for start in range(0, D, BLOCK_D):
        w = tl.load(weight + j * D + start + columns, mask=columns < D - start, other=0.0)
        peaks = tl.maximum(peaks, tl.abs(w.to(tl.float32)))
    peak = tl.max(peaks, 0)
    zero = peak <= smallest
    peak = tl.where(zero, 1.0, peak)
    squares = tl.zeros((BLOCK_D,), tl.float32)
    for start in range(0, D, BLOCK_D):
        w = (
            tl.load(weight + j * D + start + columns, mask=columns < D - start, other=0.0).to(tl.float32)
            / peak
        )
        squares += w * w
    length = tl.where(zero, 1.0, tl.sqrt(tl.sum(squares, 0)))
    tl.store(inverse + j, tl.where(zero, 0.0, 1.0 / length / peak))


@triton.jit
def through_directions(gradient, weight, inverse, D: tl.constexpr, BLOCK_D: tl.constexpr):
    """From dL/dw^ to dL/dw = (g - w^ (w^ . g)) / |w| in place, w^ = w / |w|. A program per class."""
    j = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, BLOCK_D)
    scale = tl.load(inverse + j)
    along = tl.zeros((BLOCK_D,), tl.float32)
    for start in range(0, D, BLOCK_D):
        at, inside = j * D + start + columns, columns < D - start
        w = tl.load(weight + at, mask=inside, other=0.0).to(tl.float32) * scale
        along += w * tl.load(gradient + at, mask=inside, other=0.0).to(tl.float32)
    radial = tl.sum(along, 0)
    for start in range(0, D, BLOCK_D):
        at, inside = j * D + start + columns, columns < D - start
        w = tl.load(weight + at, mask=inside, other=0.0).to(tl.float32) * scale
        g = tl.load(gradient + at, mask=inside, other=0.0).to(tl.float32)
        g = (g - w * radial) * scale
        tl.store(gradient + at, g.to(gradient.dtype.element_ty), mask=inside)
