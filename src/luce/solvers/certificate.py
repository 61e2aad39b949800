r"""How far a fit can be from the optimum: a proven bound, valid in floating point.

With R(W) the penalty, R* its convex conjugate and q_i any distribution over the classes for each sample i,

    F(theta) - F*  <=  mean KL(q_i || p_i)  +  [ R(W) + R*(-G) + <W, G> ],    G = mean x_i (q_i - y_i)^T,

as long as mean (q_i - y_i) = 0 where there is an intercept (Fenchel duality; p are the probabilities at
theta). For q = p and R = reg/2 ||W||^2 it is ``||gradient||^2 / (2 reg)``, which is loose by the ratio of the
curvature to reg. Moved to first order along a near-Newton direction d, ``q = p * (1 + u - p . u)`` with
``u = x d`` (cut at 0, and divided by its sum), the bound is close to the true gap and costs one pass more.

The bracket is at least zero, and all that rounding can do to it is added to it, so what is returned stays
above the truth.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from luce.arrays import (
    add_times,
    astype,
    beside,
    copy_as,
    dot,
    empty_like,
    namespace,
    on_host,
    parts,
    plus_times,
)
from luce.loss.inputs import Array
from luce.objective import Objective
from luce.solvers.conjugate import Inverse, conjugate
from luce.solvers.factor import Factor

_EPS = float(np.finfo(np.float64).eps)
_CHUNK = 1 << 18  # numbers at a time, which stay in the cache
_ENOUGH = 0.5  # of the target, to second order: the rest is left to what that leaves out
MANY_CLASSES = 2048  # from here on their curvature, a matrix, costs too much


@dataclass(frozen=True)
class Certificate:
    """The value of the objective at a point, and a proven bound on how far above the optimum it is.

    The direction is the one that the bound was proven along: a step along it nearly always leads on down.
    """

    value: float
    gap: float
    direction: Array | None = None


def certify(
    objective: Objective,
    theta: Array,
    direction: Array | None = None,
    inverse: Inverse | None = None,
    target: float = 0.0,
    most_products: int = 40,
    residual: Array | None = None,
) -> Certificate:
    """Bound F(theta) - F* from the dual point near theta, moved along a direction where one is given.

    Parameters
    ----------
    objective : Objective
        What is proven is computed in float64, whatever its dtype; a better direction is sought in its dtype.
    theta : array
    direction : array, optional
        An approximate Newton direction at theta; any will do, a better one gives a tighter bound.
    inverse : callable, optional
        An approximate inverse Hessian; with it, the direction is improved until it proves the target.
    target : float
        The relative gap that is hoped for: no more passes are spent than it needs.
    most_products : int
        How many Hessian products may be spent on a better direction.
    residual : array, optional
        The gradient plus the Hessian times the direction, about, if it is known: it saves a product.

    Returns
    -------
    Certificate
    """
    narrow, objective = objective, objective.in_dtype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):  # far from the optimum a bound may well be infinite
        value, gradient = objective.value_and_gradient(theta)
        loss = value - objective.smooth_penalty(theta)
        rough = objective.rough_penalty(theta)
        if not (np.isfinite(value) and _finite(gradient)):
            return Certificate(value + rough, np.inf)
        noise = _Noise(objective, theta, loss)
        pull = _without_penalty(objective, gradient, theta)
        gap = _gap(objective, theta, loss, pull, 0.0, noise)
        del gradient  # these can be the largest arrays of a fit
        goal = target * (value + rough)
        used = None
        if gap > goal and direction is not None and _finite(direction):
            hoped, excess = np.inf, None
            for arithmetic in (narrow, objective):
                if inverse is not None and objective.reg > 0 and objective.l1 == 0:
                    direction, hoped, excess = _improve(
                        arithmetic, theta, pull, direction, residual, inverse, goal, most_products
                    )
                reached, used = _along(objective, theta, loss, pull, direction, noise, goal, excess)
                gap = _least(gap, reached)
                if gap <= goal or hoped > goal or arithmetic.dtype == np.float64:
                    break
                direction, residual = used, None  # good but for rounding
        # neither the loss nor the penalty is ever negative
        return Certificate(value + rough, _least(gap, value + rough + noise.of_value), used)


def carry(objective: Objective, certificate: Certificate, theta: Array) -> Certificate:
    """Bound F - F* at another point by the optimum's lower bound that a certificate implies: half a pass."""
    objective = objective.in_dtype(np.float64)
    smooth = objective.value(theta)
    value = smooth + objective.rough_penalty(theta)
    noise = _Noise(objective, theta, smooth - objective.smooth_penalty(theta))
    rounding = 2 * noise.of_value + 8 * _EPS * abs(certificate.value)
    gap = value - (certificate.value - certificate.gap) + rounding
    return Certificate(value, gap if np.isfinite(gap) else np.inf)


