"""The compiled passes against the pure NumPy ones in float64, and those against 50 digits."""

import itertools
import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import scipy.sparse as sp
from threadpoolctl import threadpool_info, threadpool_limits

from luce._native import core
from luce.loss import passes
from luce.loss.threads import available_threads, blas_limited, blas_quiet, in_threads, shares

native = pytest.importorskip("luce.loss.native") if core is not None else None
compiled = pytest.mark.skipif(core is None, reason="the compiled kernels are not built or switched off")

# Rounding errors of a sum grow at most with its length: some 130 features and 1500 rows here.
TOLERANCE = {np.float32: 3e-5, np.float64: 1e-12}
SHAPES = [
    (0, 3, 2),
    (1, 1, 1),
    (3, 0, 4),
    (5, 7, 1),
    (17, 33, 7),
    (64, 96, 12),
    (67, 130, 31),
    (1500, 20, 10),
    (130, 20, 200),
    (40, 3, 500),
]


def problem(shape, dtype, *, soft=False, weighted=False, seed=0):
    n, d, c = shape
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d))
    X[rng.random((n, d)) < 0.3] = 0
    W, V = rng.standard_normal((2, d, c)) / np.sqrt(d + 1)
    y = rng.dirichlet(np.ones(c), n).reshape(n, c) if soft else rng.integers(0, c, n)
    weight = rng.random(n) if weighted else None
    return X.astype(dtype), W, rng.standard_normal(c), V, rng.standard_normal(c), y, weight


def strided(X):
    wide = np.full((X.shape[0], X.shape[1] + 5), np.nan, X.dtype)
    wide[:, : X.shape[1]] = X
    return wide[:, : X.shape[1]]


def thinned_columns(X):
    """F order, every other row: neither stride is one."""
    twice = np.full((2 * X.shape[0], X.shape[1]), np.nan, X.dtype, order="F")
    twice[::2] = X
    return twice[::2]


def long_csr(X):
    X = sp.csr_array(X)
    X.indices, X.indptr = X.indices.astype(np.int64), X.indptr.astype(np.int64)
    return X


def read_only(X):
    X = X.copy()
    X.flags.writeable = False
    return X


LAYOUTS = [read_only, np.asfortranarray, strided, thinned_columns, sp.csr_array, long_csr]


def results(m, X, W, b, V, c, y, weight, smoothing, threads):
    """Every pass of module m, by name."""
    yield "value", m.value_and_gradient(W, b, X, y, weight, smoothing, threads, gradient=False)[0]
    yield from zip(
        ("loss", "dW", "db"), m.value_and_gradient(W, b, X, y, weight, smoothing, threads), strict=True
    )
    yield from zip(("HV", "Hc"), m.hessian_product(W, b, V, c, X, weight, threads), strict=True)
    yield from zip(("kl", "qW", "qc"), m.divergence(W, b, V, c, X, weight, threads), strict=True)
    yield "P", m.probabilities(W, b, X, threads)
    yield "log P", m.probabilities(W, b, X, threads, log=True)


def assert_close(name, got, want, tolerance):
    got, want = np.asarray(got), np.asarray(want)
    assert got.shape == want.shape, name
    error = np.abs(got - want).max(initial=0) / (1 + np.abs(want).max(initial=0))
    assert error <= tolerance, f"{name}: off by {error:.2g}"


@compiled
@pytest.mark.parametrize("compute", [np.float32, np.float64])
@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda f: f.__name__)
def test_every_pass_on_every_layout(layout, compute):
    options = itertools.product([np.float32, np.float64], [False, True], [False, True], [0.0, 0.1], [1, 2, 3])
    for k, (stored, soft, weighted, smoothing, threads) in enumerate(options):
        for shape in SHAPES[k % 2 :: 2]:
            X, W, b, V, c, y, weight = problem(shape, stored, soft=soft, weighted=weighted, seed=k)
            W, V = W.astype(compute), V.astype(compute)
            intercepts = (b, c) if k % 3 else (None, None)
            arguments = W, intercepts[0], V, intercepts[1], y, weight, smoothing
            exact = W.astype(float), intercepts[0], V.astype(float), intercepts[1], y, weight, smoothing
            found = results(native, layout(X), *arguments, threads)
            wanted = results(passes, X.astype(float), *exact, None)
            for (name, got), (_, want) in zip(found, wanted, strict=True):
                label = f"{name} {shape} {stored.__name__} {soft=} {weighted=} {smoothing=} {threads=}"
                assert_close(label, got, want, TOLERANCE[compute])


