"""linear_cross_entropy against plain autograd over the materialised scores."""

import itertools
import math
import subprocess
import sys
import textwrap

import pytest
import torch
import torch.nn.functional as F

from luce.errors import InputError
from luce.nn import _tiles, functional, margins
from luce.nn.functional import linear_cross_entropy, linear_scores

SHAPES = [(252, 123, 507), (1, 3, 1), (5, 1, 2), (64, 17, 130), (3, 40, 1000)]


@pytest.fixture(params=["all classes at once", "classes streamed", "left to PyTorch"])
def tiling(request, monkeypatch):
    if request.param == "left to PyTorch":
        monkeypatch.setattr(functional, "WHOLE", 1 << 20)
        monkeypatch.setattr(functional, "WHOLE_IF_TWICE", 1 << 20)
    if request.param == "classes streamed":
        monkeypatch.setattr(_tiles, "TILE", 700)
        monkeypatch.setattr(_tiles, "FEWEST_ROWS", 10**9)


def problem(n, d, c, dtype=torch.float64, seed=0):
    torch.manual_seed(seed)
    x, w, b = (
        torch.randn(n, d, dtype=dtype),
        torch.randn(c, d, dtype=dtype) / d**0.5,
        torch.randn(c, dtype=dtype),
    )
    return x.requires_grad_(), w.requires_grad_(), b.requires_grad_(), torch.randint(0, c, (n,))


def assert_same(ours, plain, inputs, rtol=1e-9, atol=1e-11):
    """Same loss, and same gradients for an arbitrary gradient from above."""
    torch.testing.assert_close(ours, plain, rtol=rtol, atol=atol)
    above = torch.randn_like(plain)
    for a, b in zip(
        torch.autograd.grad(ours, inputs, above), torch.autograd.grad(plain, inputs, above), strict=True
    ):
        torch.testing.assert_close(a, b, rtol=rtol, atol=atol)


@pytest.mark.parametrize(("n", "d", "c"), SHAPES)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_equals_cross_entropy(n, d, c, reduction, tiling):
    x, w, b, y = problem(n, d, c)
    ours = linear_cross_entropy(x, w, y, b, reduction=reduction)
    assert_same(ours, F.cross_entropy(F.linear(x, w, b), y, reduction=reduction), (x, w, b))


@pytest.mark.parametrize(
    ("soft", "weighted", "smoothing", "reduction"),
    list(itertools.product([False, True], [False, True], [0.0, 0.3], ["mean", "sum", "none"])),
)
def test_options_of_cross_entropy(soft, weighted, smoothing, reduction, tiling):
    x, w, b, y = problem(20, 8, 90)
    y[[0, 7]] = -1
    target = torch.randn(20, 90, dtype=torch.float64).softmax(1) if soft else y
    options = {"label_smoothing": smoothing, "reduction": reduction, "ignore_index": -1}
    weight = torch.rand(90, dtype=torch.float64) if weighted else None
    ours = linear_cross_entropy(x, w, target, b, class_weight=weight, **options)
    assert_same(ours, F.cross_entropy(F.linear(x, w, b), target, weight=weight, **options), (x, w, b))


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_softcap_prior_and_z_loss(reduction, tiling):
    x, w, b, y = problem(30, 8, 70)
    y[3] = -100
    prior = torch.randn(70, dtype=torch.float64)
    prior[5] = -math.inf
    y[y == 5] = 6
    z = 3.0 * torch.tanh(F.linear(x, w, b) / 3.0) + prior
    square = torch.where(y >= 0, z.logsumexp(1) ** 2, 0.0)
    square = {"mean": square.sum() / 29, "sum": square.sum(), "none": square}[reduction]
    plain = F.cross_entropy(z, y, reduction=reduction) + 0.1 * square
    ours = linear_cross_entropy(x, w, y, b, softcap=3.0, logit_bias=prior, z_loss=0.1, reduction=reduction)
    assert_same(ours, plain, (x, w, b))


def test_margin_with_every_other_option(tiling):
    x, w, b, y = problem(25, 8, 60)
    y[4] = -100
    weight, prior = torch.rand(60, dtype=torch.float64), torch.randn(60, dtype=torch.float64)
    c = F.normalize(x) @ F.normalize(w).T
    z = 10 * (c - 0.35 * F.one_hot(y.clamp_min(0), 60).double()) + b
    z = 5 * torch.tanh(z / 5) + prior
    square = z.logsumexp(1)[y >= 0].square().mean()
    plain = F.cross_entropy(z, y, weight=weight, label_smoothing=0.2) + 0.01 * square
    ours = linear_cross_entropy(
        x, w, y, b, margin=margins.CosFace(0.35, 10.0), class_weight=weight, label_smoothing=0.2, z_loss=0.01,
        softcap=5.0, logit_bias=prior,
    )  # fmt: skip
    assert_same(ours, plain, (x, w, b))


