"""Losses as modules: the class vectors, a margin, and the streamed cross-entropy."""

import math
from typing import Any, Literal, TypedDict, Unpack

import torch
from torch import Tensor, nn

from luce.errors import InputError
from luce.nn import margins
from luce.nn.functional import Reduction, linear_cross_entropy, linear_scores
from luce.nn.margins._base import Beyond, Gradient

_SCORES_AT_ONCE = 1 << 22


class LossOptions(TypedDict, total=False):
    """What every loss takes by name, as in `luce.nn.functional.linear_cross_entropy`."""

    class_weight: Tensor | None
    ignore_index: int
    label_smoothing: float
    z_loss: float
    softcap: float | None
    logit_bias: Tensor | None
    reduction: Reduction
    device: torch.device | str | None
    dtype: torch.dtype | None


class MarginLoss(nn.Module):
    """Classification head with a margin of your choice; the losses below are this one with theirs.

    ``loss = head(features, target)`` trains; ``head.scores(features)`` and ``head.predict(features)``
    evaluate, without the margin, which is there to make training harder.

    Parameters
    ----------
    in_features : int
        D, the width of the features.
    num_classes : int
        C.
    margin : luce.nn.margins.Margin, optional
        None for the plain softmax.
    bias : bool
        Whether scores have a bias per class.
    centres : int
        K, class vectors per class, of which the best scores.
    **options
        `LossOptions`: those of `luce.nn.functional.linear_cross_entropy`, device and dtype.

    Attributes
    ----------
    weight : Parameter of shape (C, D), or (C, K, D) for K > 1
        Drawn from Normal(0, 1/D), so that its rows have lengths near 1.
    bias : Parameter of shape (C,), or None
        Starts at 0.
    margin : luce.nn.margins.Margin or None
        Its memory, if any, is part of the head's `state_dict`.

    Examples
    --------
    >>> import torch
    >>> from luce.nn import MarginLoss
    >>> from luce.nn.margins import CosFace
    >>> _ = torch.manual_seed(0)
    >>> head = MarginLoss(8, 100, CosFace(m=0.2))
    >>> features, target = torch.randn(5, 8, requires_grad=True), torch.arange(5)
    >>> head(features, target).backward()
    >>> features.grad.shape, head.predict(features).shape
    (torch.Size([5, 8]), torch.Size([5]))
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        margin: margins.Margin | None = None,
        *,
        bias: bool = False,
        centres: int = 1,
        **options: Unpack[LossOptions],
    ) -> None:
        super().__init__()
        for name, value in (("in_features", in_features), ("num_classes", num_classes), ("centres", centres)):
            if value < 1:
                raise InputError(f"{name} is {value!r}; it must be at least 1")
        place: dict[str, Any] = {"device": options.pop("device", None), "dtype": options.pop("dtype", None)}
        self.in_features, self.num_classes, self.centres = in_features, num_classes, centres
        self.margin = None if margin is None else margin.to(place["device"])
        self.class_weight: Tensor | None
        self.logit_bias: Tensor | None
        self.register_buffer("class_weight", options.pop("class_weight", None))
        self.register_buffer("logit_bias", options.pop("logit_bias", None))
        self.options = options
        shape = (num_classes, in_features) if centres == 1 else (num_classes, centres, in_features)
        self.weight = nn.Parameter(torch.empty(shape, **place))
        self.bias = nn.Parameter(torch.empty(num_classes, **place)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weight anew and set the bias to 0."""
        nn.init.normal_(self.weight, std=1 / math.sqrt(self.in_features))
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, features: Tensor, target: Tensor) -> Tensor:
        """Loss of features (..., D) against target (...); see `linear_cross_entropy`."""
        return linear_cross_entropy(
            features,
            self.weight,
            target,
            self.class_bias(),
            margin=self.margin,
            class_weight=self.class_weight,
            logit_bias=self.logit_bias,
            **self.options,  # type: ignore[misc]
        )

    def scores(self, features: Tensor) -> Tensor:
        """Scores (..., C) of features (..., D), without margin."""
        return linear_scores(features, self.weight, self.class_bias(), margin=self.margin)

    @torch.no_grad()
    def predict(self, features: Tensor) -> Tensor:
        """Best class (...) of features (..., D), some rows at a time."""
        rows = features.reshape(-1, self.in_features)
        size = max(64, _SCORES_AT_ONCE // (self.num_classes * self.centres))
        best = [self.scores(part).argmax(-1) for part in torch.split(rows, size)]
        return torch.cat(best).reshape(features.shape[:-1])

    def class_bias(self) -> Tensor | None:
        """What is added to the scores, (C,) or None."""
        return self.bias

    def extra_repr(self) -> str:
        """Sizes and the options given, for `repr`."""
        given = "".join(f", {name}={value!r}" for name, value in self.options.items())
        centres = f", centres={self.centres}" if self.centres > 1 else ""
        return f"in_features={self.in_features}, num_classes={self.num_classes}{centres}{given}"


class SoftmaxLoss(MarginLoss):
    """Plain softmax: ``torch.nn.Linear`` and ``torch.nn.CrossEntropyLoss`` in one.

    Examples
    --------
    >>> import torch
    >>> from luce.nn import SoftmaxLoss
    >>> loss = SoftmaxLoss(8, 100)(torch.zeros(5, 8), torch.arange(5))
    >>> bool(torch.isclose(loss.detach(), torch.tensor(100.0).log()))
    True
    """

    def __init__(
        self, in_features: int, num_classes: int, *, bias: bool = True, **options: Unpack[LossOptions]
    ) -> None:
        super().__init__(in_features, num_classes, None, bias=bias, **options)


class LSoftmaxLoss(MarginLoss):
    """L-Softmax; see `luce.nn.margins.LSoftmax`.

    Examples
    --------
    >>> import torch
    >>> from luce.nn import LSoftmaxLoss
    >>> loss_fn = LSoftmaxLoss(8, 10, margin=2)
    >>> output, target = torch.randn(5, 8, requires_grad=True), torch.arange(5)
    >>> loss = loss_fn(output, target)
    >>> loss.backward()
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        margin: int = 4,
        anneal: margins.Anneal | None = None,
        **options: Unpack[LossOptions],
    ) -> None:
        super().__init__(in_features, num_classes, margins.LSoftmax(margin, anneal), **options)


class ASoftmaxLoss(MarginLoss):
    """A-Softmax (SphereFace); see `luce.nn.margins.ASoftmax`."""

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        margin: int = 4,
        anneal: margins.Anneal | None = None,
        **options: Unpack[LossOptions],
    ) -> None:
        super().__init__(in_features, num_classes, margins.ASoftmax(margin, anneal), **options)


class SphereFaceRLoss(MarginLoss):
    """SphereFace-R; see `luce.nn.margins.SphereFaceR`."""

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        margin: float = 1.5,
        scale: float = 30.0,
        gradient: Gradient = "exact",
        **options: Unpack[LossOptions],
    ) -> None:
        super().__init__(in_features, num_classes, margins.SphereFaceR(margin, scale, gradient), **options)


class CosFaceLoss(MarginLoss):
    """CosFace (AM-Softmax); see `luce.nn.margins.CosFace`."""

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        margin: float = 0.35,
        scale: float = 64.0,
        **options: Unpack[LossOptions],
    ) -> None:
        super().__init__(in_features, num_classes, margins.CosFace(margin, scale), **options)


class ArcFaceLoss(MarginLoss):
    """ArcFace; see `luce.nn.margins.ArcFace`."""

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        margin: float = 0.5,
        scale: float = 64.0,
        beyond: Beyond = "fallback",
        gradient: Gradient = "exact",
        **options: Unpack[LossOptions],
    ) -> None:
        super().__init__(
            in_features, num_classes, margins.ArcFace(margin, scale, beyond, gradient), **options
        )


class SubCenterArcFaceLoss(MarginLoss):
    """ArcFace with K centres per class, the best of which scores; see `luce.nn.margins.ArcFace`."""

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        margin: float = 0.5,
        scale: float = 64.0,
        centres: int = 3,
        beyond: Beyond = "fallback",
        gradient: Gradient = "exact",
        **options: Unpack[LossOptions],
    ) -> None:
        arc = margins.ArcFace(margin, scale, beyond, gradient)
        super().__init__(in_features, num_classes, arc, centres=centres, **options)


class CombinedMarginLoss(MarginLoss):
    """Combined margin, given as ``margin=(m1, m2, m3)``; see `luce.nn.margins.CombinedMargin`."""

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        margin: tuple[float, float, float] = (1.0, 0.5, 0.0),
        scale: float = 64.0,
        beyond: Beyond = "exact",
        gradient: Gradient = "exact",
        **options: Unpack[LossOptions],
    ) -> None:
        combined = margins.CombinedMargin(*margin, scale, beyond, gradient)
        super().__init__(in_features, num_classes, combined, **options)


class ElasticFaceLoss(MarginLoss):
    """ElasticFace; see `luce.nn.margins.ElasticFace`."""

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        margin: float = 0.5,
        scale: float = 64.0,
        sigma: float = 0.05,
        kind: Literal["arc", "cos"] = "arc",
        plus: bool = False,
        **options: Unpack[LossOptions],
    ) -> None:
        elastic = margins.ElasticFace(margin, sigma, scale, kind, plus)
        super().__init__(in_features, num_classes, elastic, **options)


class MagFaceLoss(MarginLoss):
    """MagFace, margins from ``margin[0]`` to ``margin[1]`` over ``length``; see `luce.nn.margins.MagFace`."""

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        margin: tuple[float, float] = (0.45, 0.8),
        scale: float = 64.0,
        length: tuple[float, float] = (10.0, 110.0),
        lambda_g: float = 35.0,
        beyond: Beyond = "fallback",
        **options: Unpack[LossOptions],
    ) -> None:
        magface = margins.MagFace(*length, *margin, scale, lambda_g, beyond)
        super().__init__(in_features, num_classes, magface, **options)


class AdaFaceLoss(MarginLoss):
    """AdaFace; see `luce.nn.margins.AdaFace`."""

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        margin: float = 0.4,
        scale: float = 64.0,
        h: float = 0.333,
        momentum: float = 0.01,
        **options: Unpack[LossOptions],
    ) -> None:
        super().__init__(in_features, num_classes, margins.AdaFace(margin, h, scale, momentum), **options)


class CurricularFaceLoss(MarginLoss):
    """CurricularFace; see `luce.nn.margins.CurricularFace`."""

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        margin: float = 0.5,
        scale: float = 64.0,
        momentum: float = 0.01,
        **options: Unpack[LossOptions],
    ) -> None:
        super().__init__(in_features, num_classes, margins.CurricularFace(margin, scale, momentum), **options)


class SphereFace2Loss(MarginLoss):
    """SphereFace2; see `luce.nn.margins.SphereFace2`. All classes share one learned bias, of shape ()."""

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        margin: float = 0.4,
        scale: float = 40.0,
        t: float = 3.0,
        balance: float = 0.7,
        gradient: Gradient = "exact",
        **options: Unpack[LossOptions],
    ) -> None:
        binary = margins.SphereFace2(margin, scale, t, balance, gradient)
        super().__init__(in_features, num_classes, binary, **options)
        self.bias = nn.Parameter(self.weight.new_tensor(binary.initial_bias(num_classes)))

    def class_bias(self) -> Tensor:
        """The shared bias, once per class."""
        assert self.bias is not None
        return self.bias.expand(self.num_classes)