@compiled
@pytest.mark.parametrize("dtype", [np.int8, np.uint16, np.int32, np.uint64])
def test_labels_of_any_integer_type(dtype):
    X, W, b, _, _, y, _ = problem((50, 6, 5), np.float64)
    got = native.value_and_gradient(W, b, X, y.astype(dtype), None)
    want = passes.value_and_gradient(W, b, X, y, None)
    assert_close("dW", got[1], want[1], 1e-12)


@compiled
@pytest.mark.parametrize("compute", [np.float32, np.float64])
def test_many_threads_work_on_rows_worth_it(compute):
    """Enough work for three threads, and more rows than one tile; by BLAS too."""
    for shape in [(6001, 40, 20), (5000, 97, 15), (2500, 24, 170)]:
        X, W, b, V, c, y, weight = problem(shape, np.float32, weighted=True)
        W, V = W.astype(compute), V.astype(compute)
        exact = results(passes, X.astype(float), W.astype(float), b, V.astype(float), c, y, weight, 0.0, None)
        for (name, want), (_, got), (_, again) in zip(
            exact,
            results(native, X, W, b, V, c, y, weight, 0.0, 3),
            results(native, X, W, b, V, c, y, weight, 0.0, 3),
            strict=True,
        ):
            assert_close(f"{name} {shape}", got, want, TOLERANCE[compute])
            np.testing.assert_array_equal(got, again, err_msg=f"{name}: the same thread count, the same bits")


@compiled
@pytest.mark.parametrize(
    ("n_features", "n_classes"), [(700_000, 3), (300_000, 8), (300_000, 9), (300_000, 15)]
)
def test_sparse_gradient_that_threads_share(n_features, n_classes):
    """Gradients of single threads would take too much memory, so the threads share one by columns."""
    rng = np.random.default_rng(0)
    X = sp.random_array((900, n_features), density=3e-4, rng=rng, format="csr", dtype=np.float32)
    W = rng.standard_normal((n_features, n_classes)).astype(np.float32)
    b, y = np.ones(n_classes), rng.integers(0, n_classes, 900)
    want = passes.value_and_gradient(W, b, X, y, None)
    for threads in (2, 3):
        got = native.value_and_gradient(W, b, X, y, None, 0.0, threads)
        again = native.value_and_gradient(W, b, X, y, None, 0.0, threads)
        for name, g, w, a in zip(("loss", "dW", "db"), got, want, again, strict=True):
            assert_close(name, g, w, 1e-5)
            np.testing.assert_array_equal(g, a)


@compiled
@pytest.mark.parametrize("compute", [np.float32, np.float64])
@pytest.mark.parametrize("n_classes", [1, 7, 8, 15, 16, 17, 40, 70])
def test_sparse_gradient_from_the_columns(n_classes, compute):
    """By columns as by rows, in any number of threads: repeated entries, empty rows and columns, no rows."""
    rng = np.random.default_rng(n_classes)
    for n, D, stored, index in [(0, 4, 0, np.int32), (50, 3, 300, np.int32), (900, 120, 4000, np.int64)]:
        rows = np.sort(rng.integers(0, n, stored)) if n else np.zeros(0, int)
        columns = rng.integers(0, D - 1, stored).astype(index)  # the last has no entry
        starts = np.searchsorted(rows, range(n + 1)).astype(index)
        X = sp.csr_array((rng.standard_normal(stored).astype(compute), columns, starts), shape=(n, D))
        data, row, begin = native.transposed(X)
        np.testing.assert_array_equal(sp.csr_array((data, row, begin), shape=(D, n)).toarray(), X.toarray().T)
        assert all((np.diff(row[a:b]) >= 0).all() for a, b in itertools.pairwise(begin))
        W, V = rng.standard_normal((2, D, n_classes)).astype(compute)
        b, y, weight = rng.standard_normal(n_classes), rng.integers(0, n_classes, n), rng.random(n)
        log_p = native.probabilities(W, b, X, log=True)
        for run, arguments, options in (
            (native.value_and_gradient, (W, b, X, y, weight, 0.1), {}),
            (native.hessian_product, (W, b, V, b, X, weight), {}),
            (native.hessian_product, (W, b, V, b, X, weight), {"scores": log_p}),
            (native.divergence, (W, b, V, b, X, weight), {}),
        ):
            want = run(*arguments, n_threads=1)
            for threads in (1, 2, 5):
                options |= {"n_threads": threads, "columns": (data, row, begin)}
                for _ in range(2):  # the memory of the first is used again
                    for k, (g, w) in enumerate(zip(run(*arguments, **options), want, strict=True)):
                        assert_close(f"{run.__name__} {k} {threads}", g, w, TOLERANCE[compute])


