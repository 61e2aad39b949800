"""The three forms of the loss against one independent oracle, and what they refuse."""

import re
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import luce
import oracles
from luce import softmax_loss, softmax_loss_naive, softmax_loss_vectorized
from luce.errors import InputError

settings.register_profile("luce", deadline=None, max_examples=80, derandomize=True)
settings.load_profile("luce")

FORMS = {"naive": softmax_loss_naive, "vectorized": softmax_loss_vectorized, "tiled": softmax_loss}


@dataclass
class Case:
    """One call. `exact_scores`: X W is free of rounding, so scores of any size leave no error behind."""

    name: str
    W: Any
    X: Any
    y: Any
    reg: float = 0.1
    options: dict[str, Any] = field(default_factory=dict)
    forms: tuple[str, ...] = tuple(FORMS)
    exact_scores: bool = False


def problem(n: int, d: int, c: int, seed: int = 0) -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((d, c)), rng.standard_normal((n, d)), rng.integers(0, c, n)


def cases() -> list[Case]:
    W, X, y = problem(37, 11, 5)
    base = Case("plain", W, X, y)
    rng = np.random.default_rng(1)
    soft = rng.dirichlet(np.ones(5), 37)
    soft[3] = [0, 0, 1, 0, 0]
    weight = rng.exponential(size=37)
    weight[[0, 5]] = 0
    fast, tiled = ("vectorized", "tiled"), ("tiled",)
    table = [base, replace(base, name="no penalty", reg=0.0), replace(base, name="penalty 1e4", reg=1e4)]

    for n, d, c in [
        (1, 1, 1),
        (1, 1, 2),
        (1, 7, 3),
        (5, 1, 3),
        (4, 3, 1),
        (33, 31, 17),
        (2, 63, 9),
        (19, 17, 33),
        (129, 9, 2),
    ]:
        table.append(Case(f"shape {n}x{d}x{c}", *problem(n, d, c)))
    for n, d, c in [
        (70, 20, 65),
        (252, 507, 123),
        (1031, 16, 64),
        (3, 1000, 4),
        (600, 5, 300),
        (5001, 15, 10),
    ]:
        table.append(Case(f"shape {n}x{d}x{c}", *problem(n, d, c), forms=fast))

    table += [
        replace(base, name="one class used", y=np.full(37, 3)),
        replace(base, name="W zero: all tied", W=np.zeros_like(W)),
        replace(base, name="tied columns", W=W[:, [0, 0, 2, 2, 0]]),
        replace(base, name="all rows the same", X=X[np.zeros(37, int)]),
        replace(base, name="X zero", X=np.zeros_like(X)),
        replace(base, name="negative zeros", X=-np.zeros_like(X)),
        replace(base, name="subnormal X", X=X * 1e-310),
        replace(base, name="lists", W=W.tolist(), X=X.tolist(), y=y.tolist()),
    ]
    for size in (1e4, 1e30):  # multiples of a power of two: products and sums of few of them are exact
        unit = 2.0 ** np.round(np.log2(size))
        big_W, big_X = rng.integers(-3, 4, (3, 4)) * unit, rng.integers(-3, 4, (25, 3)) * 1.0
        big_y = rng.integers(0, 4, 25)
        big_X[:3] = [[0, 0, 0], [1, 0, 0], [0, 0, 1]]
        for dtype in (np.float64, np.float32):
            table.append(
                Case(
                    f"scores {size:g} {dtype.__name__}",
                    big_W.astype(dtype),
                    big_X.astype(dtype),
                    big_y,
                    0.0,
                    exact_scores=True,
                )
            )
        table.append(
            Case(f"scores {size:g} sparse", big_W, sp.csr_array(big_X), big_y, 0.0, exact_scores=True)
        )
        tied = np.column_stack([big_W[:, 0]] * 3)
        table.append(Case(f"scores {size:g} tied", tied, big_X, big_y % 3, 0.0, exact_scores=True))
        many = np.tile(big_W, (8, 20))
        many_X = np.hstack([big_X, np.zeros((25, 21))])
        table.append(
            Case(f"scores {size:g} many classes", many, many_X, big_y, 0.0, forms=fast, exact_scores=True)
        )
        soft_y = rng.dirichlet(np.ones(4), 25)
        table.append(Case(f"scores {size:g} soft", big_W, big_X, soft_y, 0.0, forms=fast, exact_scores=True))
    table.append(replace(base, name="scores 1e4, random", X=X * 1e3, W=W * 10))

    for dtype in ("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", ">i4"):
        table.append(replace(base, name=f"labels {dtype}", y=y.astype(dtype)))
    table.append(Case("labels uint8, 200 classes", *problem(300, 3, 200), forms=fast))
    table[-1].y = table[-1].y.astype(np.uint8)
    table += [
        replace(base, name="labels strided", y=np.repeat(y, 3)[::3]),
        replace(base, name="labels reversed", y=y[::-1]),
        replace(base, name="soft", y=soft, forms=fast),
        replace(base, name="soft float32", y=soft.astype(np.float32), forms=fast),
        replace(base, name="soft F order", y=np.asfortranarray(soft), forms=fast),
        replace(base, name="soft one-hot integers", y=np.eye(5, dtype=int)[y], forms=fast),
        replace(
            base,
            name="soft strided",
            y=np.repeat(np.repeat(soft, 2, axis=0), 2, axis=1)[::2, ::2],
            forms=fast,
        ),
        replace(base, name="weights", options={"sample_weight": weight}, forms=tiled),
        replace(base, name="weights float32", options={"sample_weight": weight.astype("f4")}, forms=tiled),
        replace(base, name="weights integers", options={"sample_weight": np.arange(37)}, forms=tiled),
        replace(base, name="weights list", options={"sample_weight": weight.tolist()}, forms=tiled),
        replace(
            base,
            name="weights 1e±200",
            options={"sample_weight": 10.0 ** rng.uniform(-200, 200, 37)},
            forms=tiled,
        ),
        replace(base, name="smoothing", options={"label_smoothing": 0.1}, forms=tiled),
        replace(base, name="smoothing 1", options={"label_smoothing": 1.0}, forms=tiled),
        replace(base, name="smoothing soft", y=soft, options={"label_smoothing": 0.3}, forms=tiled),
        replace(
            base,
            name="smoothing, weights",
            options={"label_smoothing": 0.3, "sample_weight": weight},
            forms=tiled,
        ),
        replace(base, name="soft, weights", y=soft, options={"sample_weight": weight}, forms=tiled),
    ]
    wide = problem(4099, 21, 7)
    for threads in (1, 2, 3):
        options = {"n_threads": threads, "sample_weight": rng.exponential(size=4099)}
        table.append(Case(f"{threads} threads", *wide, options=options, forms=tiled))
        table.append(
            Case(
                f"{threads} threads sparse",
                wide[0],
                sp.random_array((4099, 21), density=0.2, rng=rng).tocsr(),
                wide[2],
                options=options,
                forms=tiled,
            )
        )
        table.append(
            Case(f"{threads} threads, 2 rows", W, X[:2], y[:2], options={"n_threads": threads}, forms=tiled)
        )

    readonly, readonly_W = X.copy(), W.copy()
    readonly.setflags(write=False)
    readonly_W.setflags(write=False)
    spread = np.zeros((74, 33))
    spread[::2, ::3] = X
    unaligned = np.frombuffer(b"\0" + X.tobytes(), np.uint8)[1:].view(np.float64).reshape(X.shape)
    table += [
        replace(base, name="float32", W=W.astype("f4"), X=X.astype("f4")),
        replace(base, name="W float32", W=W.astype("f4")),
        replace(base, name="X float32", X=X.astype("f4")),
        replace(base, name="X float16", X=X.astype("f2"), W=W.astype("f4")),
        replace(base, name="X big-endian", X=X.astype(">f8")),
        replace(base, name="W big-endian", W=W.astype(">f8")),
        replace(base, name="X int8", X=(3 * X).astype("i1")),
        replace(base, name="X uint8", X=(90 * np.abs(X)).astype("u1") % 100, W=W / 100),
        replace(base, name="X bool", X=X > 0),
        replace(base, name="X F order", X=np.asfortranarray(X), W=np.asfortranarray(W)),
        replace(base, name="X F order float32", X=np.asfortranarray(X, dtype="f4"), W=W.astype("f4")),
        replace(base, name="X strided", X=spread[::2, ::3]),
        replace(base, name="X some columns", X=np.hstack([X, X])[:, :11]),
        replace(base, name="X some rows of F order", X=np.asfortranarray(np.vstack([X, X]))[:37]),
        replace(base, name="X every other row", X=np.repeat(X, 2, axis=0)[::2]),
        replace(base, name="X reversed", X=X[::-1, ::-1], W=W[::-1, ::-1]),
        replace(base, name="X broadcast", X=np.broadcast_to(X[:1], X.shape)),
        replace(base, name="X unaligned", X=unaligned),
        replace(base, name="read-only", X=readonly, W=readonly_W),
        replace(base, name="W strided", W=np.repeat(W, 2, axis=1)[:, ::2]),
    ]
    S = sp.random_array((37, 11), density=0.3, rng=rng, data_sampler=rng.standard_normal).tocsr()
    S64 = S.copy()
    S64.indices, S64.indptr = S64.indices.astype(np.int64), S64.indptr.astype(np.int64)
    unsorted = sp.csr_array((S.data.copy(), S.indices.copy(), S.indptr))
    for i in range(37):
        row = slice(*S.indptr[i : i + 2])
        unsorted.data[row], unsorted.indices[row] = S.data[row][::-1], S.indices[row][::-1]
    unsorted.has_sorted_indices = False
    twice = sp.csr_array((np.repeat(S.data, 2), np.repeat(S.indices, 2), 2 * S.indptr), S.shape)
    for name, A in {
        "csr": S, "csr matrix": sp.csr_matrix(S), "csc": S.tocsc(), "coo": S.tocoo(), "csr int64": S64,
        "csr float32": S.astype("f4"), "csr integers": (10 * S).astype(np.int64), "csr unsorted": unsorted,
        "csr duplicate entries": twice, "csr empty": sp.csr_array((37, 11)), "csr full": sp.csr_array(X),
    }.items():  # fmt: skip
        table.append(replace(base, name=name, X=A))
    table.append(Case("csr 65 classes", problem(37, 11, 65)[0], S, problem(37, 11, 65)[2], forms=fast))
    table.append(replace(base, name="csr soft", X=S, y=soft, forms=fast))
    table.append(replace(base, name="csr, W F order float32", X=S, W=np.asfortranarray(W, dtype="f4")))
    return table


