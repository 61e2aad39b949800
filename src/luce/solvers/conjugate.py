"""Conjugate gradients for the Newton system, from an approximate inverse of the Hessian."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeAlias

from luce.arrays import add_times, astype, combine, dot
from luce.loss.inputs import Array

Inverse: TypeAlias = Callable[[Array], Array]


class Step(NamedTuple):
    """One step of conjugate gradients, along a direction whose product with the Hessian is known."""

    size: float
    along: Array
    product: Array  # free to be changed
    decrease: float  # of the quadratic model


def conjugate(
    product_with: Callable[[Array], Array], direction: Array, residual: Array, inverse: Inverse
) -> Iterator[Step]:
    """Take steps towards the d with ``H d = -gradient``, and yield each; end where rounding ends them.

    Both `direction` d and `residual`, which is the gradient plus H d, are changed in place; a step takes one
    product with H, and all is in the dtype of these two.
    """
    along: Array | None = None
    before = 1.0
    while True:
        z = astype(inverse(residual), residual.dtype)
        square = dot(residual, z)
        if not square > 0:
            return
        along = -z if along is None else combine(along, [square / before, -1.0], [along, z])
        before = square
        del z  # these can be the largest arrays of a fit
        product = product_with(along)
        curvature = dot(along, product)
        if not curvature > 0:
            return
        size = square / curvature
        add_times(direction, size, along)
        add_times(residual, size, product)
        yield Step(size, along, product, 0.5 * size * square)
        del product
