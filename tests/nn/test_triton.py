"""The Triton kernels against float64 autograd over the materialised scores, and against the plain tiles.

On a GPU where there is one, else in Triton's interpreter: block borders, masks and formulas are the same.
"""

import copy
import math

import pytest
import torch
import torch.nn.functional as F

from luce.nn import _autograd, _tiles, margins
from luce.nn._problem import Needs, Options, Problem
from luce.nn.functional import linear_cross_entropy

pytest.importorskip("triton")
_triton = pytest.importorskip("luce.nn._triton")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
pytestmark = pytest.mark.skipif(
    DEVICE == "cpu" and not _triton.kernels.INTERPRETED, reason="Triton was imported before its interpreter"
)


@pytest.fixture(autouse=True)
def kernels(monkeypatch):
    """Serve this device by the kernels, several chunks of classes per backward pass."""
    monkeypatch.setitem(_autograd.BACKENDS, DEVICE, "luce.nn._triton")
    monkeypatch.setattr(_triton, "TILE", 0)
    monkeypatch.setattr(_triton, "FEWEST_CLASSES", 20)
    monkeypatch.setattr(_triton, "PROGRAMS", 3)
    monkeypatch.setattr(_triton, "FEWEST_SPLITS", 3)


def problem(n, d, c, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(*shape, generator=generator).to(DEVICE, dtype).requires_grad_()

    y = torch.randint(0, c, (n,), generator=generator).to(DEVICE)
    return normal(n, d), (normal(c, d).data / d**0.5).requires_grad_(), normal(c), y


def doubled(*parts):
    return [part.detach().double().requires_grad_() for part in parts]


def gradients(loss, parts):
    """With a gradient from above that differs from row to row, where there are rows."""
    above = torch.linspace(-1, 2, loss.numel(), dtype=loss.dtype, device=DEVICE).reshape(loss.shape)
    return torch.autograd.grad(loss, parts, above)


def assert_same(ours, inputs, plain, exact, rtol=1e-4, atol=2e-5):
    """float32 sums of some dozens of terms of order 1 err by about 1e-6; ten times that for slopes."""
    torch.testing.assert_close(ours.double(), plain, rtol=rtol, atol=atol)
    for got, truth in zip(gradients(ours, inputs), gradients(plain, exact), strict=True):
        torch.testing.assert_close(got.double(), truth, rtol=rtol, atol=atol)


@pytest.mark.parametrize(("n", "d", "c"), [(37, 29, 53), (1, 3, 1), (130, 16, 32), (3, 70, 97)])
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_equals_cross_entropy(n, d, c, reduction):
    x, w, b, y = problem(n, d, c)
    exact = doubled(x, w, b)
    plain = F.cross_entropy(F.linear(*exact), y, reduction=reduction)
    assert_same(linear_cross_entropy(x, w, y, b, reduction=reduction), (x, w, b), plain, exact)


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("weighted", [False, True])
def test_every_option(reduction, weighted):
    x, w, b, y = problem(37, 29, 53)
    y[y == 5] = 6
    y[[0, 7]] = -1
    prior = torch.linspace(-1, 1, 53, device=DEVICE)
    weight = torch.linspace(0.5, 2, 53, device=DEVICE) if weighted else None
    exact = doubled(x, w, b)
    z = 3 * torch.tanh(F.linear(*exact) / 3) + prior
    plain = F.cross_entropy(
        z, y, weight if weight is None else weight.double(), ignore_index=-1, label_smoothing=0.2,
        reduction=reduction,
    )  # fmt: skip
    square = torch.where(y >= 0, z.logsumexp(1) ** 2, 0.0)
    plain = plain + 0.1 * (square.sum() / 35 if reduction == "mean" else square)
    ours = linear_cross_entropy(
        x, w, y, b, class_weight=weight, ignore_index=-1, label_smoothing=0.2, z_loss=0.1, softcap=3.0,
        logit_bias=prior, reduction=reduction,
    )  # fmt: skip
    assert_same(ours, (x, w, b), plain, exact)


def test_a_prior_rules_classes_out():
    x, w, b, y = problem(20, 8, 40)
    prior = torch.zeros(40, device=DEVICE)
    prior[:16] = -math.inf  # a whole block of classes
    y = y.clamp_min(16)
    exact = doubled(x, w, b)
    plain = F.cross_entropy(F.linear(*exact) + prior, y)
    assert_same(linear_cross_entropy(x, w, y, b, logit_bias=prior), (x, w, b), plain, exact)


@pytest.mark.parametrize(
    "margin",
    [
        margins.LSoftmax(3),
        margins.ASoftmax(2),
        margins.CosFace(0.35, 8.0),
        margins.ArcFace(0.5, 8.0),
        margins.AdaFace(s=8.0),
        margins.MagFace(s=8.0),
        margins.CurricularFace(s=8.0),
        margins.SphereFace2(s=8.0),
        margins.SphereFace2(s=8.0, t=1.0, gradient="straight_through"),
    ],
    ids=lambda margin: repr(margin),
)
def test_margins(margin, monkeypatch):
    x, w, b, y = problem(19, 13, 37)
    y[3] = -100
    if isinstance(margin, margins.CurricularFace):
        margin.t.fill_(0.3)
    margin, other = copy.deepcopy(margin).to(DEVICE), copy.deepcopy(margin).to(DEVICE, torch.float64)
    ours = linear_cross_entropy(x, w, y, b, margin=margin, reduction="none")
    exact = doubled(x, w, b)
    with monkeypatch.context() as plainly:
        plainly.delitem(_autograd.BACKENDS, DEVICE)
        plain = linear_cross_entropy(exact[0], exact[1], y, exact[2], margin=other, reduction="none")
    # Scores are eight times larger, and derivatives by the angle larger still.
    assert_same(ours, (x, w, b), plain, exact, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("mode", ["half tensors", "autocast", "half features under autocast"])
@pytest.mark.parametrize("margin", [None, margins.CosFace(0.35, 8.0)], ids=["plain", "CosFace"])
def test_half_precision_rounds_operands_and_gradients_of_scores_only(dtype, mode, margin):
    x, w, _, y = problem(19, 13, 37)
    if mode != "autocast":
        x = x.detach().to(dtype).requires_grad_()
    if mode == "half tensors":
        w = w.detach().to(dtype).requires_grad_()
    with torch.autocast(DEVICE, dtype, enabled=mode != "half tensors"):
        ours = linear_cross_entropy(x, w, y, margin=margin)

    def rounded(part, by_kernel=False):
        near = part.detach().to(dtype)
        if by_kernel and _triton.kernels.INTERPRETED and dtype == torch.bfloat16:
            # The interpreter cuts off where a GPU rounds.
            near = (part.detach().float().view(torch.int32) & -65536).view(torch.float32)
        return part + (near.double() - part.detach())

    exact = doubled(x, w)
    if margin is None:
        z = rounded(exact[0]) @ rounded(exact[1], by_kernel=True).T
    else:
        direction, length = F.normalize(exact[0]), exact[1].norm(dim=1)
        z = rounded(margin.s * direction) @ rounded(exact[1], by_kernel=True).T / length
        phi = margin.s * (direction @ exact[1].T / length - margin.m)
        z = torch.where(F.one_hot(y, 37).bool(), phi, z)
    truth = F.cross_entropy(z, y)
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours.double(), truth, rtol=1e-5, atol=1e-5)
    grads = torch.autograd.grad(ours, (x, w)), torch.autograd.grad(truth, exact)
    eps = torch.finfo(dtype).eps  # one rounding of dL/dz, one of the gradient
    for got, true, part in zip(*grads, (x, w), strict=True):
        assert got.dtype == part.dtype
        torch.testing.assert_close(got.double(), true, rtol=0, atol=2 * eps * float(true.abs().max()))


def test_small_coefficients_survive_float16():
    x, w, _, y = problem(37, 29, 53, torch.float16)
    tiny = torch.full((37,), 1e-9, device=DEVICE)
    # In float16 the weight's gradient itself would underflow.
    p = Problem(x.detach(), w.detach().float(), None, None, None, y, *[tiny] * 2, *[None] * 5)
    needs = Needs(False, True, False, False)
    got = _triton.forward(p, Options(product=torch.float16), needs)[2].weight
    p = p._replace(x=p.x.double(), weight=p.weight.double(), mass=tiny.double(), hit=tiny.double())
    truth = _tiles.forward(p, Options(), needs)[2].weight
    torch.testing.assert_close(got.double(), truth, rtol=1e-2, atol=1e-2 * float(truth.abs().max()))


@pytest.mark.parametrize("scale", [1e4, 1e30])
def test_large_scores(scale):
    x, w, _, y = problem(30, 6, 20)
    plain = F.cross_entropy(F.linear(x.double() * scale, w.double()), y, reduction="none")
    ours = linear_cross_entropy(x * scale, w, y, reduction="none")
    torch.testing.assert_close(ours.double(), plain, rtol=1e-4, atol=scale * 1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_extreme_vectors_have_finite_gradients(dtype):
    x, w, _, y = problem(20, 8, 24, dtype)
    with torch.no_grad():
        w[0], x[0] = 0, 0
        w[1] *= 1e-4
        w[2] *= 3e4 if dtype == torch.float16 else 1e30
        x[1], x[2], y[1], y[2] = w[3], -w[4], 3, 4
    for margin in (margins.ArcFace(), margins.CosFace()):
        loss = linear_cross_entropy(x, w, y, margin=margin)
        assert loss.isfinite() and all(part.isfinite().all() for part in torch.autograd.grad(loss, (x, w)))


def test_ignored_rows_have_no_part():
    x, w, _, y = problem(37, 6, 30)
    y[::3] = -100
    x.data[::3] = math.nan
    above = torch.where(y < 0, math.nan, 1.0)
    losses = linear_cross_entropy(x, w, y, reduction="none", label_smoothing=0.1, z_loss=0.1)
    d_x, d_w = torch.autograd.grad(losses, (x, w), above)
    assert (losses[::3] == 0).all() and (d_x[::3] == 0).all() and d_w.isfinite().all()


def test_nan_in_a_feature_is_not_hidden():
    x, w, _, y = problem(4, 3, 5)
    x.data[1, 1] = math.nan
    assert linear_cross_entropy(x, w, y).isnan()


@pytest.mark.parametrize("frozen", [0, 1, 2])
def test_only_needed_gradients(frozen):
    x, w, b, y = problem(6, 4, 5)
    inputs = (x, w, b)
    inputs[frozen].requires_grad_(False)
    linear_cross_entropy(x, w, y, b, margin=margins.ArcFace()).backward()
    assert [part.grad is None for part in inputs] == [i == frozen for i in range(3)]


def test_other_classes_are_nobodys_target():
    """As on one shard of the classes."""
    x, w, _, y = problem(12, 6, 30)
    ones = torch.ones(12, device=DEVICE)
    p = Problem(x.detach(), w.detach(), None, None, None, y - 10, ones, ones, *[None] * 5)
    needs = Needs(True, True, False, False)
    ours, plain = (module.forward(p, Options(), needs) for module in (_triton, _tiles))
    for got, expected in zip((*ours[:2], *ours[2]), (*plain[:2], *plain[2]), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=2e-5)


def test_tiles_take_what_the_kernels_do_not():
    x, w, b, y = problem(6, 4, 10)
    centres = w.detach().reshape(5, 2, 4).requires_grad_()
    exact = doubled(x, centres)
    plain = F.cross_entropy(torch.einsum("nd,ckd->nck", *exact).amax(-1), y % 5)
    assert_same(linear_cross_entropy(x, centres, y % 5), (x, centres), plain, exact)
    soft = torch.softmax(torch.randn(6, 10, device=DEVICE), 1)
    exact = doubled(x, w, b)
    plain = F.cross_entropy(F.linear(*exact), soft.double())
    assert_same(linear_cross_entropy(x, w, soft, b), (x, w, b), plain, exact)
    assert_same(
        linear_cross_entropy(exact[0], exact[1], y),
        exact[:2],
        F.cross_entropy(exact[0] @ exact[1].T, y),
        exact[:2],
    )


@pytest.mark.filterwarnings("ignore")  # the compiler's own
@pytest.mark.parametrize("margin", [None, margins.LSoftmax(2)], ids=["plain", "LSoftmax"])
def test_compiled_with_a_half_precision_weight(margin):
    x, w, _, y = problem(20, 6, 40, torch.bfloat16)

    def loss(x, w):
        return linear_cross_entropy(x, w, y, margin=margin)

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    ours, plain = compiled(x, w), loss(x, w)
    torch.testing.assert_close(ours, plain)
    for got, expected in zip(gradients(ours, (x, w)), gradients(plain, (x, w)), strict=True):
        assert got.dtype == torch.bfloat16
        torch.testing.assert_close(got, expected)
