"""PyTorch heads: softmax and large-margin losses that never store the N x C scores.

Examples
--------
>>> import torch
>>> from luce.nn import ArcFaceLoss
>>> loss_fn = ArcFaceLoss(in_features=16, num_classes=1000)
>>> loss_fn(torch.randn(4, 16), torch.tensor([1, 20, 300, 999])).shape
torch.Size([])
"""

from typing import TYPE_CHECKING

from luce.errors import MissingExtraError

try:
    import torch as _torch  # noqa: F401
except ModuleNotFoundError as error:
    if error.name != "torch":
        raise
    raise MissingExtraError("luce.nn", "torch") from error

from luce.nn import functional as functional
from luce.nn import margins as margins
from luce.nn.heads import (
    AdaFaceLoss,
    ArcFaceLoss,
    ASoftmaxLoss,
    CombinedMarginLoss,
    CosFaceLoss,
    CurricularFaceLoss,
    ElasticFaceLoss,
    LSoftmaxLoss,
    MagFaceLoss,
    MarginLoss,
    SoftmaxLoss,
    SphereFace2Loss,
    SphereFaceRLoss,
    SubCenterArcFaceLoss,
)

if TYPE_CHECKING:
    from luce.nn.sharded import ShardedMarginLoss

__all__ = [
    "ASoftmaxLoss",
    "AdaFaceLoss",
    "ArcFaceLoss",
    "CombinedMarginLoss",
    "CosFaceLoss",
    "CurricularFaceLoss",
    "ElasticFaceLoss",
    "LSoftmaxLoss",
    "MagFaceLoss",
    "MarginLoss",
    "ShardedMarginLoss",
    "SoftmaxLoss",
    "SphereFace2Loss",
    "SphereFaceRLoss",
    "SubCenterArcFaceLoss",
    "functional",
    "margins",
]


def __getattr__(name: str) -> object:
    """Import what stands on torch.distributed only when it is asked for: it takes as long as all the rest."""
    if name == "ShardedMarginLoss":
        from luce.nn.sharded import ShardedMarginLoss

        return ShardedMarginLoss
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