def _snapshot(a: Any) -> bytes:
    parts = [a.data, a.indices, a.indptr] if sp.issparse(a) and a.format in ("csr", "csc") else [a]
    return b"".join(p.toarray().tobytes() if sp.issparse(p) else np.asarray(p).tobytes() for p in parts)


@pytest.mark.parametrize(
    ("case", "form"), [pytest.param(c, f, id=f"{c.name}-{f}") for c in cases() for f in c.forms]
)
def test_loss_and_gradient(case, form):
    before = [_snapshot(a) for a in (case.W, case.X, case.y)]
    loss, dW = FORMS[form](case.W, case.X, case.y, case.reg, **case.options)
    assert before == [_snapshot(a) for a in (case.W, case.X, case.y)], "an input was modified"

    W = np.asarray(case.W)
    assert type(loss) is float
    assert type(dW) is np.ndarray and dW.shape == W.shape and dW.dtype == W.dtype.newbyteorder("=")
    weights = {name: value for name, value in case.options.items() if name != "n_threads"}
    true_loss, true_dW = oracles.softmax_loss(W, case.X, case.y, case.reg, **weights)

    # Rounding: a score is off by D eps times the sum of its absolute terms, a loss by as much and a
    # probability by that factor; all else is a few eps.
    X = np.abs(case.X.toarray() if sp.issparse(case.X) else np.asarray(case.X)).astype(float)
    single = any(getattr(a, "dtype", None) == np.float32 for a in (case.W, case.X, case.y))
    eps = float(np.finfo(np.float32 if single else np.float64).eps)
    terms = 0.0 if case.exact_scores else float((X @ np.abs(W)).max())
    budget = 4 * eps * (W.shape[0] + 4) * (1 + terms)
    assert abs(loss - true_loss) <= budget * (1 + abs(true_loss))
    assert np.abs(dW - true_dW).max() <= budget * X.max() + 4 * eps * np.abs(true_dW).max()