def test_leading_dimensions_and_single_rows():
    x, w, b, y = problem(12, 5, 9)
    for shape in [(3, 4), (2, 3, 2)]:
        ours = linear_cross_entropy(x.reshape(*shape, 5), w, y.reshape(shape), b, reduction="none")
        assert ours.shape == shape
        assert_same(ours.reshape(-1), F.cross_entropy(F.linear(x, w, b), y, reduction="none"), (x, w, b))
    single = linear_cross_entropy(x[0], w, y[0], b, reduction="none")
    assert_same(single, F.cross_entropy(F.linear(x[0], w, b), y[0]), (x, w, b))


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("frozen", [0, 1, 2])
def test_only_needed_gradients(frozen, reduction):
    x, w, b, y = problem(6, 4, 5)
    inputs = (x, w, b)
    inputs[frozen].requires_grad_(False)
    linear_cross_entropy(x, w, y, b, reduction=reduction).sum().backward()
    assert [part.grad is None for part in inputs] == [i == frozen for i in range(3)]
    with torch.no_grad():
        assert not linear_cross_entropy(x, w, y, b).requires_grad


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_repeated_backward_accumulates(reduction):
    x, w, _, y = problem(6, 4, 5)
    loss = linear_cross_entropy(x, w, y, margin=margins.LSoftmax(2), reduction=reduction).sum()
    loss.backward(retain_graph=True)
    once = w.grad.clone(), x.grad.clone()
    w.grad.mul_(1)  # in place, as clipping does: what backward keeps must not be touched
    loss.backward(retain_graph=True)
    (3 * loss).backward()
    torch.testing.assert_close((w.grad, x.grad), (5 * once[0], 5 * once[1]))


def test_small_problems_are_left_to_pytorch(monkeypatch):
    monkeypatch.setattr(functional, "WHOLE", 20)
    monkeypatch.setattr(functional, "WHOLE_IF_TWICE", 20)
    x, w, b, y = problem(4, 3, 5, torch.float32)
    assert "NllLoss" in str(linear_cross_entropy(x, w, y, b).grad_fn)
    assert "NllLoss" not in str(linear_cross_entropy(x, w, y, b, ignore_index=int(y[0])).grad_fn)
    assert "NllLoss" not in str(linear_cross_entropy(x[[0, 0, 0, 0, 0]], w, y[[0] * 5]).grad_fn)
    with pytest.raises(InputError, match="row 3 is 5"):
        linear_cross_entropy(x, w, torch.tensor([0, 1, 2, 5]))


def test_second_derivative_is_refused():
    x, w, _, y = problem(6, 4, 5)
    with pytest.raises(NotImplementedError, match="linear_scores"):
        torch.autograd.grad(linear_cross_entropy(x, w, y), x, create_graph=True)


@pytest.mark.parametrize("margin", [None, margins.MagFace()], ids=str)
def test_ignored_rows_have_no_part(margin, tiling):
    x, w, _, y = problem(40, 6, 30)
    y[::3] = -100
    x.data[::3] = math.nan
    ours = linear_cross_entropy(x, w, y, margin=margin)
    ours.backward()
    assert (x.grad[::3] == 0).all() and w.grad.isfinite().all()
    torch.testing.assert_close(ours, linear_cross_entropy(x[y >= 0], w, y[y >= 0], margin=margin))


def test_all_ignored_is_nan_as_in_torch_with_zero_gradients():
    x, w, b, y = problem(4, 3, 5)
    y[:] = -100
    for loss in (linear_cross_entropy(x, w, y, b), F.cross_entropy(F.linear(x, w, b), y)):
        assert loss.isnan()
        assert all((part == 0).all() for part in torch.autograd.grad(loss, (x, w, b)))
    assert linear_cross_entropy(x, w, y, b, reduction="sum") == 0
    assert (linear_cross_entropy(x, w, y, b, reduction="none") == 0).all()


def test_nan_in_a_feature_is_not_hidden():
    x, w, _, y = problem(4, 3, 5)
    x.data[1, 1] = math.nan
    for margin in (None, margins.LSoftmax(3), margins.ArcFace()):
        assert linear_cross_entropy(x, w, y, margin=margin).isnan()


