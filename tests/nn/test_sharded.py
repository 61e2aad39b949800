"""Heads on several processes against one process that has all the rows and all the classes."""

import itertools
import multiprocessing
import os
import tempfile
import warnings
from datetime import timedelta

import pytest
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
import torch.multiprocessing as mp
from torch.nn.parallel import DistributedDataParallel

from luce.errors import InputError
from luce.nn import LSoftmaxLoss, MarginLoss, ShardedMarginLoss, margins

pytestmark = pytest.mark.skipif(not dist.is_gloo_available(), reason="PyTorch without gloo")

D, C = 6, 27  # a number of classes that neither 2 nor 4 divides
SIZES = [5, 3, 7, 4]  # rows of each rank
MARGINS = {
    "none": lambda: None,
    "CosFace": lambda: margins.CosFace(0.35, 16.0),
    "ArcFace": lambda: margins.ArcFace(0.5, 16.0),
    "LSoftmax": lambda: margins.LSoftmax(3, margins.Anneal(base=2.0)),
    "MagFace": lambda: margins.MagFace(l_a=1.0, u_a=5.0),  # its loss has a part that is no cross-entropy
    "CurricularFace": lambda: margins.CurricularFace(
        0.5, 16.0
    ),  # has a moving average of all targets' cosines
    "SphereFace2": lambda: margins.SphereFace2(),  # has no softmax
}
SAME = {"rtol": 1e-11, "atol": 1e-12}  # float64; sums in another order


def on(ranks, work, *arguments):
    """Run work(rank, ranks, *arguments) in gloo processes; what one of them raises is raised here."""
    # The server imports all this once; its forks leave by _exit, without tearing down gloo's running threads.
    multiprocessing.set_forkserver_preload(["luce.nn.sharded", "torch.distributed.checkpoint", "pytest"])
    with tempfile.TemporaryDirectory() as folder:
        everything = (ranks, os.path.join(folder, "meet"), work, arguments)
        mp.start_processes(_process, everything, nprocs=ranks, start_method="forkserver")


def _process(rank, ranks, file, work, arguments):
    warnings.simplefilter("error")
    warnings.filterwarnings("ignore", module="torch")  # PyTorch's own remarks about its distributed parts
    torch.set_num_threads(1)
    store = dist.FileStore(file, ranks)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=ranks, timeout=timedelta(seconds=60))
    try:
        work(rank, ranks, *arguments)
        dist.barrier()
    finally:
        dist.destroy_process_group()


def batch(ranks, seed=0):
    """Features and targets of all ranks, one ignored, and each rank's own part."""
    generator = torch.Generator().manual_seed(seed)
    n = sum(SIZES[:ranks])
    x = torch.randn(n, D, dtype=torch.float64, generator=generator)
    y = torch.randint(0, C, (n,), generator=generator)
    y[2] = -100
    return x, y, torch.split(torch.arange(n), SIZES[:ranks])


def pair(make, **options):
    """One head for a single process and its sharded twin with the same class vectors."""
    torch.manual_seed(3)
    whole = MarginLoss(D, C, make(), dtype=torch.float64, **options)
    sharded = ShardedMarginLoss(D, C, make(), dtype=torch.float64, **options)
    own = slice(sharded.first, sharded.first + sharded.held)
    with torch.no_grad():
        sharded.weight.to_local().copy_(whole.weight[own])
        if whole.bias is not None:
            whole.bias.normal_()
            sharded.bias.to_local().copy_(whole.bias[own])
    return whole, sharded, own


def assert_equal_to_whole(ranks, rank, make, **options):
    whole, sharded, own = pair(make, **options)
    for step in range(2):  # the second with the margin's memory of the first
        x, y, parts = batch(ranks, step)
        y[2] = options.get("ignore_index", -100)
        x_whole, x_own = x.clone().requires_grad_(), x[parts[rank]].requires_grad_()
        expected, loss = whole(x_whole, y), sharded(x_own, y[parts[rank]])
        torch.testing.assert_close(loss, expected, **SAME)
        whole.zero_grad()
        sharded.zero_grad()
        (1.5 * expected).backward()
        (1.5 * loss).backward()
        torch.testing.assert_close(x_own.grad, x_whole.grad[parts[rank]], **SAME)
        torch.testing.assert_close(sharded.weight.grad.to_local(), whole.weight.grad[own], **SAME)
        if whole.bias is not None:
            torch.testing.assert_close(sharded.bias.grad.to_local(), whole.bias.grad[own], **SAME)
    assert torch.equal(sharded.predict(x_own), whole.predict(x_whole)[parts[rank]])
    for name, value in (whole.margin.state_dict() if whole.margin else {}).items():
        torch.testing.assert_close(sharded.margin.state_dict()[name], value, **SAME)


