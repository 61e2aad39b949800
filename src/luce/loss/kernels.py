"""The passes over X that everything above uses: compiled where possible, pure NumPy where not.

:mod:`luce.loss.passes` says what each of them is.
"""

from luce._native import core
from luce.loss.passes import class_grams

if core is None:
    from luce.loss.passes import (
        class_curvature,
        class_sums,
        class_variances,
        divergence,
        gram,
        hessian,
        hessian_product,
        moments,
        probabilities,
        value_and_gradient,
    )
else:
    from luce.loss.native import (
        class_sums,
        divergence,
        hessian,
        hessian_product,
        moments,
        probabilities,
        value_and_gradient,
    )
    from luce.loss.squares import class_curvature, class_variances, gram

__all__ = [
    "class_curvature",
    "class_grams",
    "class_sums",
    "class_variances",
    "divergence",
    "gram",
    "hessian",
    "hessian_product",
    "moments",
    "probabilities",
    "value_and_gradient",
]
