"""The modules: what they compute, keep and print."""

import io
import subprocess
import sys

import pytest
import torch

import luce.nn
from luce.errors import InputError, MissingExtraError
from luce.nn import margins
from luce.nn.functional import linear_cross_entropy, linear_scores

BASES = {"MarginLoss", "ShardedMarginLoss"}
HEADS = [getattr(luce.nn, name) for name in luce.nn.__all__ if name.endswith("Loss") and name not in BASES]


def batch(n=12, d=6, c=5):
    torch.manual_seed(0)
    return torch.randn(n, d), torch.randint(0, c, (n,))


@pytest.mark.parametrize("head", HEADS)
def test_learns_predicts_and_saves(head):
    torch.manual_seed(1)
    target = torch.arange(60) % 5
    features = torch.eye(5, 6)[target] * 12 + torch.randn(60, 6)
    loss_fn = head(6, 5)
    optimizer = torch.optim.Adam(loss_fn.parameters(), lr=0.1)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = loss_fn(features, target)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
    assert (loss_fn.predict(features) == target).float().mean() > 0.95
    assert torch.equal(loss_fn.predict(features), loss_fn.scores(features).argmax(-1))

    file = io.BytesIO()
    torch.save(loss_fn.state_dict(), file)
    file.seek(0)
    other = head(6, 5)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(other.eval()(features, target), loss_fn.eval()(features, target))
    assert str(loss_fn.in_features) in repr(loss_fn)


@pytest.mark.parametrize("head", HEADS)
def test_dtype_and_features_in_any_shape(head):
    loss_fn = head(6, 5, dtype=torch.float64, reduction="none")
    assert {p.dtype for p in loss_fn.parameters()} == {torch.float64}
    features = torch.randn(2, 3, 6, dtype=torch.float64)
    assert loss_fn(features, torch.zeros(2, 3, dtype=torch.long)).shape == (2, 3)
    assert loss_fn.predict(features).shape == (2, 3) and loss_fn.scores(features).shape == (2, 3, 5)


def test_options_reach_the_loss_and_are_saved():
    x, y = batch()
    weight = torch.rand(5)
    head = luce.nn.CosFaceLoss(
        6, 5, margin=0.2, scale=8.0, class_weight=weight, label_smoothing=0.1, reduction="sum"
    )
    expected = linear_cross_entropy(
        x,
        head.weight,
        y,
        margin=margins.CosFace(0.2, 8.0),
        class_weight=weight,
        label_smoothing=0.1,
        reduction="sum",
    )
    torch.testing.assert_close(head(x, y), expected)
    assert "class_weight" in head.state_dict() and "label_smoothing=0.1" in repr(head)
    torch.testing.assert_close(
        head.scores(x), linear_scores(x, head.weight, margin=margins.CosFace(0.2, 8.0))
    )


def test_evaluation_does_not_advance_the_schedule():
    x, y = batch()
    head = luce.nn.LSoftmaxLoss(6, 5, margin=2, anneal=margins.Anneal())
    head(x, y), head(x, y)
    head.eval()(x, y)
    head.predict(x)
    assert int(head.state_dict()["margin.step"]) == 2


def test_class_vectors_start_near_length_one():
    torch.manual_seed(0)
    lengths = luce.nn.SubCenterArcFaceLoss(256, 100, centres=2).weight.norm(dim=-1)
    assert lengths.shape == (100, 2) and (lengths - 1).abs().max() < 0.25


def test_sphereface2_shares_one_bias():
    x, y = batch()
    head = luce.nn.SphereFace2Loss(6, 5)
    head(x, y).backward()
    assert head.bias.shape == () and head.bias.grad.isfinite()


def test_sizes_are_checked():
    with pytest.raises(InputError, match="num_classes is 0"):
        luce.nn.SoftmaxLoss(3, 0)


def test_without_torch_the_extra_is_named():
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from luce.errors import MissingExtraError\n"
        "try: import luce.nn\n"
        "except MissingExtraError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "luce[torch]" in done.stdout and issubclass(MissingExtraError, ImportError)