def every_margin(rank, ranks):
    for make in MARGINS.values():
        assert_equal_to_whole(ranks, rank, make)


def every_option(rank, ranks):
    weight, prior = torch.linspace(0.5, 2, C, dtype=torch.float64), torch.linspace(-1, 1, C).double()
    for reduction in ("mean", "sum"):
        assert_equal_to_whole(
            ranks, rank, MARGINS["CosFace"], bias=True, class_weight=weight, logit_bias=prior, softcap=20.0,
            label_smoothing=0.1, z_loss=0.01, reduction=reduction,
        )  # fmt: skip
    assert_equal_to_whole(ranks, rank, MARGINS["ArcFace"], centres=3)
    assert_equal_to_whole(ranks, rank, MARGINS["none"], ignore_index=1)


@pytest.mark.parametrize("ranks", [2, 4])
def test_equal_to_one_process_for_every_margin(ranks):
    on(ranks, every_margin)


def test_equal_to_one_process_for_every_option():
    on(2, every_option)


def half_precision_and_averaging(rank, ranks):
    whole, sharded, own = pair(MARGINS["ArcFace"])
    x, y, parts = batch(ranks)
    whole.float(), sharded.float()
    with torch.autocast("cpu", torch.bfloat16):
        loss = sharded(x[parts[rank]].bfloat16(), y[parts[rank]])
        torch.testing.assert_close(loss, whole(x.bfloat16(), y), rtol=1e-5, atol=1e-5)
    assert loss.dtype == torch.float32 and sharded.weight.to_local().dtype == torch.float32

    # Behind DistributedDataParallel, the network's gradient is that of one process.
    gradients = []
    for averaged in (True, False):
        torch.manual_seed(0)
        net = torch.nn.Linear(D, D)
        head = ShardedMarginLoss(D, C, margins.CosFace(), averaged=averaged) if averaged else whole
        if averaged:
            with torch.no_grad():
                head.weight.to_local().copy_(whole.weight[own])
            wrapped = DistributedDataParallel(net)
            head(wrapped(x[parts[rank]].float()), y[parts[rank]]).backward()
        else:
            whole.margin = margins.CosFace()
            whole(net(x.float()), y).backward()
        gradients.append(net.weight.grad)
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-5)  # float32


def test_half_precision_and_a_network_in_ddp():
    on(2, half_precision_and_averaging)


