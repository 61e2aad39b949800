"""The solvers against each other and against dense linear algebra; the loop around them."""

import itertools

import numpy as np
import pytest
import scipy.sparse as sp

from luce import arrays
from luce.errors import InputError
from luce.estimator import chosen_solver
from luce.loss import memory, passes
from luce.objective import InMemory, Objective
from luce.solvers import LBFGS, Newton, NewtonCG, minimize
from luce.solvers.certificate import certify
from luce.solvers.curvature import Blocks, Product, Whole
from luce.solvers.driver import State
from luce.solvers.factor import Factor
from luce.solvers.history import History
from luce.solvers.linesearch import Point, search


def problem(seed=0, n=200, d=6, c=4, *, reg=1e-2, scale=1.0, weights=False, sparse=False, **options):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d)) * np.geomspace(1, scale, d)
    y = (X / np.geomspace(1, scale, d) @ rng.standard_normal((d, c)) + rng.gumbel(size=(n, c))).argmax(axis=1)
    weight = rng.exponential(size=n) if weights else None
    return Objective(InMemory(sp.csr_array(X) if sparse else X, y, c, weight), reg, **options)


def dense_hessian(objective, theta):
    """The Hessian column by column from its products, ordered like Factor's."""
    columns = []
    for j in range(theta.size):
        unit = np.zeros(theta.size)
        unit[j] = 1.0
        direction = unit.reshape(theta.shape[::-1]).T
        columns.append(objective.hessian_product(theta, direction).T.ravel())
    return np.array(columns).T


@pytest.mark.parametrize("options", [{}, {"fit_intercept": False}, {"weights": True}, {"sparse": True}])
@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_all_exact_solvers_find_the_same_optimum(options, scale):
    objective = problem(scale=scale, **options)
    fits = [
        minimize(objective, solver, np.zeros(objective.shape), tol=1e-9, max_iter=500)
        for solver in (Newton(), LBFGS(), NewtonCG())
    ]
    assert [fit.status for fit in fits] == ["converged"] * 3
    scores = [objective.data.X @ objective.weights(fit.theta) for fit in fits]
    for other in (1, 2):
        assert abs(fits[0].value - fits[other].value) <= fits[0].gap + fits[other].gap
        # a gap of 1e-9 leaves scores uncertain by its square root
        np.testing.assert_allclose(scores[0], scores[other], atol=3e-3)


def test_hessian_is_the_derivative_of_the_gradient():
    objective = problem(weights=True)
    theta = np.random.default_rng(1).standard_normal(objective.shape)
    direction = np.random.default_rng(2).standard_normal(objective.shape)
    h = 1e-5
    difference = (
        objective.value_and_gradient(theta + h * direction)[1]
        - objective.value_and_gradient(theta - h * direction)[1]
    ) / (2 * h)
    np.testing.assert_allclose(objective.hessian_product(theta, direction), difference, atol=1e-9)
    np.testing.assert_allclose(objective.hessian(theta), dense_hessian(objective, theta), atol=1e-12)


@pytest.mark.parametrize("reg", [1e-2, 0.0])
def test_factor_solves_the_newton_system(reg):
    objective = problem(reg=reg)
    theta = 0.3 * np.random.default_rng(1).standard_normal(objective.shape)
    if reg:
        theta -= theta.mean(axis=1, keepdims=True)
    _, gradient = objective.value_and_gradient(theta)
    step = Factor(objective, theta).solve(gradient)
    np.testing.assert_allclose(objective.hessian_product(theta, step), gradient, atol=1e-12)


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_product_of_curvatures_is_exact_where_all_samples_have_the_same_probabilities(fit_intercept, whole):
    objective = problem(fit_intercept=fit_intercept)
    theta = np.zeros(objective.shape)
    if fit_intercept:
        theta[-1] = np.log([0.1, 0.2, 0.3, 0.4])
    A = objective.class_curvature(theta) if whole else objective.class_variances(theta)
    inverse = Product.of(objective).inverse(objective, A)
    step = np.random.default_rng(3).standard_normal(objective.shape)
    step -= step.mean(axis=1, keepdims=True)
    found = inverse(objective.hessian_product(theta, step))
    found -= found.mean(axis=1, keepdims=True)  # what all classes share is flat, and nobody's business
    np.testing.assert_allclose(found, step, atol=1e-9)