def _finite(array: Array) -> bool:
    xp = namespace(array)
    return bool(xp.all(xp.isfinite(array)))


def _least(gap: float, ceiling: float) -> float:
    return gap if gap < ceiling else ceiling  # also where gap is NaN


def expect(
    objective: Objective, theta: Array, value: float, gradient: Array, direction: Array, product: Array
) -> float:
    """Return what :func:`certify` will prove along a direction, to second order: it costs no pass.

    `value` and `gradient` are those of the smooth part, `product` is its Hessian times the direction.
    """
    loss = value - objective.smooth_penalty(theta)
    pull = _without_penalty(objective, product, direction)
    divergence = 0.5 * dot(direction, pull)
    moved = _without_penalty(objective, gradient, theta) + pull
    noise = _Noise(objective, theta, loss).moved(direction)
    return _gap(objective, theta, loss, moved, divergence, noise)


def _improve(
    objective: Objective,
    theta: Array,
    pull: Array,
    direction: Array,
    residual: Array | None,
    inverse: Inverse,
    target: float,
    most_products: int,
) -> tuple[Array, float, Array | None]:
    """Return a direction with a better bound, by preconditioned conjugate gradients, and about that bound.

    The third is about mean (q - y), if there is an intercept.

    `pull` is the loss's part of the gradient g, `residual` about g + H d, if it is known. To second order the
    bound of a direction d is ``d.H0 d / 2 + ||g + H0 d||^2 / (2 reg)``, H0 the part of the loss in the
    Hessian. It swings along the iterates of conjugate gradients; the combination with the best so far that
    minimises it (minimal residual smoothing; Zhou & Walker, 1994) does not, and costs no product. All is done
    in the dtype of the objective: whatever comes of it is a direction.
    """
    reg, D, dtype = objective.reg, objective.data.n_features, objective.dtype
    gradient = plus_times(pull, reg, theta, dtype)
    gradient[D:] = astype(pull[D:], dtype)  # the intercept is not penalised
    direction = astype(direction, dtype)
    product_with = objective.products_at(theta)
    if residual is None:
        moved = product_with(direction)
        residual = plus_times(gradient, 1.0, moved, dtype)
    else:
        residual = astype(residual, dtype)
        moved = plus_times(residual, -1.0, gradient, dtype)
    add_times(moved[:D], -reg, direction[:D])  # H0 d
    left = settled(objective, plus_times(gradient, 1.0, moved, dtype))  # of the best direction so far
    best, best_moved = direction, moved

    def changes() -> Iterator[tuple[slice, Array, Array, Array]]:
        """Yield some features at a time, with what the direction, H0 d and what is left of it differ by."""
        last = moved[D:] - best_moved[D:]
        for part in parts(direction):
            change = moved[part] - best_moved[part]
            over = change[: max(0, D - part.start)]
            if objective.fit_intercept:
                over = over - astype(objective.moments()[0][part], dtype)[:, None] * last
            yield part, direction[part] - best[part], change, over

    def reached() -> float:
        return 0.5 * dot(best, best_moved) + dot(left, left) / (2 * reg)

    def enough(direction: Array, residual: Array) -> bool:
        sure = -0.5 * (dot(direction, gradient) + dot(direction, residual))  # the gap is no less
        return reached() <= max(_ENOUGH * target, 1.1 * sure) or sure > target

    steps = None
    while not enough(direction, residual) and most_products > 0:
        if steps is None:  # from here on the best stays behind
            direction, residual, moved = copy_as(direction), copy_as(residual), copy_as(moved)
            steps = conjugate(product_with, direction, residual, inverse)
        most_products -= 1
        step = next(steps, None)
        if step is None:
            break
        product = step.product
        add_times(product[:D], -reg, step.along[:D])
        add_times(moved, step.size, product)
        del product, step
        square = slope = 0.0
        for part, delta, change, over in changes():
            square += dot(delta, change) + dot(over, over) / reg
            slope += dot(best[part], change) + dot(over, left[part]) / reg
        if square > 0:
            share = -slope / square
            for part, delta, change, over in changes():
                best[part] += share * delta
                best_moved[part] += share * change
                left[part] += share * over
    return best, reached(), (gradient[-1] + best_moved[-1] if objective.fit_intercept else None)


