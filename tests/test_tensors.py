"""Fits of tensors against fits of the same numbers in NumPy arrays, and their passes against NumPy's."""

import subprocess
import sys

import numpy as np
import pytest
from click.testing import CliRunner

import luce
from luce import SoftmaxClassifier
from luce.cli import main
from luce.errors import InputError
from luce.loss import passes

torch = pytest.importorskip("torch")
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

from luce.blocks import tensors  # noqa: E402

N, D = 900, 7


def samples(n_classes=4, dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((N, D)) * np.geomspace(0.3, 3, D)
    y = (X @ rng.standard_normal((D, n_classes)) + 2 * rng.standard_normal((N, n_classes))).argmax(1)
    return X.astype(dtype), y, rng.integers(0, 4, N).astype(np.float64)


def arguments(name, n_classes, dtype, intercept):
    rng = np.random.default_rng(1)
    W, V = (rng.standard_normal((D, n_classes)).astype(dtype) for _ in range(2))
    b, c = (rng.standard_normal(n_classes) if intercept else None for _ in range(2))
    given = {
        "value_and_gradient": (W, b),
        "hessian_product": (W, b, V, c),
        "divergence": (W, b, 0.3 * V, c),
        "hessian": (W, b),
        "class_curvature": (W, b),
        "class_variances": (W, b),
        "class_grams": (W, b, np.full(n_classes, 1e-12)),  # so small that nothing is left to chance
    }
    if name == "class_grams of pairs":
        return (W, b, np.full(n_classes * (n_classes - 1) // 2, 1e-12)), {
            "pairs": np.triu_indices(n_classes, 1)
        }
    return given.get(name, ()), {"dtype": dtype} if name == "gram" else {}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("intercept", [False, True])
@pytest.mark.parametrize("asked", [np.float64, np.float32])
@pytest.mark.parametrize(
    "name",
    ["value_and_gradient", "hessian_product", "divergence", "gram", "class_sums", "hessian",
     "class_curvature", "class_variances", "moments", "class_grams",
     "class_grams of pairs"],
)  # fmt: skip
def test_passes(name, asked, intercept, weighted, monkeypatch):
    monkeypatch.setitem(tensors._TILE_BYTES, "cpu", 5000)  # several tiles
    X, y, weight = samples(dtype=np.float32)
    weight = weight if weighted else None
    args, options = arguments(name, 4, asked, intercept)
    name = name.split()[0]
    w = None if weight is None else torch.tensor(weight)
    got = tensors.OnDevice(torch.tensor(X), torch.tensor(y), 4, w).sum(name, *args, **options)
    exact = [arg if arg is None else arg.astype(np.float64) for arg in args]
    if name == "value_and_gradient":
        true = passes.value_and_gradient(*exact, X.astype(np.float64), y, weight)
    elif name == "class_sums":
        true = passes.class_sums(X, y, weight, 4)
    else:
        true = getattr(passes, name)(*exact, X=X.astype(np.float64), weight=weight, **options)
    rtol = 1e-11 if asked == np.float64 or name in ("class_sums", "moments") else 2e-5
    many = isinstance(true, tuple)
    for a, b in zip(got if many else (got,), true if many else (true,), strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * np.abs(b).max())
        assert isinstance(a, float) or np.asarray(a).dtype == np.float64


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("n_classes", [2, 5])
@pytest.mark.parametrize(
    "options",
    [{}, {"fit_intercept": False}, {"solver": "lbfgs"}, {"class_weight": "balanced"}, {"l1_ratio": 0.5}],
    ids=str,
)
def test_equals_the_fit_of_arrays(options, n_classes, dtype):
    X, y, weight = samples(n_classes, dtype)
    options = {"tol": 1e-9 if dtype == np.float64 else 1e-6, "C": 0.1} | options
    arrays = SoftmaxClassifier(**options).fit(X, y, sample_weight=weight)
    X_there, y_there = torch.tensor(X), torch.tensor(y)
    there = SoftmaxClassifier(**options).fit(X_there, y_there, sample_weight=torch.tensor(weight))
    assert isinstance(there.coef_, torch.Tensor) and there.coef_.dtype == X_there.dtype
    assert there.converged_ and there.gap_ <= options["tol"] * there.loss_
    assert abs(there.loss_ - arrays.loss_) <= arrays.gap_ + there.gap_  # each bound holds for the other
    np.testing.assert_allclose(there.coef_, arrays.coef_, atol=1e-4 if dtype == np.float64 else 3e-3)

    for method in ("decision_function", "predict_proba", "predict_log_proba", "predict"):
        got = getattr(there, method)(X_there)
        assert isinstance(got, torch.Tensor)
        of_arrays = getattr(there, method)(X)  # NumPy in, NumPy out
        assert isinstance(of_arrays, np.ndarray)
        np.testing.assert_allclose(got, of_arrays, rtol=2e-5, atol=1e-5)
    assert there.score(X_there, y_there) == pytest.approx(arrays.score(X, y), abs=2 / N)


def test_the_gap_is_a_bound_on_the_true_one():
    X, y, _ = samples()
    best = SoftmaxClassifier(tol=1e-12).fit(X, y).loss_
    rough = SoftmaxClassifier(tol=1e-2).fit(torch.tensor(X).float(), torch.tensor(y))
    assert rough.gap_ >= rough.loss_ - best - 1e-7 * best  # float32 data: another problem, by its rounding


def test_what_a_solver_keeps_lies_where_the_data_do(monkeypatch):
    X, y, _ = samples()
    kinds, real = set(), tensors.OnDevice.sum

    def watched(self, name, *args, **options):
        kinds.update(type(arg) for arg in args if arg is not None)
        result = real(self, name, *args, **options)
        kinds.update(type(part) for part in (result if isinstance(result, tuple) else (result,)))
        return result

    monkeypatch.setattr(tensors.OnDevice, "sum", watched)
    monkeypatch.setattr("luce.solvers.driver._SMALL", 0)  # no dense Hessian, which is the host's
    clf = luce.SoftmaxClassifier(C=10, tol=1e-8, solver="lbfgs")
    clf.fit(torch.tensor(X), y)
    assert kinds == {torch.Tensor}
    assert clf.converged_ and isinstance(clf.coef_, torch.Tensor)
    kinds.clear()
    luce.SoftmaxClassifier(C=10, tol=1e-8, solver="newton").fit(torch.tensor(X), y)
    assert np.ndarray in kinds  # the other solvers' small vectors are the host's


def test_certificate_is_in_float64(monkeypatch):
    asked = []
    scores = tensors._scores
    monkeypatch.setattr(tensors, "_scores", lambda tile, W, b: asked.append(W.dtype) or scores(tile, W, b))
    SoftmaxClassifier().fit(*map(torch.tensor, samples(dtype=np.float32)[:2]))
    assert {torch.float32, torch.float64} == set(asked) and asked[-1] == torch.float64


@pytest.mark.parametrize("solver", ["newton", "lbfgs", "proximal", "sgd"])
def test_every_solver(solver):
    X, y, _ = samples()
    there = SoftmaxClassifier(solver=solver, tol=1e-3, random_state=0).fit(torch.tensor(X), torch.tensor(y))
    assert there.status_ == ("finished" if solver == "sgd" else "converged")


class Largest(TorchDispatchMode):
    """Remembers the size of the largest tensor made."""

    entries = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        for part in made if isinstance(made, tuple) else (made,):
            if isinstance(part, torch.Tensor):
                self.entries = max(self.entries, part.numel())
        return made


@pytest.mark.parametrize("solver", ["lbfgs", "newton"])
def test_scores_are_never_whole(solver, monkeypatch):
    monkeypatch.setitem(tensors._TILE_BYTES, "cpu", 50_000)
    rng = np.random.default_rng(0)
    n, n_classes = 5000, 40
    X, y = torch.tensor(rng.standard_normal((n, 2))), torch.tensor(np.arange(n) % n_classes)
    with Largest() as largest:
        clf = SoftmaxClassifier(solver=solver, max_iter=20).fit(X, y)
        clf.predict(X)
    assert n <= largest.entries < n * n_classes / 8


def test_names_as_labels_warm_start_and_other_types():
    X, y, _ = samples(3)
    names = np.array(["ant", "bee", "cat"])[y]
    clf = SoftmaxClassifier(warm_start=True).fit(torch.tensor(X), names)
    assert clf.predict(torch.tensor(X))[0] in names and isinstance(clf.predict(torch.tensor(X)), np.ndarray)
    assert clf.fit(torch.tensor(X), names).n_iter_[0] == 1
    assert clf.fit(torch.tensor(X).half(), names).coef_.dtype == torch.float32
    clf.fit(torch.tensor(X, requires_grad=True), names)


class Elsewhere:
    """What a GPU array of another library offers: DLPack, and nothing that NumPy reads."""

    def __init__(self, tensor):
        self.tensor = tensor

    def __dlpack__(self, **options):
        return self.tensor.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.tensor.__dlpack_device__()


def test_dlpack():
    X, y, _ = samples()
    clf = SoftmaxClassifier().fit(Elsewhere(torch.tensor(X)), Elsewhere(torch.tensor(y)))
    np.testing.assert_array_equal(clf.predict(Elsewhere(torch.tensor(X))), clf.predict(X))


def test_device_takes_arrays_and_gives_arrays():
    X, y, _ = samples()
    here, there = SoftmaxClassifier(tol=1e-8).fit(X, y), SoftmaxClassifier(tol=1e-8, device="cpu").fit(X, y)
    assert isinstance(there.coef_, np.ndarray)
    np.testing.assert_allclose(there.coef_, here.coef_, atol=1e-6)
    with pytest.raises(InputError, match="device = 'nowhere'"):
        SoftmaxClassifier(device="nowhere").fit(X, y)
    with pytest.raises(InputError, match="leave device out"):
        SoftmaxClassifier(device="cpu").fit(torch.tensor(X), y)


def test_wrong_tensors_are_explained():
    X, y, _ = samples()
    X, y = torch.tensor(X), torch.tensor(y)
    broken = X.clone()
    broken[3, 2] = torch.nan
    for wrong, says in [
        (broken, r"X\[3, 2\] is NaN"), (X[0], "1 dimension"), (X + 1j, "complex"), (X.to_sparse(), "sparse"),
    ]:  # fmt: skip
        with pytest.raises(InputError, match=says):
            SoftmaxClassifier().fit(wrong, y)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        SoftmaxClassifier().fit(X, y[1:])
    with pytest.raises(InputError, match="X has 3 features"):
        SoftmaxClassifier().fit(X, y).predict(X[:, :3])


def test_pytorch_is_imported_for_tensors_only():
    fit = "import sys, luce; luce.SoftmaxClassifier().fit([[0.0], [1.0]], [0, 1]); "
    subprocess.run([sys.executable, "-c", fit + "assert 'torch' not in sys.modules"], check=True)


def test_command_line(tmp_path):
    X, y, _ = samples(2)
    np.savez(tmp_path / "data.npz", X=X, y=y)
    fits = []
    for device in ([], ["--device", "cpu"]):
        command = [
            "fit",
            str(tmp_path / "data.npz"),
            "-o",
            str(tmp_path / "m.luce"),
            "--tol",
            "1e-8",
            "--quiet",
        ]
        done = CliRunner().invoke(main, [*command, *device])
        assert done.exit_code == 0, done.output
        fits.append(luce.load(tmp_path / "m.luce"))
    np.testing.assert_allclose(fits[0].predict_proba(X), fits[1].predict_proba(X), atol=1e-6)
    done = CliRunner().invoke(main, [*command, "--device", "nowhere"])
    assert done.exit_code in (1, 3) and "nowhere" in done.output


def test_a_path_of_tensors_is_that_of_arrays():
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((300, 7)), rng.integers(0, 4, 300)
    of_arrays, of_tensors = (
        luce.softmax_path(convert(X), convert(y), [0.01, 1.0, 100.0], tol=1e-10)
        for convert in (np.asarray, torch.from_numpy)
    )
    np.testing.assert_allclose(of_tensors.coefs, of_arrays.coefs, atol=1e-5)  # the root of tol
    assert (of_tensors.gaps <= 1e-10 * of_tensors.losses).all()
