"""One head over several processes: each holds some of the classes, all see all the features.

With p ranks, the weight's rows are cut into p parts. A step gathers the features of all ranks, streams them
over the rank's own classes, and joins what the ranks found: the log-sum-exp of all classes is the log-sum-exp
of theirs. A target's score is known to the one rank that owns the class, and so is its margin. Gradients of
the features are summed over the ranks and cut up again; those of the classes stay where the classes are.
"""

import math
from typing import Any, Unpack, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Shard
from torch.nn.functional import pad

from luce.errors import InputError
from luce.nn import margins
from luce.nn._autograd import backend, finish, rounded, stream_again
from luce.nn._geometry import accumulator
from luce.nn._problem import Needs, Options, Problem, check_targets
from luce.nn.functional import Applied, apply_margin, divisor, linear_scores, needs_of, row_coefficients
from luce.nn.heads import LossOptions

# By the names they have had since PyTorch 2.12, or else the older ones.
_gather_into = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
_reduce_scatter_into = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor
_IGNORED = -100  # target of rows that count for nothing, in the numbering of a rank's own classes


class ShardedMarginLoss(nn.Module):
    """`MarginLoss` with its classes spread over the ranks of a process group.

    Every rank gives its own features and targets, with targets numbered over all classes, and gets the loss
    of all rows of all ranks, the same number everywhere. Loss and gradients are those that `MarginLoss` has
    in one process on the joined batch. Start the processes with ``torchrun``; all must call the head alike.

    Parameters
    ----------
    in_features : int
        D, the width of the features.
    num_classes : int
        C, over all ranks. Each holds ceil(C / ranks) classes, the last one the rest.
    margin : luce.nn.margins.Margin, optional
        None for the plain softmax.
    bias : bool
        Whether scores have a bias per class.
    centres : int
        K, class vectors per class, of which the best scores.
    sample_rate : float
        In training, share of its classes that each rank compares with, drawn anew at each step but with all
        targets of the step among them. Classes left out get gradient 0.
    averaged : bool
        Set it if the features come from a model in `DistributedDataParallel`, which takes the mean of its
        gradients over the ranks where this loss asks for the sum: features' gradients are then multiplied by
        the number of ranks. The head itself stays outside that wrapper.
    group : torch.distributed.ProcessGroup, optional
        The ranks; by default all.
    **options
        `LossOptions` as for `MarginLoss`, with reduction "mean" or "sum"; class_weight and logit_bias are
        given for all C classes.

    Attributes
    ----------
    weight : Parameter of shape (C, D), or (C, K, D) for K > 1
        A `torch.distributed.tensor.DTensor` in `Shard(0)`, drawn from Normal(0, 1/D). Hence
        `torch.distributed.checkpoint` saves each rank's part, and loads it onto any number of ranks;
        ``weight.full_tensor()`` joins it.
    bias : Parameter of shape (C,), or None
        Likewise; starts at 0.

    Raises
    ------
    InputError
        If there is no process group, a rank would hold no class, or as for `MarginLoss`.

    References
    ----------
    Sampling: An et al.: Killing Two Birds with One Stone: Efficient and Robust Training of Face Recognition
    CNNs by Partial FC, CVPR 2022.

    Examples
    --------
    >>> import torch
    >>> import torch.distributed as dist
    >>> from luce.nn import ShardedMarginLoss
    >>> from luce.nn.margins import CosFace
    >>> dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)  # by torchrun: ("gloo")
    >>> head = ShardedMarginLoss(8, 100, CosFace())
    >>> features, target = torch.randn(5, 8, requires_grad=True), torch.arange(5)
    >>> head(features, target).backward()
    >>> head.weight.grad.to_local().shape, head.predict(features).shape
    (torch.Size([100, 8]), torch.Size([5]))
    >>> dist.destroy_process_group()

    A program for ``torchrun --nproc-per-node=4 train.py``::

        dist.init_process_group("gloo")                    # "nccl" on GPUs
        net = DistributedDataParallel(Network())           # gives (N, 512) features
        head = ShardedMarginLoss(512, 1_000_000, CosFace(), sample_rate=0.1, averaged=True)
        optimizer = torch.optim.SGD([*net.parameters(), *head.parameters()], lr=0.1)
        for images, labels in loader:                      # each rank its own
            optimizer.zero_grad()
            head(net(images), labels).backward()
            optimizer.step()
        torch.distributed.checkpoint.save({"head": head.state_dict()}, checkpoint_id="checkpoint")
        dist.destroy_process_group()
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        margin: margins.Margin | None = None,
        *,
        bias: bool = False,
        centres: int = 1,
        sample_rate: float = 1.0,
        averaged: bool = False,
        group: dist.ProcessGroup | None = None,
        **options: Unpack[LossOptions],
    ) -> None:
        super().__init__()
        if not dist.is_initialized():
            raise InputError(
                "there is no process group; call torch.distributed.init_process_group() first and start the "
                "program with torchrun, or use MarginLoss in a single process"
            )
        for name, value in (("in_features", in_features), ("num_classes", num_classes), ("centres", centres)):
            if value < 1:
                raise InputError(f"{name} is {value!r}; it must be at least 1")
        reduction, smoothing = options.get("reduction", "mean"), options.get("label_smoothing", 0.0)
        if reduction not in ("mean", "sum"):
            raise InputError(f"reduction is {reduction!r}; choose 'mean' or 'sum'")
        if not 0 < sample_rate <= 1:
            raise InputError(f"sample_rate is {sample_rate!r}; it must lie in (0, 1]")
        if not 0 <= smoothing <= 1:
            raise InputError(f"label_smoothing is {smoothing!r}; it must lie in [0, 1]")
        if smoothing and sample_rate < 1:
            raise InputError("label_smoothing needs all classes; leave sample_rate at 1")
        if margin is not None and margin.binary and (smoothing or options.get("z_loss")):
            raise InputError(f"{type(margin).__name__} has no softmax; leave label_smoothing and z_loss at 0")
        self.group = group if group is not None else cast(dist.ProcessGroup, dist.group.WORLD)
        self.rank, self.ranks = dist.get_rank(self.group), dist.get_world_size(self.group)
        share = -(-num_classes // self.ranks)
        if share * (self.ranks - 1) >= num_classes:
            raise InputError(
                f"{num_classes} classes, {share} to a rank, leave some of the {self.ranks} ranks with none; "
                "use fewer ranks, or MarginLoss"
            )
        self.first = share * self.rank  # class of the first row held here
        self.held = min(share, num_classes - self.first)
        self.in_features, self.num_classes, self.centres = in_features, num_classes, centres
        self.sample_rate, self.averaged = sample_rate, averaged

        place: dict[str, Any] = {"device": options.pop("device", None), "dtype": options.pop("dtype", None)}
        self.margin = None if margin is None else margin.to(place["device"])
        self.class_weight: Tensor | None
        self.logit_bias: Tensor | None
        for name, vector in (
            ("class_weight", options.pop("class_weight", None)),
            ("logit_bias", options.pop("logit_bias", None)),
        ):
            if vector is not None and tuple(vector.shape) != (num_classes,):
                raise InputError(
                    f"{name} has shape {tuple(vector.shape)}; it must be ({num_classes},), one per class"
                )
            self.register_buffer(name, vector)
        self.options = options
        shape = (num_classes, in_features) if centres == 1 else (num_classes, centres, in_features)
        self.weight = self._parameter(shape, place)
        self.bias = self._parameter((num_classes,), place) if bias else None
        self.reset_parameters()

    def _parameter(self, shape: tuple[int, ...], place: dict[str, Any]) -> nn.Parameter:
        own = torch.empty(self.held, *shape[1:], **place)
        mesh = DeviceMesh.from_group(self.group, own.device.type)
        stride = torch.empty(shape, device="meta").stride()
        whole = DTensor.from_local(
            own, mesh, [Shard(0)], run_check=False, shape=torch.Size(shape), stride=stride
        )
        return nn.Parameter(whole)

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw the weight anew and set the bias to 0; ranks with the same seed still draw apart."""
        own = _own(self.weight)
        seed = torch.randint(1 << 48, (), device=own.device)
        dist.broadcast(seed, group=self.group, group_src=0)
        generator = torch.Generator(own.device).manual_seed(int(seed) + self.rank)
        own.normal_(std=1 / math.sqrt(self.in_features), generator=generator)
        if self.bias is not None:
            _own(self.bias).zero_()

    def forward(self, features: Tensor, target: Tensor) -> Tensor:
        """Loss () of the features (..., D) of all ranks against their targets (...), class numbers."""
        weight, bias = _own(self.weight), None if self.bias is None else _own(self.bias)
        device, product = features.device.type, torch.promote_types(features.dtype, weight.dtype)
        if torch.is_autocast_enabled(device) and product != torch.float64:
            product = torch.get_autocast_dtype(device)
        with torch.autocast(device, enabled=False):
            dtype = accumulator(torch.promote_types(features.dtype, weight.dtype))
            x, y = self._gather(features, target)
            x = x.double() if dtype == torch.float64 else x
            counted = y >= 0
            omega = None if self.class_weight is None else self.class_weight.to(dtype)
            reduction = self.options.get("reduction", "mean")
            smoothing, z_loss = self.options.get("label_smoothing", 0.0), self.options.get("z_loss", 0.0)
            rows = row_coefficients(y, counted, self.num_classes, omega, smoothing, z_loss, reduction, dtype)

            mine = (y >= self.first) & (y < self.first + self.held)
            own = torch.where(mine, y - self.first, torch.where(counted, self.held, _IGNORED))
            part: slice | Tensor = slice(self.first, self.first + self.held)
            if self.training and self.sample_rate < 1:
                chosen = self._sample(own[mine])
                part, weight = chosen + self.first, weight[chosen]
                bias = None if bias is None else bias[chosen]
                place = torch.searchsorted(chosen, own.clamp(0, self.held - 1))
                own = torch.where(mine, place, torch.where(counted, len(chosen), _IGNORED))

            options = Options(_IGNORED, self.options.get("softcap") or 0.0, product=product)
            applied = Applied(x)
            if self.margin is not None:
                applied = apply_margin(
                    self.margin,
                    x,
                    weight,
                    own,
                    counted,
                    lambda known: self._sum(torch.where(mine, known, 0.0)),
                )
                options = options._replace(
                    normalize=self.margin.normalize_weight,
                    negatives=self.margin.negatives,
                    constants=self.margin.constants,
                    binary=self.margin.binary,
                )
            problem = Problem(
                applied.x,
                weight,
                None if bias is None else bias.to(dtype),
                applied.phi,
                applied.slope,
                own,
                *rows,
                applied.state,
                None if omega is None else omega[part],
                None if self.logit_bias is None else self.logit_bias[part].to(dtype),
            )
            loss: Tensor = _ShardedCrossEntropy.apply(  # type: ignore[no-untyped-call]
                options,
                needs_of(problem),
                self.group,
                applied.owner,
                applied.along_x,
                applied.along_w,
                *problem,
            )
            if applied.penalty is not None:
                # Each row's gradient is asked for where its class is, and the value is that of all rows.
                penalty = torch.where(mine, applied.penalty, 0.0).sum() / divisor(counted, reduction, dtype)
                loss = loss + penalty + (self._sum(penalty) - penalty.detach())
            return torch.where(counted.any(), loss, torch.nan) if reduction == "mean" else loss

    @torch.no_grad()
    def predict(self, features: Tensor) -> Tensor:
        """Best class (...) of this rank's features (..., D); every rank must call it."""
        y = features.new_zeros(features.shape[:-1], dtype=torch.int64)
        x, _ = self._gather(features, y)
        bias = None if self.bias is None else _own(self.bias)
        size = max(64, (1 << 22) // (self.held * self.centres))
        best = [
            linear_scores(part, _own(self.weight), bias, margin=self.margin).max(-1)
            for part in torch.split(x, size)
        ]
        score, label = (torch.cat(parts) for parts in zip(*best, strict=True))
        scores, labels = (self._join(part) for part in (score, label + self.first))
        winner = scores.view(self.ranks, -1).argmax(0, keepdim=True)
        labels = labels.view(self.ranks, -1).gather(0, winner)[0]
        start = self.rank * (len(x) // self.ranks)
        return labels[start : start + y.numel()].reshape(y.shape)

    def extra_repr(self) -> str:
        """Sizes and the options given, for `repr`."""
        given = "".join(f", {name}={value!r}" for name, value in self.options.items())
        classes = f"{self.first}..{self.first + self.held - 1} of {self.num_classes}"
        return f"in_features={self.in_features}, classes {classes}, sample_rate={self.sample_rate}{given}"

    def _gather(self, features: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Features and targets of all ranks, each rank's filled up with ignored rows to the longest."""
        if features.shape[-1:] != (self.in_features,) or target.shape != features.shape[:-1]:
            raise InputError(
                f"features and target have shapes {tuple(features.shape)} and {tuple(target.shape)}; give "
                f"(..., {self.in_features}) and class numbers (...)"
            )
        ignore_index = self.options.get("ignore_index", _IGNORED)
        y = target.reshape(-1).long()
        longest = torch.tensor(len(y), device=y.device)
        dist.all_reduce(longest, dist.ReduceOp.MAX, self.group)
        missing = int(longest) - len(y)
        y = self._join(pad(y, (0, missing), value=ignore_index))
        check_targets(
            y, self.num_classes, ignore_index
        )  # on all ranks, so that none waits for one that raised
        x = pad(features.reshape(-1, self.in_features), (0, 0, 0, missing))
        x = _Gather.apply(x, self.group, self.ranks if self.averaged else 1)  # type: ignore[no-untyped-call]
        return x, torch.where(y == ignore_index, _IGNORED, y)

    def _sample(self, targets: Tensor) -> Tensor:
        """Numbers of the rank's classes to compare with, ascending, the targets among them."""
        order = torch.rand(self.held, device=targets.device)
        order[targets] = 2.0
        count = max(math.ceil(self.sample_rate * self.held), int((order == 2.0).sum()))
        return order.topk(count).indices.sort().values

    def _join(self, part: Tensor) -> Tensor:
        return _all_gather(part, self.group)

    def _sum(self, part: Tensor) -> Tensor:
        total = part.detach().clone()
        dist.all_reduce(total, group=self.group)
        return total


def _own(parameter: Tensor) -> Tensor:
    """The rows held here, differentiable."""
    assert isinstance(parameter, DTensor)
    return parameter.to_local()


def _all_gather(part: Tensor, group: dist.ProcessGroup) -> Tensor:
    whole = part.new_empty(len(part) * dist.get_world_size(group), *part.shape[1:])
    _gather_into(whole, part.contiguous(), group)
    return whole


class _Gather(torch.autograd.Function):
    """The rows of all ranks; backward sums what the ranks found out about each, times `scale`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: dist.ProcessGroup, scale: int) -> Tensor:
        ctx.group, ctx.scale = group, scale
        return _all_gather(x, group)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        own = gradient.new_empty(len(gradient) // dist.get_world_size(ctx.group), *gradient.shape[1:])
        _reduce_scatter_into(own, gradient.contiguous(), group=ctx.group)
        return own * ctx.scale, None, None


class _ShardedCrossEntropy(torch.autograd.Function):
    """The loss of all rows over all classes, as a node that owes gradients for the rank's own classes.

    For owner, along_x and along_w see `luce.nn._autograd.LinearCrossEntropy`.
    """

    @staticmethod
    def forward(
        ctx: Any,
        options: Options,
        needs: Needs,
        group: dist.ProcessGroup,
        owner: Tensor | None,
        along_x: Tensor | None,
        along_w: Tensor | None,
        *tensors: Tensor | None,
    ) -> Tensor:
        """Summed loss ()."""
        p = Problem(*tensors)  # type: ignore[arg-type]
        loss, lse, _ = backend(p).forward(p._replace(zeta=None), options, Needs(False, False, False, False))
        if options.binary:
            dist.all_reduce(loss, group=group)
        else:
            rest = loss - p.mass * lse  # what the rank's own classes add beside the log-sum-exp
            peak = lse.clone()
            dist.all_reduce(peak, dist.ReduceOp.MAX, group)
            sums = torch.stack([torch.exp(lse - peak), rest])
            dist.all_reduce(sums, group=group)
            lse = peak + sums[0].log()
            loss = p.mass * lse + sums[1]
            if p.zeta is not None:
                loss += p.zeta * lse**2
        ctx.options, ctx.needs = options, needs
        ctx.save_for_backward(lse, owner, along_x, along_w, *tensors)
        return loss.sum()

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of x, weight, bias and phi, each only if wanted."""
        lse, owner, along_x, along_w, *tensors = ctx.saved_tensors
        p = Problem(*tensors)
        streamed = stream_again(p.scaled(upstream), ctx.options, ctx.needs, lse)
        parts = finish(p, ctx.needs, streamed, owner, along_x, along_w)
        parts = rounded(parts, p.x.dtype, p.weight.dtype)
        wanted = [part if need else None for part, need in zip(parts, ctx.needs, strict=True)]
        return *[None] * 6, *wanted, *[None] * (len(Problem._fields) - len(wanted))