def settled(objective: Objective, residual: Array) -> Array:
    """Return about what is left of a residual (D', C) in the weights once the intercept is settled."""
    left: Array = residual[: objective.data.n_features]
    if objective.fit_intercept:
        xp, weights = namespace(residual), left
        mean = xp.astype(objective.moments()[0], residual.dtype)
        left = empty_like(weights)
        for part in parts(weights):
            left[part] = weights[part] - mean[part, None] @ residual[-1:]
    return left


def _along(
    objective: Objective,
    theta: Array,
    loss: float,
    pull: Array,
    direction: Array,
    noise: _Noise,
    goal: float,
    excess: Array | None,
) -> tuple[float, Array]:
    """Return the bound for q moved along a direction, and that direction, with its intercept settled.

    The intercept moves until mean (q - y) = 0, or the bound is good enough, or no longer halves. It moves at
    once where `excess`, about what the mean is, is known and would cost too much.
    """
    gap, best, settle = np.inf, None, None
    direction = copy_as(direction, np.float64)
    if excess is not None and _unsettled(objective, on_host(excess)) > 0.1 * goal:
        settle = _settling(objective, theta)
        direction[-1] -= beside(settle(on_host(excess)), direction)
    while True:
        divergence, moved = objective.divergence(theta, direction)
        moved += pull
        reached = _gap(objective, theta, loss, moved, divergence, noise.moved(direction))
        halved = reached < 0.5 * gap
        if reached < gap or best is None:
            gap, best = reached, on_host(direction[-1]).copy()
        if gap <= goal or not halved or not objective.fit_intercept:
            direction[-1] = beside(best, direction)
            return gap, direction
        if settle is None:
            settle = _settling(objective, theta)
        direction[-1] -= beside(settle(on_host(moved[-1])), direction)


def _unsettled(objective: Objective, excess: Array) -> float:
    """Return about what :func:`_balance` will add to a bound where mean (q - y) is `excess`."""
    largest = float((excess / on_host(objective.class_means()[1])).max())  # the share of q that is replaced
    return largest**2 * float(objective.moments()[1].sum()) / (2 * objective.reg)


def _settling(objective: Objective, theta: Array) -> Callable[[Array], Array]:
    """Return the intercept's step against a gradient: Newton's, or nearly so with very many classes."""
    if objective.data.n_classes >= MANY_CLASSES:
        variances = np.maximum(on_host(objective.class_variances(theta)), np.finfo(float).tiny)
        return lambda excess: excess / variances
    A = on_host(objective.class_curvature(theta))
    inverse = np.linalg.pinv(A, rcond=1e-13, hermitian=True)
    return lambda excess: inverse @ excess


def _without_penalty(objective: Objective, gradient: Array, theta: Array) -> Array:
    return objective.penalised(gradient, theta, -objective.reg)