@pytest.mark.parametrize("form", FORMS)
def test_memory_mapped(form, tmp_path):
    W, X, y = problem(37, 11, 5)
    np.save(tmp_path / "X.npy", X)
    np.save(tmp_path / "y.npy", y)
    loss, dW = FORMS[form](
        W, np.load(tmp_path / "X.npy", mmap_mode="r"), np.load(tmp_path / "y.npy", mmap_mode="r"), 0.1
    )
    again, dW_again = FORMS[form](W, X, y, 0.1)
    assert loss == again
    np.testing.assert_array_equal(dW, dW_again)


def test_tiny_problems_to_fifty_digits():
    for seed in range(20):
        rng = np.random.default_rng(seed)
        n, d, c = rng.integers(1, 6, 3)
        W, X, y = problem(n, d, c, seed)
        X = X * 10.0 ** rng.uniform(-3, 2)
        true_loss, true_dW = oracles.softmax_loss(W, X, y, 0.01, kind=oracles.EXACT)
        budget = 1e-15 * (d + 4) * (1 + (np.abs(X) @ np.abs(W)).max())
        for form in FORMS.values():
            loss, dW = form(W, X, y, 0.01)
            assert abs(loss - float(true_loss)) <= budget * (1 + abs(loss))
            assert np.abs(dW - true_dW.astype(float)).max() <= budget * (1 + np.abs(X).max())