def sampling(rank, ranks):
    _, sharded, own = pair(MARGINS["CosFace"], bias=True)
    sharded.sample_rate = 0.4
    x, y, parts = batch(ranks)
    y[:] = y % 20  # leaves classes that are nobody's target
    x_own = x[parts[rank]].requires_grad_()
    torch.manual_seed(rank)
    loss = sharded(x_own, y[parts[rank]])
    loss.backward()
    gradient = sharded.weight.grad.to_local()
    seen = (gradient != 0).any(1)
    targets = {int(t) - own.start for t in y if own.start <= t < own.stop}
    assert all(seen[t] for t in targets) and int(seen.sum()) == max(len(targets), -(-sharded.held * 2 // 5))

    # The same loss over the classes that all ranks drew together.
    drawn = [None] * ranks
    dist.all_gather_object(drawn, (seen.nonzero()[:, 0] + own.start).tolist())
    classes = torch.tensor(sorted(itertools.chain(*drawn)))
    few = MarginLoss(D, len(classes), margins.CosFace(0.35, 16.0), dtype=torch.float64, bias=True)
    with torch.no_grad():
        few.weight.copy_(sharded.weight.full_tensor()[classes])
        few.bias.copy_(sharded.bias.full_tensor()[classes])
    x_few = x.clone().requires_grad_()
    expected = few(x_few, torch.searchsorted(classes, y))
    expected.backward()
    torch.testing.assert_close(loss, expected, **SAME)
    torch.testing.assert_close(x_own.grad, x_few.grad[parts[rank]], **SAME)
    held = (classes >= own.start) & (classes < own.stop)
    torch.testing.assert_close(gradient[classes[held] - own.start], few.weight.grad[held], **SAME)

    full = sharded.eval()(x_own, y[parts[rank]])  # evaluation compares with all classes
    assert full > loss


def test_sampled_classes():
    on(2, sampling)


def save(rank, ranks, folder):
    torch.manual_seed(0)
    head = ShardedMarginLoss(D, C, margins.LSoftmax(2, margins.Anneal()), bias=True)
    optimizer = torch.optim.Adam(head.parameters())
    x, y, parts = batch(ranks)
    head(x[parts[rank]].float(), y[parts[rank]]).backward()
    optimizer.step()
    dcp.save(
        {"head": head.state_dict(), "moment": optimizer.state[head.weight]["exp_avg"]}, checkpoint_id=folder
    )
    whole = {"weight": head.weight.full_tensor(), "bias": head.bias.full_tensor()}
    whole["moment"] = optimizer.state[head.weight]["exp_avg"].full_tensor()
    assert len({tuple(row) for row in whole["weight"].tolist()}) == C  # no two ranks drew the same
    if rank == 0:
        torch.save(whole, os.path.join(folder, "whole.pt"))


def load(rank, ranks, folder):
    torch.manual_seed(1)
    head = ShardedMarginLoss(D, C, margins.LSoftmax(2, margins.Anneal()), bias=True)
    state = {"head": head.state_dict(), "moment": torch.zeros_like(head.weight)}
    dcp.load(state, checkpoint_id=folder)
    head.load_state_dict(state["head"])
    whole = torch.load(os.path.join(folder, "whole.pt"))
    assert torch.equal(head.weight.full_tensor(), whole["weight"])
    assert torch.equal(head.bias.full_tensor(), whole["bias"])
    assert torch.equal(state["moment"].full_tensor(), whole["moment"])
    assert int(head.margin.step) == 1


def test_checkpoint_moves_to_another_number_of_ranks(tmp_path):
    on(4, save, str(tmp_path))
    on(2, load, str(tmp_path))


def wrong_use(rank, ranks):
    x, _, parts = batch(ranks)
    head = ShardedMarginLoss(D, C, dtype=torch.float64)
    with pytest.raises(InputError, match=r"target of row 1 is 27, outside 0..26"):  # on every rank
        head(x[parts[rank]], torch.where(torch.arange(len(parts[rank])) == 1 - rank, C, 0))
    with pytest.raises(InputError, match="leave some of the 2 ranks with none"):
        ShardedMarginLoss(D, 1)
    with pytest.raises(InputError, match="reduction"):
        ShardedMarginLoss(D, C, reduction="none")
    with pytest.raises(InputError, match="sample_rate"):
        ShardedMarginLoss(D, C, sample_rate=0.0)
    with pytest.raises(InputError, match="label_smoothing"):
        ShardedMarginLoss(D, C, sample_rate=0.5, label_smoothing=0.1)
    assert f"{C}" in repr(head)


def test_wrong_use_is_told():
    with pytest.raises(InputError, match="torchrun"):
        ShardedMarginLoss(D, C)
    on(2, wrong_use)


def ordinary_heads(rank, ranks):
    for make in (lambda: MarginLoss(D, C, margins.CosFace()), lambda: LSoftmaxLoss(D, C, 2)):
        x, y, _ = batch(2)
        x, y = x[:6].float(), y[:6].clamp_min(0)  # as many rows on each rank: their mean of means is the mean
        torch.manual_seed(0)
        head = make()
        wrapped = DistributedDataParallel(head)
        own = slice(3 * rank, 3 * rank + 3)
        wrapped(x[own], y[own]).backward()
        torch.manual_seed(0)
        alone = make()
        alone(x, y).backward()
        torch.testing.assert_close(head.weight.grad, alone.weight.grad, rtol=1e-4, atol=1e-5)  # float32


def test_ordinary_heads_in_ddp():
    on(2, ordinary_heads)