def test_blocks_are_the_blocks_of_the_hessian():
    objective = problem(n=50)
    theta = 0.5 * np.random.default_rng(1).standard_normal(objective.shape)
    H = objective.hessian(theta).reshape(4, 7, 4, 7)
    grams = objective.class_grams(theta, np.zeros(4))  # nothing is rare enough to be drawn
    grams[:, np.arange(6), np.arange(6)] += objective.reg
    for k in range(4):
        np.testing.assert_allclose(grams[k], H[k, :, k], atol=1e-12)


def test_grams_of_pairs_are_what_ties_the_blocks_of_the_hessian():
    objective = problem(n=50)
    theta = 0.5 * np.random.default_rng(1).standard_normal(objective.shape)
    H = objective.hessian(theta).reshape(4, 7, 4, 7)
    pairs = np.triu_indices(4, 1)
    grams = objective.class_grams(theta, np.zeros(6), pairs=pairs)
    for j, k, gram in zip(*pairs, grams, strict=True):
        np.testing.assert_allclose(-gram, H[j, :, k], atol=1e-12)


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("scale", [1.0, 1e-12, 1e25])
def test_the_whole_inverse_is_that_of_the_hessian(fit_intercept, scale, monkeypatch):
    monkeypatch.setattr("luce.solvers.curvature._ROWS_PER_FEATURE", 1e9)  # nothing is left to chance
    monkeypatch.setattr("luce.solvers.curvature._SHARE", 0.0)
    objective = problem(n=200, fit_intercept=fit_intercept)
    objective.data.X = objective.data.X * scale + 3.0 * scale
    objective = Objective(objective.data, objective.reg * scale**2, fit_intercept=fit_intercept)
    rng = np.random.default_rng(1)
    theta, step = (rng.standard_normal(objective.shape) for _ in range(2))
    objective.weights(theta)[...] *= 0.5 / scale
    step -= step.mean(axis=1, keepdims=True)
    objective.weights(step)[...] /= scale
    whole = Whole(objective, theta, objective.class_curvature(theta))
    found = whole.inverse(objective.hessian_product(theta, step))
    found -= found.mean(axis=1, keepdims=True)
    objective.weights(found)[...] *= scale
    objective.weights(step)[...] *= scale
    np.testing.assert_allclose(found, step, atol=1e-3)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_long_fit_looks_at_the_whole_hessian(dtype, monkeypatch):
    made = []

    class Seen(Whole):
        def __init__(self, *given):
            made.append(given)
            super().__init__(*given)

        @staticmethod
        def cost(objective):
            return 10

    monkeypatch.setattr("luce.solvers.lbfgs.Whole", Seen)
    objective = problem(n=2000, d=30, c=8, reg=1e-7).in_dtype(dtype)
    fit = minimize(objective, LBFGS(), np.zeros(objective.shape), tol=1e-6, max_iter=500)
    assert fit.status == "converged" and made


def test_rows_drawn_for_a_block_are_right_on_average():
    rng = np.random.default_rng(0)
    X, W = rng.standard_normal((200_000, 3)), rng.standard_normal((3, 4))
    everything = passes.class_grams(W, None, np.zeros(4), X, None)
    drawn = passes.class_grams(W, None, np.full(4, 0.5), X, None)
    # about 50,000 rows a class are drawn: a relative error of one over the root of that, twice for the spread
    np.testing.assert_allclose(drawn, everything, atol=0.02 * np.abs(everything).max())


def test_blocks_inverse_is_that_of_the_blocks_among_steps_that_sum_to_zero():
    objective = problem(n=100, d=5)
    theta = 0.5 * np.random.default_rng(1).standard_normal(objective.shape)
    blocks = Blocks(objective, theta, np.zeros((4, 4)))
    grams = objective.class_grams(theta, np.zeros(4))
    grams[:, np.arange(5), np.arange(5)] += objective.reg
    gradient = np.random.default_rng(2).standard_normal(objective.shape)
    gradient -= gradient.mean(axis=1, keepdims=True)
    # minimise sum_k v_k.H_k.v_k/2 - g_k.v_k under sum_k v_k = 0, by its optimality conditions
    n, size = 4, 6
    K = np.zeros(((n + 1) * size, (n + 1) * size))
    for k in range(n):
        at = slice(k * size, (k + 1) * size)
        K[at, at] = grams[k]
        K[at, -size:] = K[-size:, at] = np.eye(size)
    right = np.append(gradient.T.ravel(), np.zeros(size))
    expected = np.linalg.solve(K, right)[: n * size].reshape(n, size).T
    # single precision, and 1e-7 of the diagonal added
    np.testing.assert_allclose(blocks.inverse(gradient), expected, atol=2e-4 * np.abs(expected).max())