def test_same_bits_for_the_same_thread_count():
    W, X, y = problem(20_000, 12, 10)
    first = softmax_loss(W, X, y, 0.1, n_threads=2)
    for _ in range(3):
        loss, dW = softmax_loss(W, X, y, 0.1, n_threads=2)
        assert loss == first[0]
        np.testing.assert_array_equal(dW, first[1])


W0, X0, Y0 = problem(6, 3, 4)
NAN, INF = X0.copy(), X0.copy()
NAN[4, 2], INF[1, 0] = np.nan, -np.inf


def _with(y, row, value):
    y = y.copy()
    y[row] = value
    return y


REFUSED = {
    "label too large": (W0, X0, _with(Y0, 2, 4), 0.1, r"y\[2\] = 4 .*0\.\.3"),
    "label negative": (W0, X0, _with(Y0, 5, -1), 0.1, r"y\[5\] = -1 .*0\.\.3"),
    "label beyond int64": (W0, X0, np.full(6, 2**64 - 1, np.uint64), 0.1, r"y\[0\] = 18446744073709551615"),
    "labels float": (W0, X0, Y0.astype(float), 0.1, r"y has dtype float64.*integer"),
    "labels bool": (W0, X0, Y0 > 1, 0.1, r"y has dtype bool.*integer"),
    "labels text": (W0, X0, Y0.astype(str), 0.1, r"y has dtype <U\d+.*integer"),
    "labels object": (W0, X0, Y0.astype(object), 0.1, r"y has dtype object.*integer"),
    "labels scalar": (W0, X0, 1, 0.1, r"y has shape \(\)"),
    "labels 3-D": (W0, X0, np.zeros((6, 4, 1)), 0.1, r"y has shape \(6, 4, 1\)"),
    "labels column": (W0, X0, Y0[:, None], 0.1, r"shape \(6, 1\)"),
    "too few labels": (W0, X0, Y0[:5], 0.1, r"y has 5 labels but X has 6 rows"),
    "X 1-D": (W0, X0[0], Y0, 0.1, r"X has 1 dimension.*shape \(3,\).*2-D"),
    "X 3-D": (W0, X0[None], Y0, 0.1, r"X has 3 dimension.*shape \(1, 6, 3\).*2-D"),
    "X scalar": (W0, 1.0, Y0, 0.1, r"X has 0 dimension"),
    "X empty": (W0, X0[:0], Y0[:0], 0.1, r"X has no rows"),
    "X complex": (W0, X0 * 1j, Y0, 0.1, r"X holds complex"),
    "X object": (W0, X0.astype(object), Y0, 0.1, r"X has dtype object.*astype"),
    "X text": (W0, X0.astype(str), Y0, 0.1, r"X has dtype <U\d+.*astype"),
    "X dates": (W0, X0.astype("M8[s]"), Y0, 0.1, r"X has dtype datetime64"),
    "X ragged": (W0, [[1.0, 2.0, 3.0], [1.0]], Y0[:2], 0.1, r"X "),
    "X None": (W0, None, Y0, 0.1, r"X "),
    "X NaN": (W0, NAN, Y0, 0.1, r"X\[4, 2\] is NaN"),
    "X inf": (W0, INF, Y0, 0.1, r"X\[1, 0\] is -inf"),
    "X sparse NaN": (W0, sp.csr_array(NAN), Y0, 0.1, r"X\[4, 2\] is NaN"),
    "X sparse complex": (W0, sp.csr_array(X0 * 1j), Y0, 0.1, r"X holds complex"),
    "scores overflow": (W0 * 1e200, X0 * 1e200, Y0, 0.1, r"overflow"),
    "W NaN": (_with(W0, (2, 1), np.nan), X0, Y0, 0.1, r"W\[2, 1\] is NaN"),
    "W inf": (W0 * np.inf, X0, Y0, 0.1, r"W\[0, 0\] is -?inf"),
    "W complex": (W0 * 1j, X0, Y0, 0.1, r"W holds complex"),
    "W object": (W0.astype(object), X0, Y0, 0.1, r"W has dtype object"),
    "W 1-D": (W0[:, 0], X0, Y0, 0.1, r"W has 1 dimension"),
    "W transposed": (W0.T, X0, Y0, 0.1, r"X has 3 columns but W has 4 rows"),
    "W no classes": (W0[:, :0], X0, Y0, 0.1, r"W has no columns"),
    "W sparse": (sp.csr_array(W0), X0, Y0, 0.1, r"W is sparse"),
    "reg negative": (W0, X0, Y0, -0.1, r"reg = -0\.1"),
    "reg NaN": (W0, X0, Y0, np.nan, r"reg = nan"),
    "reg inf": (W0, X0, Y0, np.inf, r"reg = inf"),
    "reg text": (W0, X0, Y0, "0.1", r"reg"),
    "reg None": (W0, X0, Y0, None, r"reg"),
    "reg array": (W0, X0, Y0, np.ones(3), r"reg"),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("case", REFUSED)
def test_refused(case, form):
    *arguments, message = REFUSED[case]
    with pytest.raises(InputError, match=message):
        FORMS[form](*arguments)


SOFT0 = np.full((6, 4), 0.25)
REFUSED_OPTIONS = {
    "soft labels of other shape": (SOFT0[:, :3], {}, r"\(6, 3\).*\(6, 4\)"),
    "soft labels that sum to 2": (_with(SOFT0, 3, 0.5), {}, r"row 3 "),
    "soft labels below zero": (_with(SOFT0, 1, [-0.5, 0.5, 0.5, 0.5]), {}, r"row 1 "),
    "soft labels NaN": (_with(SOFT0, 0, np.nan), {}, r"row 0 "),
    "soft labels complex": (SOFT0 * 1j, {}, r"complex128"),
    "weights of other length": (Y0, {"sample_weight": np.ones(5)}, r"sample_weight has shape \(5,\).*\(6,\)"),
    "weights 2-D": (Y0, {"sample_weight": np.ones((6, 1))}, r"sample_weight has shape \(6, 1\)"),
    "weights negative": (Y0, {"sample_weight": _with(np.ones(6), 2, -1)}, r"sample_weight\[2\] = -1"),
    "weights NaN": (Y0, {"sample_weight": _with(np.ones(6), 4, np.nan)}, r"sample_weight\[4\] = nan"),
    "weights inf": (Y0, {"sample_weight": _with(np.ones(6), 4, np.inf)}, r"sample_weight\[4\] = inf"),
    "weights zero": (Y0, {"sample_weight": np.zeros(6)}, r"sample_weight is zero"),
    "weights text": (Y0, {"sample_weight": np.array(list("abcdef"))}, r"sample_weight has dtype"),
    "smoothing below zero": (Y0, {"label_smoothing": -0.1}, r"label_smoothing = -0\.1"),
    "smoothing above one": (Y0, {"label_smoothing": 1.1}, r"label_smoothing = 1\.1"),
    "smoothing NaN": (Y0, {"label_smoothing": np.nan}, r"label_smoothing = nan"),
    "smoothing text": (Y0, {"label_smoothing": "a"}, r"label_smoothing"),
    "no threads": (Y0, {"n_threads": 0}, r"n_threads = 0"),
    "threads below zero": (Y0, {"n_threads": -1}, r"n_threads = -1"),
    "half a thread": (Y0, {"n_threads": 1.5}, r"n_threads = 1\.5"),
    "threads text": (Y0, {"n_threads": "2"}, r"n_threads"),
}


@pytest.mark.parametrize("case", REFUSED_OPTIONS)
def test_refused_options(case):
    y, options, message = REFUSED_OPTIONS[case]
    with pytest.raises(InputError, match=message):
        softmax_loss(W0, X0, y, 0.1, **options)


def test_naive_takes_no_soft_labels():
    with pytest.raises(InputError, match=r"y has shape \(6, 4\)"):
        softmax_loss_naive(W0, X0, SOFT0, 0.1)


def test_silent(capfd):
    for form in FORMS.values():
        form(W0, X0, Y0, 0.1)
    assert capfd.readouterr() == ("", "")


sizes = st.integers(1, 5)
numbers = st.floats(-1e3, 1e3, allow_subnormal=True)


@st.composite
def problems(draw):
    n, d, c = draw(sizes), draw(sizes), draw(sizes)
    W = draw(hnp.arrays(np.float64, (d, c), elements=numbers))
    X = draw(hnp.arrays(np.float64, (n, d), elements=numbers))
    y = draw(hnp.arrays(np.int64, n, elements=st.integers(0, c - 1)))
    return W, X, y, draw(st.sampled_from([0.0, 1e-8, 0.5]))


@given(problems())
def test_any_numbers_to_fifty_digits(args):
    W, X, *_ = args
    true_loss, true_dW = oracles.softmax_loss(*args, kind=oracles.EXACT)
    budget = 1e-15 * (len(W) + 4) * (1 + (np.abs(X) @ np.abs(W)).max())
    for form in FORMS.values():
        loss, dW = form(*args)
        assert abs(loss - float(true_loss)) <= budget * (1 + abs(loss))
        assert np.abs(dW - true_dW.astype(float)).max() <= budget * (1 + np.abs(X).max())


@given(problems())
def test_properties_of_the_gradient(args):
    W, X, y, _ = args
    loss, dW = softmax_loss(W, X, y, 0.0)
    assert loss >= 0
    # Columns of (P - Y) sum to zero over the classes, and so does the gradient.
    assert np.abs(dW.sum(axis=1)).max() <= 1e-13 * (1 + np.abs(X).max())
    assert np.abs(dW).max() <= np.abs(X).max() * (1 + 1e-12)
    # A larger step against a gradient of a convex function cannot gain more than the slope promises.
    t = 1e-3 / (1 + np.abs(X).max() ** 2)
    assert softmax_loss(W - t * dW, X, y, 0.0)[0] >= loss - t * np.vdot(dW, dW) - 1e-9 * (1 + loss)


anything = st.one_of(
    hnp.arrays(
        st.sampled_from(["f8", "f4", "f2", "i8", "u1", "?", "c16", "O", "U3", "M8[s]", ">f8", "longdouble"]),
        hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
    ),
    st.none(), st.text(max_size=3), st.floats(), st.lists(st.floats(), max_size=3),
)  # fmt: skip


@settings(max_examples=150)
@given(anything, anything, anything, st.one_of(st.floats(), st.none(), st.text(max_size=2)))
def test_anything_is_answered_or_refused(W, X, y, reg):
    for form in FORMS.values():
        try:
            loss, dW = form(W, X, y, reg)
        except InputError as error:
            assert re.search(r"\b(W|X|y|reg|scores|labels)\b", str(error))
        else:
            assert np.isfinite(loss) and np.isfinite(dW).all()


@settings(max_examples=150)
@given(hnp.arrays(st.sampled_from(["f8", "f4"]), (3, 2)), hnp.arrays(st.sampled_from(["f8", "f4"]), (2, 3)))
def test_any_bits_are_answered_or_refused(W, X):
    for form in FORMS.values():
        try:
            loss, dW = form(W, X, np.array([0, 1]), 0.1)
        except InputError as error:
            assert re.search(r"\b(W|X|scores|gradient|penalty)\b", str(error))
        else:
            assert np.isfinite(loss) and np.isfinite(dW).all()


def test_numerical_gradient():
    W, X, y = problem(9, 4, 3)
    kept = W.copy()
    slope = luce.numerical_gradient(lambda V: softmax_loss_naive(V, X, y, 0.1)[0], W)
    np.testing.assert_array_equal(W, kept)
    assert slope.dtype == np.float64 and slope.shape == W.shape
    # error h^2/6 times the third derivative, and eps/h
    np.testing.assert_allclose(slope, oracles.softmax_loss(W, X, y, 0.1)[1].astype(float), atol=1e-9, rtol=0)
    cubic = luce.numerical_gradient(lambda v: float((v**3).sum()), np.array([1, 2]), h=1e-3)
    np.testing.assert_allclose(cubic, [3 + 1e-6, 12 + 1e-6], rtol=1e-12, atol=1e-11)


def test_relative_error():
    assert luce.relative_error(np.array([1.0, 2.0]), np.array([1.0, 2.2])) == pytest.approx(0.2 / 4.2)
    assert luce.relative_error(np.zeros(3), np.zeros(3)) == 0.0
    assert luce.relative_error(np.array([1.0]), np.array([-1.0])) == 1.0
    assert luce.relative_error(1.0, 1.0 + 1e-9) == pytest.approx(0.5e-9)
    assert np.isnan(luce.relative_error(np.array([1.0, np.nan]), np.array([1.0, 1.0])))
