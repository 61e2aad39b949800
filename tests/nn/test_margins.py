"""Every margin against float64 loops written from its paper, with acos; then its gradients and extremes."""

import math

import numpy as np
import pytest
import torch

from luce.errors import InputError
from luce.nn import _tiles, margins
from luce.nn.functional import linear_cross_entropy
from luce.nn.margins import Anneal

S = 16.0
BLEND = Anneal(base=2.0, gamma=0.5, power=2.0, minimum=0.1)


def lsoftmax(theta, m):
    k = min(int(theta * m / math.pi), m - 1)
    return (-1) ** k * math.cos(m * theta) - 2 * k


def blended(theta, m, step):
    weight = max(0.1, 2.0 * (1 + 0.5 * step) ** -2.0)
    return (weight * math.cos(theta) + lsoftmax(theta, m)) / (1 + weight)


def arc(theta, m, beyond="fallback"):
    if beyond == "easy" and theta >= math.pi / 2:
        return math.cos(theta)
    if beyond == "fallback" and theta + m >= math.pi:
        return math.cos(theta) - m * math.sin(math.pi - m)
    return math.cos(theta + m)


def magface(theta, length):
    a = min(max(length, 1.0), 4.0)
    return arc(theta, 0.45 + (0.8 - 0.45) / (4.0 - 1.0) * (a - 1.0))


def adaface(theta, length):
    z = 0.333 * (min(max(length, 0.001), 100.0) - 20.0) / (100.0 + 0.001)
    z = min(max(z, -1.0), 1.0)
    return math.cos(min(max(theta - 0.4 * z, 0.0), math.pi)) - (0.4 * z + 0.4)


def sphereface2_similarity(c):
    return 2 * ((c + 1) / 2) ** 3 - 1


# name: (margin, psi(theta, |x|), features keep their length, class vectors keep theirs)
CASES = {
    **{
        f"lsoftmax{m}": (margins.LSoftmax(m), lambda t, a, m=m: lsoftmax(t, m), True, True)
        for m in range(1, 9)
    },
    "lsoftmax_blend": (margins.LSoftmax(3, BLEND), lambda t, a: blended(t, 3, 0), True, True),
    "asoftmax": (margins.ASoftmax(4), lambda t, a: lsoftmax(t, 4), True, False),
    "sphereface_r": (margins.SphereFaceR(1.7, S), lambda t, a: math.cos(min(1.7 * t, math.pi)), False, False),
    "cosface": (margins.CosFace(0.35, S), lambda t, a: math.cos(t) - 0.35, False, False),
    "arcface": (margins.ArcFace(0.5, S), lambda t, a: arc(t, 0.5), False, False),
    "arcface_wide": (margins.ArcFace(2.5, S), lambda t, a: arc(t, 2.5), False, False),
    "arcface_easy": (margins.ArcFace(0.5, S, "easy"), lambda t, a: arc(t, 0.5, "easy"), False, False),
    "arcface_exact": (margins.ArcFace(0.5, S, "exact"), lambda t, a: math.cos(t + 0.5), False, False),
    "combined": (
        margins.CombinedMargin(1.2, 0.3, 0.1, S),
        lambda t, a: math.cos(1.2 * t + 0.3) - 0.1,
        False,
        False,
    ),
    "combined_m1": (
        margins.CombinedMargin(1, 0.3, 0.1, S),
        lambda t, a: math.cos(t + 0.3) - 0.1,
        False,
        False,
    ),
    "elastic": (margins.ElasticFace(0.5, 0.05, S), lambda t, a: math.cos(t + 0.5), False, False),
    "elastic_cos": (margins.ElasticFace(0.3, 0.1, S, "cos"), lambda t, a: math.cos(t) - 0.3, False, False),
    "magface": (margins.MagFace(1.0, 4.0, s=S), magface, False, False),
    "adaface": (margins.AdaFace(s=S), adaface, False, False),
    "curricular": (margins.CurricularFace(0.5, S), lambda t, a: arc(t, 0.5), False, False),
    "sphereface2": (
        margins.SphereFace2(0.4, S),
        lambda t, a: sphereface2_similarity(math.cos(t)) - 0.4,
        False,
        False,
    ),
}
for margin, *_ in CASES.values():
    margin.eval()