@pytest.mark.parametrize("scale", [1e4, 1e30])
def test_large_scores(scale):
    x, w, _, y = problem(50, 6, 20, torch.float32)
    plain = F.cross_entropy(F.linear(x.double() * scale, w.double()), y, reduction="none")
    ours = linear_cross_entropy(x * scale, w, y, reduction="none")
    torch.testing.assert_close(ours.double(), plain, rtol=1e-4, atol=scale * 1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("mode", ["half tensors", "autocast", "half features"])
def test_half_precision_errs_less_than_plain_code(dtype, mode, tiling):
    x, w, b, y = problem(40, 16, 300, torch.float32)
    if mode != "autocast":
        x = x.detach().to(dtype).requires_grad_()
    if mode == "half tensors":
        w, b = (part.detach().to(dtype).requires_grad_() for part in (w, b))
    inputs = (x, w, b)
    with torch.autocast("cpu", dtype, enabled=mode == "autocast"):
        ours = linear_cross_entropy(x, w, y, b)
    with torch.autocast("cpu", dtype, enabled=mode != "half tensors"):
        plain = F.cross_entropy(F.linear(x, w, b), y)
    assert ours.dtype == torch.float32 and [p.dtype for p in (x, w, b)] == [p.dtype for p in inputs]
    exact = [part.detach().double().requires_grad_() for part in inputs]
    truth = F.cross_entropy(F.linear(exact[0], exact[1], exact[2]), y)
    assert (ours - truth).abs() <= (plain - truth).abs() + 1e-5
    gradients = (
        torch.autograd.grad(loss, of) for loss, of in ((ours, inputs), (plain, inputs), (truth, exact))
    )
    for got, other, true, part in zip(*gradients, inputs, strict=True):
        assert got.dtype == part.dtype
        # Up to one rounding to the gradient's own dtype.
        slack = torch.finfo(part.dtype).eps * true.abs().max() + 1e-7
        assert (got - true).abs().max() <= (other - true).abs().max() + slack


@pytest.mark.parametrize("margin", [None, margins.CosFace(s=4.0), margins.LSoftmax(2)], ids=str)
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_a_loss_scale_saves_small_float16_gradients(margin, reduction):
    """As torch.amp.GradScaler has it: the loss is multiplied before gradients are rounded to float16."""
    x, w, _, y = problem(200_000, 2, 3, torch.float16)
    scale = 2.0**14
    gradients = []
    for a, b in ((x, w), (x.detach().double().requires_grad_(), w.detach().double().requires_grad_())):
        losses = linear_cross_entropy(a, b, y, margin=margin, reduction=reduction)
        loss = losses if reduction == "mean" else losses.mean()
        gradients.append(torch.autograd.grad(scale * loss, (a, b)))
    for got, true in zip(*gradients, strict=True):
        assert got.dtype == torch.float16
        torch.testing.assert_close(got.double(), true, rtol=2e-3, atol=1e-5 * float(true.abs().max()))
    true = gradients[1][0]
    too_late = scale * (true / scale).half().double()
    assert float(((too_late - true).abs() > 2e-3 * true.abs()).double().mean()) > 0.5


def test_float64_on_either_side_is_kept():
    x, w, _, y = problem(6, 4, 5)
    whole = linear_cross_entropy(x, w, y, margin=margins.ArcFace())
    for a, b in [(x.float().detach(), w), (x, w.float().detach())]:
        mixed = linear_cross_entropy(a, b, y, margin=margins.ArcFace())
        assert mixed.dtype == torch.float64
        torch.testing.assert_close(mixed, whole, rtol=1e-6, atol=0)
        mixed.backward()


def test_scores_are_what_the_loss_compares():
    x, w, b, y = problem(10, 6, 8)
    for margin in (None, margins.LSoftmax(1), margins.CosFace(0.0, 7.0), margins.ASoftmax(1)):
        loss = F.cross_entropy(linear_scores(x, w, b, margin=margin), y)
        torch.testing.assert_close(loss, linear_cross_entropy(x, w, y, b, margin=margin))
    centres = w.detach().reshape(4, 2, 6)
    loss = F.cross_entropy(linear_scores(x, centres), y % 4)
    torch.testing.assert_close(loss, linear_cross_entropy(x, centres, y % 4))


def test_tied_centres_share_no_gradient():
    x, w, _, y = problem(5, 4, 3)
    doubled = w.detach()[:, None].repeat(1, 2, 1).requires_grad_()
    linear_cross_entropy(x, doubled, y).backward()
    linear_cross_entropy(x, w, y).backward()
    torch.testing.assert_close(doubled.grad.sum(1), w.grad)


@pytest.mark.parametrize("margin", [None, margins.LSoftmax(3), margins.ArcFace()])
def test_runs_repeat_bit_for_bit(margin):
    x, w, _, y = problem(30, 6, 500, torch.float32)
    torch.use_deterministic_algorithms(True)
    try:
        first, second = (
            torch.autograd.grad(linear_cross_entropy(x, w, y, margin=margin), (x, w)) for _ in range(2)
        )
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("with_gradient", [True, False])
def test_memory_does_not_grow_with_rows_times_classes(with_gradient, monkeypatch):
    monkeypatch.setattr(_tiles, "TILE", 1 << 20)
    n, d, c = 512, 8, 50_000
    x, w, _, y = problem(n, d, c, torch.float32)
    x.requires_grad_(with_gradient)
    w.requires_grad_(with_gradient)
    high_water = _HighWater()
    loss = linear_cross_entropy(x, w, y, margin=margins.ArcFace())
    if with_gradient:
        loss.backward()
    tile, gradients, slack = 4 * _tiles.TILE, 4 * (c + n) * d, 24 << 20
    assert high_water.bytes() < tile + 2 * gradients + slack < 4 * n * c / 3


@pytest.mark.parametrize("with_gradient", [True, False])
def test_a_million_classes(with_gradient):
    """512 MB of scores, in a process that grows by a tile and the gradient."""
    child = textwrap.dedent(f"""
        import resource, torch
        from luce.nn import margins
        from luce.nn.functional import linear_cross_entropy
        torch.set_num_threads(1)
        n, d, c = 128, 4, 1_000_000
        x, w, y = torch.randn(n, d), torch.randn(c, d), torch.randint(0, c, (n,))
        w.requires_grad_({with_gradient})
        linear_cross_entropy(x[:8], w, y[:8])  # what the libraries need is there now
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        loss = linear_cross_entropy(x, w, y, margin=margins.ArcFace())
        if {with_gradient}:
            loss.backward()
            assert w.grad.isfinite().all()
        print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
    """)
    done = subprocess.run([sys.executable, "-c", child], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 100e6  # one tile is 32 MB, the gradient 16 MB, the scores 512 MB


class _HighWater:
    """How far the process's resident memory has risen since this was made."""

    def __init__(self):
        try:
            with open("/proc/self/clear_refs", "w") as file:
                file.write("5")
        except OSError:
            pytest.skip("peak memory can be reset on Linux only")
        self.start = self._read("VmRSS")

    def bytes(self):
        return self._read("VmHWM") - self.start

    @staticmethod
    def _read(name):
        with open("/proc/self/status") as file:
            return 1024 * next(int(line.split()[1]) for line in file if line.startswith(name))


@pytest.mark.filterwarnings("ignore")  # the compiler's own
def test_compiles_to_one_graph():
    x, w, b, y = problem(20, 6, 40, torch.float32)

    def both(x, w, b):
        arc = linear_cross_entropy(x, w, y, margin=margins.ArcFace(s=8.0))
        return arc + (linear_cross_entropy(x, w, y, b, reduction="none") * x[:, 0]).sum()

    compiled = torch.compile(both, fullgraph=True, backend="aot_eager")
    assert_same(compiled(x, w, b), both(x, w, b), (x, w, b), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"target": torch.tensor([0, 1, 5, -3])}, "row 2 is 5, outside 0..4"),
        ({"target": torch.tensor([0, 1, 4, -3])}, "row 3 is -3"),
        ({"target": torch.tensor([0, 1])}, "target has shape"),
        ({"target": torch.zeros(4, 4)}, "probabilities of shape"),
        ({"target": torch.zeros(4, 5, requires_grad=True)}, "detach"),
        ({"target": torch.zeros(4, 5), "margin": margins.CosFace()}, "not probabilities"),
        ({"input": torch.zeros(4, 2)}, "last dimension must be the weight's, 3"),
        ({"weight": torch.zeros(3)}, "weight has shape"),
        ({"weight": torch.zeros(0, 3)}, "weight has shape"),
        ({"bias": torch.zeros(4)}, "bias has shape"),
        ({"class_weight": torch.zeros(5, 1)}, "one per class"),
        ({"logit_bias": torch.zeros(5, requires_grad=True)}, "constant"),
        ({"reduction": "average"}, "'mean', 'sum' or 'none'"),
        ({"label_smoothing": 1.5}, r"in \[0, 1\]"),
        ({"softcap": 0.0}, "above 0"),
        ({"z_loss": -1.0}, "below 0"),
        ({"margin": margins.SphereFace2(), "z_loss": 1.0}, "has no softmax"),
    ],
)
def test_wrong_arguments_are_explained(change, says):
    arguments = {
        "input": torch.zeros(4, 3),
        "weight": torch.zeros(5, 3),
        "target": torch.zeros(4, dtype=torch.long),
    }
    with pytest.raises(InputError, match=says):
        linear_cross_entropy(**(arguments | change))
