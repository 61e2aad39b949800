"""Large margins: what each does to the target's score, and the derivative of that.

With theta the angle between a feature x and a class vector w, and c = cos(theta), the score of class j is::

    r k cos(theta_j),     r = |x| or a fixed scale s,     k = |w_j| or 1

A margin replaces the target's cosine by psi(c), mostly below c, so that the loss is content only with
features that are right by a margin. Every margin is a small module: called with cosines (N,) and feature
lengths (N,), it returns psi and d psi / dc. Margins with a memory (a schedule, moving averages) hold it in
buffers, hence in `state_dict`, and update it when called in training mode; `eval()` freezes it.

Angles are in radians. A derivative such as d cos(theta + m) / dc = cos m + sin m c / sin(theta) grows without
bound towards theta = 0 and pi. What reaches x and w is its product with sin(theta), which does not. So
sin(theta) is not let below sqrt(eps), 3.5e-4 in float32, in such quotients: the gradient of vectors that are
aligned or opposite to within that angle shrinks to 0, where the formula has no answer, every other one is
exact, and none is infinite. No margin takes an acos.
"""

from luce.nn.margins._adaptive import AdaFace, CurricularFace, MagFace
from luce.nn.margins._additive import ArcFace, CombinedMargin, CosFace, ElasticFace
from luce.nn.margins._base import Margin, Target
from luce.nn.margins._binary import SphereFace2
from luce.nn.margins._multiplicative import Anneal, ASoftmax, LSoftmax, SphereFaceR

__all__ = [
    "ASoftmax",
    "AdaFace",
    "Anneal",
    "ArcFace",
    "CombinedMargin",
    "CosFace",
    "CurricularFace",
    "ElasticFace",
    "LSoftmax",
    "MagFace",
    "Margin",
    "SphereFace2",
    "SphereFaceR",
    "Target",
]