@compiled
def test_sparse_gradient_from_the_columns_in_blocks_of_rows():
    rng = np.random.default_rng(0)
    n, D, C = 30_000, 40, 200  # residuals take more than a block's memory
    X = sp.random_array((n, D), density=0.05, rng=rng, format="csr", dtype=np.float32)
    W, y = rng.standard_normal((D, C)).astype(np.float32), rng.integers(0, C, n)
    want = native.value_and_gradient(W, None, X, y, None)
    got = native.value_and_gradient(W, None, X, y, None, columns=native.transposed(X))
    for name, g, w in zip(("loss", "dW", "db"), got, want, strict=True):
        assert_close(name, g, w, 1e-12)


@compiled
def test_unsorted_and_repeated_entries_of_csr():
    X = sp.csr_array((np.array([1.0, 2, 3, 4]), np.array([2, 0, 2, 1]), np.array([0, 3, 4])), shape=(2, 3))
    W, y = np.arange(6.0).reshape(3, 2) / 7, np.array([1, 0])
    want = passes.value_and_gradient(W, None, X.toarray(), y, None)
    assert_close("dW", native.value_and_gradient(W, None, X, y, None)[1], want[1], 1e-14)


@compiled
@pytest.mark.parametrize("layout", [np.ascontiguousarray, np.asfortranarray, sp.csr_array])
@pytest.mark.parametrize("compute", [np.float32, np.float64])
def test_hessian_and_squares(layout, compute):
    from luce.loss import kernels

    for shape in [(0, 3, 2), (9, 1, 1), (700, 5, 4), (1100, 17, 3)]:
        for intercept, weighted in itertools.product([False, True], repeat=2):
            X, W, b, _, _, _, weight = problem(shape, compute, weighted=weighted)
            b = b if intercept else None
            exact = W, b, X.astype(float), weight
            arguments = W.astype(compute), b, layout(X), weight, 2
            tolerance = TOLERANCE[compute]
            assert_close("H", kernels.hessian(*arguments), passes.hessian(*exact), tolerance)
            A = passes.class_curvature(*exact)
            assert_close("A", kernels.class_curvature(*arguments), A, tolerance)
            for run, given in ((kernels.class_variances, arguments), (passes.class_variances, exact)):
                assert_close("diagonal of A", run(*given), A.diagonal(), tolerance)
            found, wanted = kernels.gram(layout(X), weight, compute, 2), passes.gram(*exact[2:], np.float64)
            assert_close("G", found[0], wanted[0], tolerance)
            assert_close("sum", found[1], wanted[1], tolerance)


@compiled
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sums_over_entries_of_csr(dtype):
    """Moments and class sums, against dense float64: unsorted and repeated entries, empty rows, any index."""
    rng = np.random.default_rng(0)
    for n, D, C, stored in [(0, 3, 2, 0), (1, 1, 1, 1), (40, 7, 3, 150), (300, 50, 11, 900)]:
        rows = np.sort(rng.integers(0, n, stored)) if n else np.zeros(0, int)
        X = sp.csr_array(
            (
                rng.normal(size=stored).astype(dtype),
                rng.integers(0, D, stored),
                np.searchsorted(rows, range(n + 1)),
            ),
            shape=(n, D),
        )
        exact, y = X.toarray().astype(float), rng.integers(0, C, n)
        for data, weight in itertools.product((X, long_csr(X)), (None, rng.random(n))):
            found = (
                *native.moments(data, weight),
                *native.class_sums(data, y, weight, C),
            )
            w = np.ones(n) if weight is None else weight
            onehot = w[:, None] * (y[:, None] == np.arange(C))
            wanted = w @ exact, w @ exact**2, exact.T @ onehot, onehot.sum(axis=0)
            plain = *passes.moments(data, weight), *passes.class_sums(data, y, weight, C)
            for got, rung, want in zip(found, plain, wanted, strict=True):
                assert got.dtype == np.float64
                assert_close("compiled", got, want, TOLERANCE[dtype])
                assert_close("NumPy", rung, want, TOLERANCE[dtype])