def test_far_off_means_cost_the_blocks_no_digits():
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((400, 5)), rng.integers(0, 3, 400)
    far = 10.0 ** np.arange(5)
    gradient = rng.standard_normal((6, 3))
    gradient -= gradient.mean(axis=1, keepdims=True)
    steps = []
    for offset in (np.zeros(5), far):
        objective = Objective(InMemory(X + offset, y, 3), 1e-3)
        g = gradient.copy()  # of the same function, in the parameters that see the offset
        g[:-1] += offset[:, None] * g[-1]
        step = Blocks(objective, np.zeros((6, 3)), np.zeros((3, 3))).inverse(g)
        step[-1] += offset @ step[:-1]
        steps.append(step)
    # single precision of a well conditioned inverse, not of the offsets' squares
    np.testing.assert_allclose(steps[1], steps[0], atol=1e-5 * np.abs(steps[0]).max())


def test_history_mends_its_start():
    """On a quadratic: the last pair is obeyed, and a start that is off by a factor is put right."""
    rng = np.random.default_rng(0)
    root = rng.standard_normal((12, 12))
    H = root @ root.T + np.eye(12)
    shape = (4, 3)
    pairs = History(3, np.float64)
    pairs.restart(lambda g: 7 * np.linalg.solve(H, g.ravel()).reshape(shape))
    gradient = rng.standard_normal(shape)
    for _ in range(12):
        s = rng.standard_normal(shape)
        y = (H @ s.ravel()).reshape(shape)
        pairs.add(s, y)
        assert len(pairs) <= 3
        np.testing.assert_allclose(pairs.inverse(y), s, atol=1e-9)
        np.testing.assert_allclose(pairs.inverse(gradient).ravel(), np.linalg.solve(H, gradient.ravel()))
    pairs.restart(lambda g: g)  # far from the inverse, yet each pair of a quadratic that is kept counts
    np.testing.assert_allclose(pairs.inverse(y), s, atol=1e-9)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_history_is_the_two_loops(dtype):
    """Against the recursion of Nocedal (1980), with pairs in any order of slots and some of them refused."""
    rng = np.random.default_rng(0)
    root = rng.standard_normal((60, 60))
    H = root @ root.T / 60 + 0.1 * np.eye(60)
    start = rng.uniform(0.5, 2.0, (12, 5))
    pairs = History(4, dtype)
    pairs.restart(lambda g: start * g)
    for i in range(11):
        s = (rng.standard_normal((12, 5)) * 10.0 ** rng.uniform(-2, 0)).astype(dtype)
        pairs.add(s, (H @ s.ravel()).reshape(12, 5).astype(dtype))
        pairs.add(s, -s)  # no curvature
        gradient = rng.standard_normal((12, 5))
        kept = [(s.astype(np.float64), y.astype(np.float64)) for s, y in pairs]
        assert len(kept) == min(i + 1, 4)
        scale = np.exp(np.mean([np.log(np.vdot(s, y) / np.vdot(y, start * y)) for s, y in kept]))
        q, shares = gradient.copy(), []
        for s, y in reversed(kept):
            shares.append(np.vdot(s, q) / np.vdot(s, y))
            q -= shares[-1] * y
        r = scale * start * q
        for (s, y), share in zip(kept, reversed(shares), strict=True):
            r += (share - np.vdot(y, r) / np.vdot(s, y)) * s
        if i % 3 == 0:
            continue  # the next call meets two new pairs
        tolerance = 1e-9 if dtype == np.float64 else 1e-4
        np.testing.assert_allclose(pairs.inverse(gradient), r, atol=tolerance * np.abs(r).max())


def test_line_search_doubles_and_shortens():
    objective = problem()
    start = Point(np.zeros(objective.shape), *objective.value_and_gradient(np.zeros(objective.shape)))
    for length in (1e-4, 1.0, 1e4):
        point = search(objective, start, -length * start.gradient)
        assert point.value < start.value
        slope = np.vdot(start.gradient, -start.gradient)
        assert np.vdot(point.gradient, -start.gradient) >= 0.9 * slope
    assert search(objective, start, start.gradient) is None