CASES["curricular"][0].t.fill_(0.25)


def reference(name, x, w, y):
    """Loss of every row by loops; w is (C, K, D)."""
    _, psi, keeps_x, keeps_w = CASES[name]
    losses = []
    for i in range(len(x)):
        a = math.sqrt(sum(v * v for v in x[i]))
        cosines, lengths = [], []
        for centres in w:
            each = [
                (sum(p * q for p, q in zip(x[i], v, strict=True)), math.sqrt(sum(p * p for p in v)))
                for v in centres
            ]
            dot, length = max(each, key=lambda pair: pair[0] if keeps_w else pair[0] / pair[1])
            cosines.append(dot / (a * length))
            lengths.append(length)
        theta = math.acos(cosines[y[i]])
        scores = []
        for j, (c, length) in enumerate(zip(cosines, lengths, strict=True)):
            value = psi(theta, a) if j == y[i] else c
            if j != y[i] and name == "curricular" and c > math.cos(theta + 0.5):
                value = c * (0.25 + c)
            if j != y[i] and name == "sphereface2":
                value = sphereface2_similarity(c) + 0.4
            scores.append((a if keeps_x else S) * (length if keeps_w else 1.0) * value)
        if name == "sphereface2":
            ask = [
                0.7 * math.log1p(math.exp(-z)) if j == y[i] else 0.3 * math.log1p(math.exp(z))
                for j, z in enumerate(scores)
            ]
            losses.append(sum(ask) / S)
            continue
        top = max(scores)
        loss = top + math.log(sum(math.exp(z - top) for z in scores)) - scores[y[i]]
        if name == "magface":
            held = min(max(a, 1.0), 4.0)
            loss += 35.0 * (held / 4.0**2 + 1 / held)
        losses.append(loss)
    return losses


def problem(seed, n=9, d=6, c=7, k=1, dtype=torch.float64):
    """Features at all angles to their class vector, near ones too, and of various lengths."""
    rng = np.random.default_rng(seed)
    w = rng.normal(size=(c, k, d))
    y = rng.integers(0, c, size=n)
    x = rng.normal(size=(n, d)) + np.linspace(-4, 4, n)[:, None] * w[y, 0]
    x *= rng.uniform(0.3, 2.0, size=(n, 1))
    return tuple(torch.tensor(v) for v in (x, w, y))


@pytest.fixture(params=["all classes at once", "classes streamed"])
def tiling(request, monkeypatch):
    if request.param == "classes streamed":
        monkeypatch.setattr(_tiles, "TILE", 20)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("k", [1, 3])
def test_losses_equal_the_loops(name, k, tiling):
    x, w, y = problem(seed=k, k=k)
    losses = linear_cross_entropy(x, w if k > 1 else w[:, 0], y, margin=CASES[name][0], reduction="none")
    # A cosine of 1 - 1e-4 loses 4 digits in acos, and so does the loops' angle.
    np.testing.assert_allclose(
        losses.numpy(), reference(name, x.numpy(), w.numpy(), y.numpy()), rtol=1e-9, atol=1e-9
    )


@pytest.mark.parametrize("name", [name for name in CASES if name != "adaface"])
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_gradients(name, reduction, tiling):
    x, w, y = problem(seed=3, n=6, d=4, c=5)
    x, w = x.requires_grad_(), w[:, 0].clone().requires_grad_()
    bias = torch.linspace(-1, 1, len(w), dtype=torch.float64, requires_grad=True)
    margin = CASES[name][0]
    assert torch.autograd.gradcheck(
        lambda *a: linear_cross_entropy(a[0], a[1], y, a[2], margin=margin, reduction=reduction), (x, w, bias)
    )


@pytest.mark.parametrize("name", ["arcface", "sphereface2", "curricular", "lsoftmax3"])
def test_gradients_with_several_centres(name, tiling):
    x, w, y = problem(seed=4, n=5, d=3, c=4, k=3)
    margin = CASES[name][0]
    assert torch.autograd.gradcheck(
        lambda a, b: linear_cross_entropy(a, b, y, margin=margin), (x.requires_grad_(), w.requires_grad_())
    )