@compiled
@pytest.mark.parametrize("compute", [np.float32, np.float64])
def test_extreme_scores(compute):
    """Far apart, the loss is the distance and the probabilities are 0 and 1; no warning, no NaN."""
    for scale in (1e4, 1e30):
        X, W = np.array([[scale], [-scale]], dtype=compute), np.array([[1, -1, 0.5]], dtype=compute)
        loss, dW, db = native.value_and_gradient(W, None, X, np.array([1, 1]), None)
        assert loss == pytest.approx(2 * scale, rel=1e-6)
        np.testing.assert_allclose(dW / scale, [[1, -1, 0]], rtol=1e-6)
        np.testing.assert_array_equal(db, [1, -1, 0])
        log_p = native.probabilities(W, None, X, log=True)
        np.testing.assert_allclose(log_p[0] / scale, [0, -2, -0.5], rtol=1e-6)
    huge = np.array([[np.finfo(compute).max]], dtype=compute)  # scores overflow: no crash is all we ask
    native.value_and_gradient(10 * W, None, huge, np.array([0]), None)
    infinite = native.probabilities(np.array([[0.0, 1]], dtype=compute), np.array([0, -np.inf]), X[:0])
    assert infinite.shape == (0, 2)
    P = native.probabilities(np.zeros((1, 2), dtype=compute), np.array([0, -np.inf]), X)
    np.testing.assert_array_equal(P, [[1, 0], [1, 0]])


@compiled
def test_exponential_and_logarithm_are_good_to_the_last_bits():
    """exp through P of two classes, log through log P; both against long double."""
    z = -np.concatenate([np.linspace(0, 40, 4001), np.logspace(-12, 2.8, 2000)])
    for compute, ulp in ((np.float32, 1.2e-7), (np.float64, 2.3e-16)):
        x = z.astype(compute)[:, None]
        W = np.array([[0, 1]], dtype=compute)
        exact = x[:, 0].astype(np.longdouble)
        p = np.exp(exact) / (1 + np.exp(exact))
        normal = p > np.finfo(compute).tiny * 4
        got = native.probabilities(W, None, x)[:, 1]
        assert np.abs(got[normal] / p[normal] - 1).max() <= 4 * ulp
        log_p = native.probabilities(W, None, x, log=True)
        assert np.abs(log_p[:, 0] + np.log1p(np.exp(exact))).max() <= 2 * ulp


@compiled
def test_bad_indices_are_refused():
    X, W, y = np.ones((3, 2)), np.ones((2, 4)), np.array([0, 4, 1])
    for data in (X, sp.csr_array(X)):
        for bad in (y, -y):
            with pytest.raises(ValueError, match="not one of the classes"):
                native.value_and_gradient(W, None, data, bad, None)
    with pytest.raises(ValueError, match="not one of the classes"):
        native.class_sums(sp.csr_array(X), y, None, 4)
    broken = sp.csr_array(X)
    broken.indices[1] = 7
    for run, arguments in (
        (native.value_and_gradient, (W, None, broken, y % 4, None)),
        (native.class_sums, (broken, y % 4, None, 4)),
        (native.moments, (broken, None)),
        (native.transposed, (broken,)),
    ):
        with pytest.raises(ValueError, match="column index"):
            run(*arguments)


def test_numpy_rung_against_fifty_digits():
    from mpmath import mp, mpf

    X, W, b, _, _, y, weight = problem((7, 4, 3), np.float64, weighted=True)
    with mp.workdps(50):
        loss, dW = mpf(0), [[mpf(0)] * 3 for _ in range(4)]
        for i in range(7):
            z = [sum(mpf(X[i, d]) * mpf(W[d, j]) for d in range(4)) + mpf(b[j]) for j in range(3)]
            total = sum(mp.exp(v) for v in z)
            loss += mpf(weight[i]) * (mp.log(total) - z[y[i]])
            for d, j in itertools.product(range(4), range(3)):
                dW[d][j] += mpf(weight[i]) * mpf(X[i, d]) * (mp.exp(z[j]) / total - (j == y[i]))
    got = passes.value_and_gradient(W, b, X, y, weight)
    assert got[0] == pytest.approx(float(loss), rel=1e-14)
    np.testing.assert_allclose(got[1], np.array(dW, dtype=float), atol=1e-14)