def test_single_precision_is_polished_in_double():
    objective = problem(scale=100.0).in_dtype(np.float32)
    fit = minimize(objective, LBFGS(), np.zeros(objective.shape), tol=1e-10, max_iter=500)
    assert fit.status == "converged"
    assert fit.gap <= 1e-10 * fit.value


def test_what_rounding_does_not_allow_is_said():
    objective = problem()
    fit = minimize(objective, Newton(), np.zeros(objective.shape), tol=0.0, max_iter=100)
    assert fit.status == "stalled"
    assert 0 < fit.gap < 1e-11 * fit.value


class Idle:
    """A solver that hopes for more but gets nowhere."""

    def init(self, objective, theta):
        return State(theta, objective.value(theta), gap=1.0)

    def step(self, objective, state):
        return state


@pytest.mark.parametrize(("dtype", "most"), [(np.float64, 25), (np.float32, 50)])  # single, then double
def test_a_fit_that_gets_nowhere_ends(dtype, most):
    objective = problem().in_dtype(dtype)
    fit = minimize(objective, Idle(), np.zeros(objective.shape), tol=1e-12, max_iter=1000)
    assert fit.status == "stalled"
    assert fit.n_iter <= most


def test_a_step_that_a_certificate_finds_is_kept():
    """Far from the optimum, the first attempts fail; what they learn must lead on."""
    objective = problem(n=2000, d=30, c=8, reg=1e-5)
    state = LBFGS().init(objective, np.zeros(objective.shape))
    for _ in range(8):
        state = LBFGS().step(objective, state)
    certificate = certify(objective, state.theta, state.direction, state.inverse, 1e-6, 10)
    moved = LBFGS().move(objective, state, state.theta + certificate.direction)
    assert moved.value < state.value
    worse = state.theta + 10.0
    worse[:, 0] -= 50.0
    assert LBFGS().move(objective, state, worse) is state


def test_callbacks_see_every_iteration_and_can_end_the_fit():
    objective = problem()
    seen = []

    def stop_at_three(progress):
        seen.append(progress)
        return progress.iteration == 3

    fit = minimize(
        objective, LBFGS(), np.zeros(objective.shape), tol=1e-12, max_iter=50, callbacks=[stop_at_three]
    )
    assert fit.status == "stopped"
    assert [p.iteration for p in seen] == [1, 2, 3, 3]
    assert [p.certified for p in seen] == [False, False, False, True]
    assert all(a.loss >= b.loss and a.passes <= b.passes for a, b in itertools.pairwise(seen))


def test_separable_without_a_penalty_ends():
    X = np.array([[0.0], [1.0], [2.0], [3.0], [4.0], [5.0]])
    for solver in (Newton(), LBFGS(), NewtonCG()):
        objective = Objective(InMemory(X, np.array([0, 0, 0, 1, 1, 1]), 2), 0.0)
        fit = minimize(objective, solver, np.zeros(objective.shape), tol=1e-4, max_iter=500)
        assert fit.status == "separable"
        assert fit.gap <= 1e-4


def test_no_penalty_and_no_separation_is_proven_by_self_concordance():
    objective = problem(reg=0.0)
    fit = minimize(objective, Newton(), np.zeros(objective.shape), tol=1e-8, max_iter=100)
    assert fit.status == "converged"


def test_an_estimate_counts_what_the_intercept_has_to_settle():
    rng = np.random.default_rng(0)
    y = rng.choice(8, 4000, p=rng.dirichlet(np.full(8, 0.5)))  # under a strong penalty the intercept is all
    objective = Objective(InMemory(rng.standard_normal((4000, 20)).astype(np.float32), y, 8), 50.0)
    theta = np.zeros(objective.shape)
    solver = LBFGS()
    best = minimize(objective, solver, theta, tol=1e-9, max_iter=100).value
    state = solver.step(objective, solver.init(objective, theta))
    while state.value - best > 1e-4 * best:
        assert state.gap > 0.02 * (state.value - best)
        state = solver.step(objective, state)