def test_adaface_holds_the_length_fixed_in_its_gradient():
    x, w, y = problem(seed=5)
    x, w = x.requires_grad_(), w[:, 0].clone().requires_grad_()
    linear_cross_entropy(x, w, y, margin=CASES["adaface"][0], reduction="sum").backward()
    x2, w2 = x.detach().clone().requires_grad_(), w.detach().clone().requires_grad_()
    c = torch.nn.functional.normalize(x2) @ torch.nn.functional.normalize(w2).T
    z = (0.333 * (x2.norm(dim=1).detach() - 20) / 100.001).clamp(-1, 1)
    rows = torch.arange(len(x2))
    psi = torch.cos(torch.acos(c[rows, y]) - 0.4 * z) - 0.4 * z - 0.4
    torch.nn.functional.cross_entropy(S * c.index_put((rows, y), psi), y, reduction="sum").backward()
    torch.testing.assert_close(x.grad, x2.grad, rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(w.grad, w2.grad, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize(
    "straight",
    [
        margins.ArcFace(0.5, S, gradient="straight_through"),
        margins.CombinedMargin(1.1, 0.2, 0.1, S, gradient="straight_through"),
        margins.SphereFaceR(1.3, S, gradient="straight_through"),
    ],
)
def test_straight_through_gradient_is_that_of_a_shift_outside_the_graph(straight):
    x, w, y = problem(seed=6)
    x, w = x.requires_grad_(), w[:, 0].clone().requires_grad_()
    linear_cross_entropy(x, w, y, margin=straight).backward()
    x2, w2 = x.detach().clone().requires_grad_(), w.detach().clone().requires_grad_()
    c = torch.nn.functional.normalize(x2) @ torch.nn.functional.normalize(w2).T
    rows = torch.arange(len(x2))
    psi = straight(c[rows, y].detach(), torch.ones(len(y)), torch.ones(len(y), dtype=torch.bool)).psi
    shift = torch.zeros_like(c).index_put((rows, y), psi - c[rows, y].detach())
    torch.nn.functional.cross_entropy(S * (c + shift), y).backward()
    torch.testing.assert_close(x.grad, x2.grad, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(w.grad, w2.grad, rtol=1e-9, atol=1e-11)


def extremes(dtype):
    """Features against class vector 0: aligned, opposite, orthogonal, zero, huge and tiny."""
    # With features of 3e4 the true gradient of L-Softmax leaves float16's range.
    huge = {torch.float16: 3e3, torch.bfloat16: 1e30, torch.float32: 1e30}[dtype]
    e = torch.eye(4, dtype=torch.float64)
    aligned = torch.tensor([0.3, -1.2, 0.7, 0.1], dtype=torch.float64)
    x = torch.stack(
        [aligned, 3 * aligned, -aligned, e[0] * 0, huge * e[1], -huge * aligned / 1.2, 1e-3 * e[2]]
    )
    w = torch.stack([aligned, e[1], -aligned, 0 * e[0], e[2] * 0.5])
    return x.to(dtype).requires_grad_(), w.to(dtype).requires_grad_()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("target", [0, 2, 3])
def test_extreme_vectors_give_finite_losses_and_gradients(name, dtype, target):
    x, w = extremes(dtype)
    y = torch.full((len(x),), target)
    loss = linear_cross_entropy(x, w, y, margin=CASES[name][0])
    loss.backward()
    assert loss.isfinite() and x.grad.isfinite().all() and w.grad.isfinite().all()
    if CASES[name][0].s is not None:
        assert (x.grad[3] == 0).all() and (w.grad[3] == 0).all()  # zero vectors have no direction to turn


def test_huge_class_vectors_are_as_good_as_short_ones():
    x, w, y = (v.float() if v.is_floating_point() else v for v in problem(seed=8))
    w = w[:, 0]
    plain = linear_cross_entropy(x, w, y, margin=margins.ArcFace())
    huge = linear_cross_entropy(x * 1e30, w * 1e30, y, margin=margins.ArcFace())
    torch.testing.assert_close(plain, huge, rtol=1e-5, atol=0)


@pytest.mark.parametrize("m", range(1, 9))
def test_lsoftmax_is_continuous_and_falls(m):
    c = torch.cos(torch.linspace(0, math.pi, 4001, dtype=torch.float64))
    psi, slope, _ = margins.LSoftmax(m)(c, c, c > 2)
    assert (psi.diff() <= 0).all()
    assert (slope >= 0).all() and slope.max() <= m**2 + 1e-9
    assert psi[-1] == pytest.approx(1 - 2 * m, abs=1e-12)


def test_annealing_steps_in_training_only_and_is_saved():
    margin = margins.LSoftmax(2, Anneal(base=10.0, gamma=1.0, power=1.0, minimum=3.0))
    c = torch.tensor([0.5])
    values = [float(margin.blend()) for _ in range(5) if margin(c, c, c > 0)]
    assert values == pytest.approx([5.0, 10 / 3, 3.0, 3.0, 3.0])
    margin.eval()(c, c, c > 0)
    assert int(margin.step) == 5
    fresh = margins.LSoftmax(2, Anneal())
    fresh.load_state_dict(margin.state_dict())
    assert int(fresh.step) == 5


def test_adaface_follows_the_lengths():
    margin = margins.AdaFace(momentum=0.25)
    c, counted = torch.zeros(3), torch.tensor([True, True, False])
    margin(c, torch.tensor([10.0, 30.0, 1e6]), counted)
    assert float(margin.mean) == pytest.approx(20.0)
    assert float(margin.std) == pytest.approx(0.75 * 100 + 0.25 * math.sqrt(200))
    before = float(margin.std)
    psi = margin(c[:1], torch.tensor([28.0]), counted[:1]).psi
    assert float(margin.mean) == pytest.approx(22.0) and float(margin.std) == before and psi.isfinite()
    margin(c, c, ~counted & False)
    assert float(margin.mean) == pytest.approx(22.0)


def test_curricularface_follows_the_target_cosines():
    margin = margins.CurricularFace()
    margin(torch.tensor([0.5, 0.7, -1.0]), torch.ones(3), torch.tensor([True, True, False]))
    assert float(margin.t) == pytest.approx(0.006)
    assert list(margin.state_dict()) == ["t"]


def test_elasticface_draws_margins_and_plus_gives_the_large_ones_to_small_cosines():
    c = torch.linspace(0.9, -0.9, 2000)
    counted = c > -2
    torch.manual_seed(0)
    m = c - margins.ElasticFace(0.35, 0.05, kind="cos")(c, c, counted).psi
    assert float(m.mean()) == pytest.approx(0.35, abs=0.006) and float(m.std()) == pytest.approx(
        0.05, rel=0.08
    )
    m = c - margins.ElasticFace(0.35, 0.05, kind="cos", plus=True)(c, c, counted).psi
    assert (m.diff() >= -1e-6).all()


def test_sphereface2_starts_balanced():
    margin, n = margins.SphereFace2(), 1000
    b = torch.full((n,), margin.initial_bias(n), dtype=torch.float64, requires_grad=True)
    x, w = torch.eye(n + 1, dtype=torch.float64)[:1], torch.eye(n + 1, dtype=torch.float64)[1:]
    linear_cross_entropy(x, w, torch.tensor([0]), b, margin=margin, reduction="sum").backward()
    assert float(b.grad[0]) < 0
    assert float(b.grad.sum()) == pytest.approx(0.0, abs=1e-9 * float(b.grad.abs().sum()))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: margins.LSoftmax(0), "from 1 on"),
        (lambda: margins.LSoftmax(2.5), "SphereFaceR"),
        (lambda: margins.ArcFace(50), "radians"),
        (lambda: margins.ArcFace(beyond="relaxed"), "'fallback', 'easy', 'exact'"),
        (lambda: margins.CosFace(s=0), "s is 0"),
        (lambda: margins.CombinedMargin(1.5, beyond="easy"), "m1 = 1 only"),
        (lambda: margins.MagFace(l_a=5, u_a=5), "l_a < u_a"),
        (lambda: margins.SphereFace2(balance=1.0), "between 0 and 1"),
    ],
)
def test_wrong_settings_are_explained(make, says):
    with pytest.raises(InputError, match=says):
        make()