class _Noise:
    """What rounding may have done to sums over the data.

    The dual point q is whatever distribution was computed, so errors of scores come in through its divergence
    from the true p alone, squared; its G carries those of products and sums, not those of scores.
    """

    def __init__(self, objective: Objective, theta: Array, loss: float) -> None:
        self._objective = objective
        unit = (16 + np.sqrt(objective.data.n_features)) * _EPS
        summed = (16 + np.sqrt(objective.data.n_samples)) * _EPS
        unsettled = min(1.0, 2 * max(loss, 0.0))  # bounds mean |p - y|, and mean p (1 - p)
        self.scale = np.sqrt(on_host(objective.moments()[1]))  # root mean square of each feature
        scores = self._spread(theta)
        self.of_value = (
            unit * (1.0 + scores * unsettled) + summed * unsettled
        )  # and of the gradient's x (p - y)
        self.of_probabilities = unit * (1.0 + scores)  # relative, in each sample
        self.of_means = 4 * _EPS + summed * unsettled  # of the mean q, whose entries sum to 1 within rounding
        self.of_gradients = (4 * _EPS + summed * np.sqrt(unsettled)) * self.scale

    def _spread(self, theta: Array) -> float:
        xp = namespace(theta)
        size = on_host(
            xp.maximum(xp.max(theta, axis=1), -xp.min(theta, axis=1))
        )  # of the weights of a feature
        intercept = size[-1] if self._objective.fit_intercept else 0.0
        return float(self.scale @ self._objective.weights(size) + intercept)

    def moved(self, direction: Array) -> _Noise:
        """Return the noise with q moved along a direction."""
        more = 1.0 + self._spread(direction)
        noise = copy.copy(self)
        noise.of_means = more * self.of_means
        noise.of_gradients = more * self.of_gradients
        return noise