def run(code, **environment):
    """Run code in a fresh process with warnings as errors, and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


SMALL = """
    import numpy as np, scipy.sparse as sp
    from luce.loss import kernels, passes
    rng = np.random.default_rng(0)
    for dtype, tolerance in ((np.float32, 1e-5), (np.float64, 1e-13)):
        for d, c in ((5, 3), (40, 13), (130, 7)):
            X, W, V = (rng.standard_normal(s).astype(dtype) for s in ((203, d), (d, c), (d, c)))
            y = rng.integers(0, c, 203)
            for data in (X, np.asfortranarray(X), sp.csr_array(X)):
                got = kernels.value_and_gradient(W, V[0], data, y, None, 0.1, 2)
                got += kernels.divergence(W, None, V, None, data, None)
                got += (kernels.hessian(W, None, data, None),)
                w, v, x = (a.astype(float) for a in (W, V, X))
                want = passes.value_and_gradient(w, v[0], x, y, None, 0.1)
                want += passes.divergence(w, None, v, None, x, None)
                want += (passes.hessian(w, None, x, None),)
                for a, b in zip(got, want, strict=True):
                    assert np.abs(a - b).max() <= tolerance * (1 + np.abs(b).max())
    print(kernels.value_and_gradient.__module__)
"""


@compiled
@pytest.mark.parametrize("variant", core.variants() if core is not None else [])
def test_every_instruction_set_of_this_machine(variant):
    assert run(SMALL, LUCE_CPU=variant) == "luce.loss.native"


@pytest.fixture(params=core.variants() if core is not None else [])
def variant(request):
    core.use(request.param)
    yield request.param
    core.use(core.variants()[0])


@compiled
@pytest.mark.parametrize("size", [0, 1, 7, 16, 1023, 5003])
def test_sums_and_products_of_vectors(variant, size):
    rng = np.random.default_rng(0)
    vectors = [
        v.astype(t) for v, t in zip(rng.standard_normal((6, size)), 3 * [np.float32, float], strict=True)
    ]
    exact = np.array(vectors, dtype=float)
    factors = rng.standard_normal(6)
    for threads, dtype in itertools.product((1, 3), (np.float32, np.float64)):
        out = np.full(size, np.nan, dtype)
        core.combine(out, factors.tolist(), vectors, threads)
        np.testing.assert_allclose(out, factors @ exact, rtol=1e-6, atol=1e-15 if dtype is float else 1e-6)
        own = exact[0].astype(dtype)
        core.combine(own, [2.0, 1.0], [own, vectors[1]], threads)
        np.testing.assert_array_equal(own, (2 * exact[0].astype(dtype) + exact[1]).astype(dtype))
        for n_second in (1, 4, 6):
            found = np.full((6, n_second), np.nan)
            core.products(vectors, vectors[:n_second], found, threads)
            np.testing.assert_allclose(found, exact @ exact[:n_second].T, rtol=1e-13, atol=1e-13 * size)
    with pytest.raises(ValueError, match="differ in length"):
        core.combine(np.zeros(size + 1), [1.0], [np.zeros(size)], 1)


@compiled
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_classes", [1, 3, 15, 16, 17, 70])
def test_mixing_of_classes(variant, n_classes, dtype):
    rng = np.random.default_rng(0)
    R = np.linalg.qr(rng.standard_normal((n_classes, n_classes)))[0]
    a, last = rng.uniform(0.1, 1, n_classes), rng.standard_normal(n_classes)
    room = ((0, 0), (0, -n_classes % 16))
    padded = [np.pad(np.ascontiguousarray(matrix), room).astype(dtype) for matrix in (R, R.T)]
    for n_features, threads, kind in itertools.product((1, 5, 300), (1, 3), (np.float32, np.float64)):
        e, centre = rng.uniform(0, 1, n_features), rng.standard_normal(n_features)
        G = rng.standard_normal((n_features, n_classes)).astype(kind)
        want = (G - np.outer(centre, last)) @ R / (np.outer(e, a) + 0.01) @ R.T
        out, pull = np.full(G.shape, np.nan, dtype), np.zeros((threads, n_classes))
        vectors = [v.astype(dtype) for v in (e, centre, last)]
        core.mix(G, *vectors, *padded, a.astype(dtype), 0.01, out, pull)
        rounding = (1e-5 if dtype is np.float32 else 1e-13) * abs(want).max()
        np.testing.assert_allclose(out, want, rtol=0, atol=rounding)
        np.testing.assert_allclose(pull.sum(axis=0), centre @ want, rtol=0, atol=rounding * n_features)


def test_numpy_rung_on_request():
    assert run(SMALL, LUCE_NATIVE="0") == "luce.loss.passes"


def test_a_missing_extension_warns_once_and_falls_back():
    code = """
        import sys, warnings
        sys.modules["luce._native._core"] = None
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            from luce.loss import kernels, passes
        assert kernels.value_and_gradient is passes.value_and_gradient
        print(len(caught), "cannot be loaded" in str(caught[0].message))
    """
    assert run(code) == "1 True"


@compiled
def test_memory_beyond_the_arrays_is_bounded():
    """160 MB of F-order float32 data in float64 arithmetic: tiles only, no copy."""
    code = """
        import resource, numpy as np
        from luce.loss import kernels
        X = np.ones((400_000, 100), dtype=np.float32, order="F")
        W, y = np.zeros((100, 10)), np.zeros(400_000, dtype=np.int64)
        kernels.value_and_gradient(W, None, X[:2000], y[:2000], None)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        kernels.value_and_gradient(W, None, X, y, None, 0.0, 2)
        kernels.hessian_product(W, None, W, None, X, None, 2)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    """
    kilobytes = int(run(code)) / (1024 if sys.platform == "darwin" else 1)
    assert kilobytes < 64 * 1024


@compiled
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_works_after_a_fork():
    code = """
        import os, numpy as np
        from luce.loss import kernels
        X, W, y = np.ones((60_000, 20)), np.ones((20, 10)), np.zeros(60_000, dtype=int)
        first = kernels.value_and_gradient(W, None, X, y, None, 0.0, 2)
        child = os.fork()
        again = kernels.value_and_gradient(W, None, X, y, None, 0.0, 2)
        assert first[0] == again[0]
        if child == 0:
            os._exit(0)
        print(os.waitpid(child, 0)[1])
    """
    assert run(code) == "0"


@compiled
def test_ctrl_c_ends_a_pass():
    code = """
        import signal, threading, time, numpy as np
        from luce.loss import kernels
        X = np.broadcast_to(np.ones(200), (30_000_000, 200))  # one row, again and again: minutes of work
        W, y = np.ones((200, 100)), np.zeros(30_000_000, dtype=np.int64)
        threading.Timer(0.5, signal.raise_signal, [signal.SIGINT]).start()
        began = time.monotonic()
        try:
            kernels.value_and_gradient(W, None, X, y, None, 0.0, 2)
        except KeyboardInterrupt:
            print(time.monotonic() - began < 10)
    """
    assert run(code) == "True"


@compiled
def test_workers_of_joblib_do_not_oversubscribe():
    from joblib import Parallel, delayed

    counts = Parallel(n_jobs=2)(delayed(available_threads)() for _ in range(2))
    assert counts == [max(1, len(os.sched_getaffinity(0)) // 2)] * 2


def test_thread_count_follows_threadpoolctl():
    with threadpool_limits(1, user_api="blas"):
        assert available_threads() == 1


def blas_threads() -> set[int]:
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


def test_blas_has_one_thread_while_luce_has_its_own():
    before, available = blas_threads(), available_threads()
    first, second = blas_quiet(), blas_quiet(1)
    first.__enter__()
    second.__enter__()  # as of a fit in another thread, which ends later
    first.__exit__(None, None, None)
    assert blas_threads() == {1} and available_threads() == available
    with blas_limited(None):
        assert blas_threads() == {available}
    second.__exit__(None, None, None)
    assert blas_threads() == before and available_threads() == available
    with pytest.raises(ZeroDivisionError):
        in_threads(lambda n: 1 // n, [1, 0, 2], 2)
    assert blas_threads() == before
    with blas_quiet(3):
        assert available_threads() == 3


@pytest.mark.parametrize("n_threads", [1, 2, 3, 7])
def test_threads_share_rows_and_keep_their_order(n_threads):
    for n_rows in (0, 1, 5, 64, 1000):
        parts = shares(n_rows, n_threads, step=16)
        assert [row for first, end in parts for row in range(first, end)] == list(range(n_rows))
    assert in_threads(lambda n: n * n, range(50), n_threads) == [n * n for n in range(50)]