def test_a_certificate_that_single_precision_spoils_is_found_in_double():
    objective = problem(n=500, d=10, reg=1e-5)
    objective = Objective(objective.data, objective.reg, dtype=np.float32)
    solver = LBFGS()
    state = solver.init(objective, np.zeros(objective.shape))
    for _ in range(12):
        state = solver.step(objective.in_dtype(np.float64), state)
    sought = []

    class Spoilt(Objective):
        def products_at(self, theta):
            product_with = super().products_at(theta)

            def product(direction):
                sought.append(self.dtype)
                return product_with(direction) * (1 + (0.01 if self.dtype == np.float32 else 0))

            return product

    spoilt = Spoilt(objective.data, objective.reg, dtype=np.float32)
    target = 1e-6
    found = certify(spoilt, state.theta, state.direction, state.inverse, target, 60)
    assert found.gap <= target * found.value and set(sought) == {np.dtype(np.float32), np.dtype(np.float64)}


@pytest.mark.parametrize(("kind", "native"), [("numpy", True), ("numpy", False), ("torch", False)])
def test_sums_of_arrays(kind, native, monkeypatch):
    xp = pytest.importorskip(kind)
    monkeypatch.setattr(arrays, "_PART", 7)
    monkeypatch.setattr(arrays, "_PART_AWAY", 7)
    if not native:
        monkeypatch.setattr(arrays, "core", None)
    rng = np.random.default_rng(0)
    for shape in ((0, 3), (1, 1), (5, 3), (4, 20)):
        a, b = rng.standard_normal((2, *shape))
        A, B = xp.asarray(a.copy()), xp.asarray(b.astype(np.float32))
        b = b.astype(np.float32).astype(np.float64)
        np.testing.assert_array_equal(np.asarray(arrays.plus_times(A, 2.0, B, np.float64)), a + 2 * b)
        narrow = np.asarray(arrays.plus_times(A, -1.0, B, np.float32))
        np.testing.assert_array_equal(narrow, (a - b).astype(np.float32))
        assert arrays.dot(A, B) == pytest.approx(float((a * b).sum()), rel=1e-13, abs=1e-13)
        assert arrays.add_times(A, 4.0, B) is A
        np.testing.assert_array_equal(np.asarray(A), a + 4 * b)
        stack = rng.standard_normal((3, *shape))
        found = arrays.products(xp.asarray(stack), [A, B])
        want = np.einsum("knm,jnm->kj", stack, [a + 4 * b, b])
        np.testing.assert_allclose(found, want, rtol=1e-12, atol=1e-12)
        assert arrays.add_sum(A, 0.5, np.array([1.0, -2.0, 3.0]), xp.asarray(stack)) is A
        want = 0.5 * (a + 4 * b) + stack[0] - 2 * stack[1] + 3 * stack[2]
        np.testing.assert_allclose(np.asarray(A), want, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("fit_intercept", [True, False])
def test_an_estimate_is_the_same_however_the_pairs_came(fit_intercept, monkeypatch):
    monkeypatch.setattr("luce.arrays._PART", 200)
    objective = problem(fit_intercept=fit_intercept)
    theta = np.zeros(objective.shape)
    gradient = objective.value_and_gradient(theta)[1]
    rng = np.random.default_rng(0)
    grown = History(5, np.float64)
    for i in range(12):
        step = rng.standard_normal(objective.shape) * 10.0 ** rng.uniform(-3, 0)
        grown.add(step, objective.value_and_gradient(theta + step)[1] - gradient)
        if i % 3 == 1:
            continue  # two pairs are new to the next estimate
        fresh = History(5, np.float64)
        for s, y in grown:
            fresh.add(s, y)
        assert len(fresh) == len(grown) == min(i + 1, 5)
        bound, direction = grown.estimate(objective, gradient)
        again, same = fresh.estimate(objective, gradient)
        assert bound == pytest.approx(again, rel=1e-9)
        np.testing.assert_allclose(direction, same, rtol=1e-6, atol=1e-9 * abs(same).max())


def test_memory_is_used_again_but_never_twice_at_once():
    def filled(value):
        array = memory.empty((1 << 18,), np.float64)
        array[...] = value
        return array

    with memory.recycling():
        views = [filled(k)[k:] for k in range(6)]  # what holds an array may be a view of it
        for k, view in enumerate(views):
            assert (view == k).all() and (view.ctypes.data - 8 * k) % 64 == 0
        first = views[0].ctypes.data
        del views[0], view
        assert filled(7).ctypes.data == first
        assert (memory.zeros((1 << 18,), np.float64) == 0).all()
        kept = filled(8)
    assert (kept == 8).all()
    del kept
    assert not memory._spare.free and memory._spare.depth == 0


def text(n=400, d=900, c=5, dtype=np.float64, seed=0):
    """Few numbers for each feature, as words have, and classes that differ in them."""
    rng = np.random.default_rng(seed)
    X = sp.random_array((n, d), density=0.02, rng=rng, format="csr", dtype=dtype)
    y = (X @ rng.standard_normal((d, c)) + rng.gumbel(size=(n, c))).argmax(axis=1)
    return X, y, c


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("reg", [1e-2, 1e-4, 1e-6])
def test_newton_cg_knows_its_gap(dtype, fit_intercept, reg):
    """To second order its estimate is a bound: near the optimum it is one, and not far above the truth."""
    X, y, c = text(dtype=dtype)
    objective = Objective(InMemory(X, y, c), reg, fit_intercept=fit_intercept)
    exact = objective.in_dtype(np.float64)
    best = minimize(exact, LBFGS(), np.zeros(objective.shape), tol=1e-9, max_iter=2000)
    assert best.status == "converged"
    solver, seen = NewtonCG(), 0
    state = solver.init(objective, np.zeros(objective.shape))
    for _ in range(25):
        true = exact.value(state.theta) - best.value
        assert objective.dtype == state.theta.dtype == state.direction.dtype
        if 1e-5 * best.value < true < 1e-2 * best.value:
            seen += 1
            assert 0.6 * true <= state.gap <= 20 * true
            product = exact.hessian_product(state.theta, state.direction)
            gradient = exact.value_and_gradient(state.theta)[1]
            atol = (1e-9 if dtype == np.float64 else 0.03) * np.abs(gradient).max()
            np.testing.assert_allclose(state.residual, gradient + product, rtol=0, atol=atol)
        if true < 1e-5 * best.value:
            break
        state.goal = 1e-6 * state.value
        state = solver.step(objective, state)
    assert seen and true < 1e-5 * best.value


def test_newton_cg_in_single_precision_ends_in_double():
    X, y, c = text(dtype=np.float32)
    objective = Objective(InMemory(X, y, c), 1e-4)
    best = minimize(
        objective.in_dtype(np.float64), LBFGS(), np.zeros(objective.shape), tol=1e-12, max_iter=2000
    )
    for tol in (1e-2, 1e-5, 1e-10):
        fit = minimize(objective, NewtonCG(), np.zeros(objective.shape), tol=tol, max_iter=200)
        assert fit.status == "converged"
        assert 0 < fit.gap <= tol * fit.value
        assert fit.value - best.value <= fit.gap + 1e-12


def test_text_is_fitted_by_newton_cg():
    X, y, _ = text()
    found = [chosen_solver("auto", Objective(InMemory(data, y, 5), 1e-3)) for data in (X, X.toarray())]
    assert found == [NewtonCG(), LBFGS()]
    with pytest.raises(InputError, match="NewtonCG cannot do an l1_ratio"):
        chosen_solver("newton-cg", Objective(InMemory(X, y, 5), 1e-3, l1=1e-3))


def test_a_certificate_along_a_known_residual_takes_no_product():
    X, y, c = text()
    objective = Objective(InMemory(X, y, c), 1e-3)
    solver = NewtonCG()
    state = solver.init(objective, np.zeros(objective.shape))
    while state.gap > 1e-2 * state.value:
        state = solver.step(objective, state)
    target = 3 * state.gap / state.value
    assert certify(objective, state.theta).gap > target * state.value  # without a direction
    arguments = objective, state.theta, state.direction, state.inverse, target, 40
    before = objective.n_passes
    known = certify(*arguments, state.residual)
    middle = objective.n_passes
    sought = certify(*arguments)
    assert known.gap <= target * known.value and sought.gap <= target * sought.value
    assert middle - before <= objective.n_passes - middle - 1


def test_products_at_a_point_keep_its_scores(monkeypatch):
    X, y, c = text(n=60, d=40)
    rng = np.random.default_rng(1)
    objective = Objective(InMemory(X, y, c, rng.random(60)), 1e-3)
    theta, direction = rng.standard_normal((2, *objective.shape))
    dense = Objective(InMemory(X.toarray(), y, c, objective.data.weight), 1e-3)
    want = dense.hessian_product(theta, direction)
    for most in (0, 1 << 20):
        monkeypatch.setattr("luce.objective._MOST_SCORES", most)
        product_with = objective.products_at(theta)
        for factor in (1.0, -2.0):
            np.testing.assert_allclose(product_with(factor * direction), factor * want, rtol=1e-9, atol=1e-12)