def _gap(
    objective: Objective,
    theta: Array,
    loss: float,
    gradient: Array,
    divergence: float,
    noise: _Noise,
) -> float:
    """Return the bound for a dual point of this divergence from p, gradient the mean of [x, 1] (q - y)."""
    xp = namespace(gradient)
    reg, l1, C = objective.reg, objective.l1, objective.data.n_classes
    error = noise.of_gradients
    divergence = np.square(np.sqrt(max(divergence, 0.0)) + 2 * noise.of_probabilities)
    mix = 0.0
    if objective.fit_intercept:
        mix, t, distance = _balance(objective, theta, loss, on_host(gradient[-1]), noise.of_means)
        divergence = (1 - mix) * divergence + mix * distance

    def parts() -> Iterator[tuple[slice, Array, Array]]:
        """Yield some features at a time, with W and G, the gradient that q has once it is mended."""
        rows = max(1, _CHUNK // C)
        for at in range(0, objective.data.n_features, rows):
            part = slice(at, min(at + rows, objective.data.n_features))
            G = (1 - mix) * gradient[part]
            if mix > 0.0:  # q = t everywhere would have the mean of x (t - y)
                G -= mix * objective.class_means()[0][part]
                G += objective.moments()[0][part, None] * beside(mix * t, G)
            yield part, theta[part], G

    bracket = 0.0
    if reg > 0:
        # R*(-G) is taken at V; what R(W) + R*(-G) + <W, G> comes to, without differences of large numbers
        squares = 0.0
        for part, W, G in parts():
            V = -G / reg if l1 == 0 else -xp.sign(G) * xp.clip(xp.abs(G) - l1, 0.0, None) / reg
            squares += dot(W - V, W - V)
            bracket += _corners(l1, W, reg * V + G, error[part])
        away = np.sqrt(squares) + float(np.linalg.norm(error)) * np.sqrt(C) / reg
        bracket += 0.5 * reg * np.square(away)
    else:
        # R* is infinite where |G| > l1. The labels' own G is zero: mixing q with them brings G into bounds
        largest = (on_host(xp.max(xp.abs(G), axis=1)) + error[part] for part, _, G in parts())
        most = max((float(found.max()) for found in largest), default=0.0)
        mixed = max(0.0, 1.0 - l1 / most) if most > 0 else 0.0
        divergence = (1 - mixed) * divergence + mixed * loss
        bracket = sum(_corners(l1, W, (1 - mixed) * G, error[part]) for part, W, G in parts())
    return float(divergence + bracket)


def _corners(l1: float, W: Array, residual: Array, error: Array) -> float:
    """Return what the absolute penalty adds to the bracket for some features."""
    if l1 == 0:
        return 0.0
    xp = namespace(W)
    most = float(xp.sum(xp.clip(l1 * xp.abs(W) + W * residual, 0.0, None)))
    return most + float(on_host(xp.sum(xp.abs(W), axis=1)) @ error)


def _balance(
    objective: Objective, theta: Array, loss: float, excess: Array, relative: float
) -> tuple[float, Array, float]:
    """Mend mean(q - y) = 0 exactly, by mixing every q_i with one and the same distribution t.

    Returns the share of t, which is none where nothing needs mending, t, and its mean KL(t || p_i).
    """
    mean_xt, prior = objective.class_means()
    prior = on_host(prior)
    surplus = excess + relative  # of mean q over the prior, with all that rounding may have hidden
    mix = float(np.clip((surplus / (prior + surplus)).max(), 0.0, 1.0))
    if mix == 0.0:
        return 0.0, prior, 0.0
    t = np.maximum(prior - (1 - mix) * (prior + excess), 0.0)
    t /= t.sum()
    W, b = objective.weights(theta), on_host(theta[-1])
    mean_logsumexp = loss + dot(mean_xt, W) + float(prior @ b)
    mean_log_p = on_host(objective.moments()[0] @ W) + b - mean_logsumexp
    distance = float(np.sum(t * np.log(t, where=t > 0, out=np.zeros_like(t))) - t @ mean_log_p)
    return mix, t, max(distance, 0.0)


def certify_locally(objective: Objective, theta: Array) -> Certificate:
    """Bound F(theta) - F* from the curvature at theta, for small problems with little penalty or none.

    The loss is generalised self-concordant: along a step whose scores differ by at most r between the classes
    of any sample, the Hessian falls by no more than exp(-r) (Bach, 2010). With the Newton decrement
    ``lambda = ||g||`` in the metric of the inverse Hessian, c the largest such norm of a difference of two
    classes' scores, and ``t = c lambda < 1``, that gives ``F - F* <= ((1 - t) log(1 - t) + t) / c^2``,
    which is ``lambda^2 / 2`` for small t. Otherwise all that is known is that no loss is negative.
    """
    theta = on_host(theta)
    objective = objective.in_dtype(np.float64).beside(theta)
    value, gradient = objective.value_and_gradient(theta)
    noise = _Noise(objective, theta, value - objective.smooth_penalty(theta))
    known = Certificate(value, value + noise.of_value)
    factor = Factor(objective, theta)
    if not factor.exact:
        return known
    error = noise.of_value * noise.scale
    error = np.append(error, noise.of_value) if objective.fit_intercept else error
    variance = factor.inverse_diagonal()
    decrement = np.sqrt(max(float(np.vdot(gradient, factor.solve(gradient))), 0.0))
    decrement += float((np.sqrt(variance) @ error).sum())
    # max_i x_i' M x_i is at most the sum over i, which the second moments and Cauchy-Schwarz bound
    second = objective.moments()[1]
    second = np.append(second, 1.0) if objective.fit_intercept else second
    most = float(np.square(np.sqrt(variance * second).sum(axis=1)).max())
    c = 2.0 * np.sqrt(most * objective.data.total_weight / objective.data.least_weight)
    t = c * decrement
    if not t < 1.0:
        return known
    bound = decrement**2 / 2 if t < 1e-5 else ((1 - t) * np.log1p(-t) + t) / c**2
    return Certificate(value, _least(float(bound * (1 + t)), known.gap))
