r"""Approximate leave-one-out: the scores of each sample by a fit that has not seen it, from one fit to all.

One Newton step from the whole fit towards the fit without sample i, whose objective there has the gradient
``-a_i x_i (p_i - y_i)`` and the Hessian ``H - a_i W_i (x) x_i x_i^T``, moves the sample's own scores by

    a_i K_i (I - a_i W_i K_i)^{-1} (p_i - y_i),     W_i = diag(p_i) - p_i p_i^T,

with a_i its weight over the sum of all and K_i (C, C) the block ``x_i^T H^{-1} x_i`` of the inverse Hessian
(Woodbury; Cook & Weisberg, 1982, for least squares). C, and so the penalty, is that of the whole fit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

import numpy as np
import scipy.sparse as sp
from scipy.special import softmax

from luce.loss.inputs import Array
from luce.objective import Objective
from luce.problem import Problem
from luce.solvers.conjugate import Inverse
from luce.solvers.curvature import Product
from luce.solvers.factor import Factor

Tiles: TypeAlias = Iterator[tuple[slice, Array]]

_SMALL = 2000  # parameters up to which the whole Hessian is factored
_WORK = 2e11  # multiplications up to which it is computed
_PROBES = 5
_MAX_PRODUCTS = 60
_TILE = 1 << 22  # numbers in a tile


def left_out_scores(problem: Problem, objective: Objective, theta: Array) -> Array:
    """Return the scores (N, C) of every sample by the fit without it, approximately.

    The Hessian is factored whole where there are few parameters. For more, the mean class curvature times the
    covariance of the features stands for it, as in :class:`luce.solvers.curvature.Product`; it is blind to
    single samples, so that it is taken for the Hessian without the sample as well: the step is ``a_i K_i
    (p_i - y_i)``. :func:`step_error` says how far that is off.
    """
    objective = objective.in_dtype(np.float64)
    shifts = _exactly if is_exact(objective) else _by_product
    Z = np.empty((problem.data.n_samples, problem.data.n_classes))
    for rows, scores in shifts(problem, objective, theta, _shares(problem)):
        Z[rows] = scores
    return Z


def step_error(problem: Problem, objective: Objective, theta: Array, left_out: Array) -> float:
    """Return the relative error of the approximate Newton steps, root mean square over a few samples.

    The samples are drawn in proportion to how far leaving them out moves their scores; their steps are solved
    for by conjugate gradients. It is 0 where the Hessian is factored whole.
    """
    objective = objective.in_dtype(np.float64)
    if is_exact(objective):
        return 0.0
    whole = np.vstack([X @ theta for _, X in _tiles(problem, len(theta))])
    shift = _centred(left_out - whole)
    size = np.linalg.norm(shift, axis=1)
    if not size.any():
        return 0.0
    drawn = np.random.default_rng(0).choice(len(size), _PROBES, p=size / size.sum())
    inverse = Product.of(problem.base).inverse(objective, objective.class_curvature(theta))
    errors = []
    for i in drawn:
        [(_, x)] = _tiles(problem, 1, slice(i, i + 1))
        P, R = _residual(problem, slice(i, i + 1), x @ theta)
        a = _shares(problem)[i]

        def product(step: Array, x: Array = x[0], p: Array = P[0], a: float = a) -> Array:
            u = x @ step
            return objective.hessian_product(theta, step) - np.outer(x, a * p * (u - p @ u))

        step = _solve(product, inverse, np.outer(x[0], a * R[0]))
        errors.append(np.linalg.norm(_centred(x @ step) - shift[i]) / np.linalg.norm(_centred(x @ step)))
    return float(np.sqrt(np.mean(np.square(errors))))


def _solve(product: Callable[[Array], Array], inverse: Inverse, target: Array) -> Array:
    """Solve by preconditioned conjugate gradients, to a thousandth of the energy."""
    x, residual = np.zeros_like(target), target.copy()
    z = inverse(residual)
    along, rz = z, float(np.vdot(residual, z))
    enough = 1e-3 * rz
    for _ in range(_MAX_PRODUCTS):
        moved = product(along)
        length = rz / float(np.vdot(along, moved))
        x += length * along
        residual -= length * moved
        z = inverse(residual)
        rz, last = float(np.vdot(residual, z)), rz
        if not rz > enough:
            break
        along = z + (rz / last) * along
    return x


def _centred(Z: Array) -> Array:
    return np.asarray(Z - Z.mean(axis=1, keepdims=True))  # what all classes share means nothing


def _shares(problem: Problem) -> Array:
    """Return each sample's weight over the sum of all."""
    data = problem.data
    weight = np.ones(data.n_samples) if data.weight is None else data.weight
    return np.asarray(weight / data.total_weight)


def is_exact(objective: Objective) -> bool:
    """Whether the Hessian is factored whole."""
    size = int(np.prod(objective.shape))
    return size <= _SMALL and objective.data.n_samples * float(size) ** 2 <= _WORK


def _tiles(problem: Problem, width: int, part: slice = slice(None)) -> Tiles:
    """Yield samples as dense float64 rows, with the ones of the intercept, and where they are."""
    data = problem.data
    height = max(1, _TILE // width)
    start, stop, _ = part.indices(data.n_samples)
    for first in range(start, stop, height):
        rows = slice(first, min(first + height, stop))
        sparse = sp.issparse(data.X)
        tile = np.asarray(data.X[rows].toarray() if sparse else data.X[rows], dtype=np.float64)
        if problem.base.fit_intercept:
            tile = np.hstack([tile, np.ones((len(tile), 1))])
        yield rows, tile


def _residual(problem: Problem, rows: slice, Z: Array) -> tuple[Array, Array]:
    """Return p and p - y."""
    P = softmax(Z, axis=1)
    R = P.copy()
    R[np.arange(len(P)), problem.data.y[rows]] -= 1.0
    return P, R


def _exactly(problem: Problem, objective: Objective, theta: Array, scale: Array) -> Tiles:
    inverse = Factor(objective, theta).inverse()
    size, C = theta.shape
    for rows, X in _tiles(problem, size + 3 * C * C):
        Z = X @ theta
        P, R = _residual(problem, rows, Z)
        K = np.empty((len(X), C, C))
        for j in range(C):
            for k in range(j + 1):
                K[:, j, k] = K[:, k, j] = np.einsum("id,id->i", X @ inverse[j, :, k], X)
        K *= scale[rows, None, None]
        WK = P[:, :, None] * (K - np.einsum("ij,ijk->ik", P, K)[:, None])
        yield rows, Z + (K @ np.linalg.solve(np.eye(C) - WK, R[:, :, None]))[:, :, 0]


def _by_product(problem: Problem, objective: Objective, theta: Array, scale: Array) -> Tiles:
    product, A = Product.of(problem.base), objective.class_curvature(theta)
    size, C = theta.shape
    for rows, X in _tiles(problem, 2 * size + 4 * C):
        Z = X @ theta
        _, R = _residual(problem, rows, Z)
        basis, s = product.sample_blocks(objective, A, X[:, : problem.data.n_features])
        yield rows, Z + ((R @ basis) * s * scale[rows, None]) @ basis.T
