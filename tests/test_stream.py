"""Rows that are seen once: what is learned from them, and what can be said of how good that is."""

import gzip
import json

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from scipy import sparse
from scipy.optimize import minimize as scipy_minimize
from scipy.special import log_softmax

import luce
from luce import SoftmaxClassifier, model_file
from luce.cli import main
from luce.data.labelled import LabelledRows
from luce.objective import InMemory, Objective
from luce.solvers import SGD
from luce.streaming import _Sample, excess


def rows(n=3000, seed=0, d=8, c=3):
    """Return samples of one and the same population."""
    rng = np.random.default_rng(seed)
    W = np.random.default_rng(99).normal(size=(d, c))
    X = rng.normal(size=(n, d))
    return X, (X @ W + rng.gumbel(size=(n, c))).argmax(axis=1)


def streamed(X, y, *, classes=(0, 1, 2), size=512, model=None, **options):
    model = model or SoftmaxClassifier(**options)
    for start in range(0, len(y), size):
        model.partial_fit(X[start : start + size], y[start : start + size], classes=classes)
    return model


# --- averaged weights ---


def test_the_average_counts_points_by_the_cube_of_what_was_seen():
    X, y = rows(200)
    weight = np.random.default_rng(1).integers(1, 4, len(y)).astype(float)
    solver = SGD(0.2, batch_size=16, momentum=0.5)
    objective = Objective(InMemory(X, y, 3, weight), 1e-3)
    state = solver.begin(objective, np.zeros((9, 3)))
    total = weighted = seen = 0.0
    for start in range(0, 200, 16):
        part = objective.take(slice(start, start + 16))
        scale = (part.data.total_weight / part.data.n_samples) / (objective.data.total_weight / 200)
        before, seen = seen, seen + part.data.total_weight
        state.memory["rates"], state.memory["mean"] = np.full((9, 1), 0.2), np.zeros(8)
        theta, _ = solver._descend(part, scale, state.theta, state.memory, 0.0)
        state = type(state)(theta, 0.0, memory=state.memory)
        weighted = weighted + (seen**4 - before**4) * theta
        total += seen**4 - before**4
    learned = solver.learn(objective, solver.begin(objective, np.zeros((9, 3))))
    np.testing.assert_allclose(learned.theta, state.theta, rtol=1e-12)
    np.testing.assert_allclose(learned.memory["average"], weighted / total, rtol=1e-12)


def test_the_average_is_nearer_to_the_optimum_than_the_last_point():
    X, y = rows(20_000)
    model = streamed(X, y)
    best = SoftmaxClassifier().fit(X, y)
    objective = Objective(InMemory(X, y, 3), 1 / len(y))
    average, last = objective.value(model._stream["average"]), objective.value(model._stream["theta"])
    assert best.loss_ < average < best.loss_ + 0.02 * best.loss_ < last


@pytest.mark.parametrize("X", [rows()[0], sparse.csr_array(np.maximum(rows()[0], 0))])
def test_a_saved_stream_goes_on_as_if_there_had_been_no_break(tmp_path, X):
    y = rows()[1]
    whole = streamed(X, y)
    luce.save(streamed(X[:1024], y[:1024]), tmp_path / "half")
    assert model_file.load(tmp_path / "half").predict(X).shape == y.shape
    resumed = streamed(X[1024:], y[1024:], model=luce.load(tmp_path / "half"))
    assert np.array_equal(resumed.coef_, whole.coef_) and resumed.n_iter_ == whole.n_iter_


def test_a_fit_forgets_the_stream():
    X, y = rows(300)
    model = streamed(X, y).fit(X, y)
    assert np.array_equal(model.coef_, SoftmaxClassifier().fit(X, y).coef_)
    assert not np.array_equal(
        model.partial_fit(X, y).coef_, streamed(X, y, size=300).coef_
    )  # on from the fit


# --- how far from the optimum ---


def least(X, y, reg, classes=3):
    """Return the least objective that weights and intercepts reach, by another solver."""

    def value_and_gradient(w):
        w = w.reshape(-1, classes)
        log_p = log_softmax(X @ w[:-1] + w[-1], axis=1)
        error = np.exp(log_p)
        error[np.arange(len(y)), y] -= 1
        gradient = np.vstack([X.T @ error / len(y) + reg * w[:-1], error.mean(axis=0)])
        value = -log_p[np.arange(len(y)), y].mean() + 0.5 * reg * np.square(w[:-1]).sum()
        return value, gradient.ravel()

    start = np.zeros((X.shape[1] + 1) * classes)
    found = scipy_minimize(value_and_gradient, start, jac=True, method="L-BFGS-B", options={"gtol": 1e-9})
    return found.fun


@pytest.mark.parametrize("C", [1.0, 1e-3])
def test_the_proven_distance_is_that_on_the_sample(C):
    X, y = rows(4000)
    model = streamed(X, y, C=C)
    Xs, ys = rows(500, seed=1)
    said = excess(model, Xs, ys, len(y))
    reg = 1 / (C * len(y))
    objective = -model.predict_log_proba(Xs)[np.arange(500), ys].mean()
    objective += 0.5 * reg * np.square(model.coef_).sum()
    assert said.rows == 500 and said.objective == pytest.approx(objective, rel=1e-12)
    true = objective - least(Xs, ys, reg)
    assert true <= said.proven + 1e-9 and said.proven <= true + 1e-3 * objective  # to tol of the fit on it


def test_the_likely_bound_holds_for_the_population():
    X, y = rows(4000)
    population = rows(100_000, seed=5)
    reg = 1 / len(y)
    best = least(*population, reg)
    for steps in (10, 60):  # a bad model and a better one
        model = streamed(X[: 32 * steps], y[: 32 * steps], C=len(y) / (32 * steps))
        value = Objective(InMemory(*population, 3), reg).value(model._stream["average"])
        bounds = [excess(model, *rows(400, seed=seed), 32 * steps).likely for seed in range(10, 40)]
        # 95 % were promised; fewer than 25 of 30 would be seen less than once in 500 times
        assert np.sum(np.array(bounds) >= value - best) >= 25
        assert np.median(bounds) < 3 * (value - best) + 0.1  # and it says something


@pytest.mark.parametrize("present", [[0, 1], [2]])
def test_classes_without_a_held_out_row(present):
    model = streamed(*rows())
    X, y = rows(400, seed=1)
    X, y = X[np.isin(y, present)], y[np.isin(y, present)]
    said = excess(model, X, y, 3000)
    assert 0 < said.proven <= said.objective and said.likely > said.proven
    if len(present) == 2:
        # what a third column of zeros with an intercept of -inf would give
        assert said.objective - said.proven == pytest.approx(least(X, y, 1 / 3000, classes=2), abs=2e-3)


def test_two_classes():
    X, y = rows(c=2)
    model = streamed(X, y, classes=(0, 1))
    Xs, ys = rows(500, seed=1, c=2)
    said = excess(model, Xs, ys, len(y))
    # the one vector of weights w is two columns -w/2 and w/2, whose penalty counts double
    assert said.objective - said.proven == pytest.approx(least(Xs, ys, 2 / len(y), classes=2), abs=1e-3)


# --- rows that are held out ---


def test_every_row_is_learned_from_or_held_out_once():
    sample = _Sample(room=40, share=0.25, seed=0)
    learned, start = [], 0
    for size in (100, 1, 0, 399, 500):
        X = np.arange(start, start + size, dtype=float)[:, None]
        out, codes = sample.hold_out(X, np.arange(start, start + size))
        assert np.array_equal(out[:, 0], codes)
        learned += codes.tolist()
        start += size
    assert len(sample.codes) == 40 and np.array_equal(sample.X[:, 0], sample.codes)
    assert sorted(learned + sample.codes.tolist()) == list(range(1000))


def test_each_row_has_the_same_chance_to_be_held_out():
    counts = np.zeros(10)
    for seed in range(400):
        sample = _Sample(room=20, share=0.5, seed=seed)
        for start in range(0, 200, 40):
            sample.hold_out(sparse.csr_array((40, 2)), np.arange(start, start + 40))
        counts += np.bincount(sample.codes // 20, minlength=10)
    # 20 of 200 rows, 400 times: 800 for each tenth, with a standard deviation below sqrt(800) = 28
    assert counts.sum() == 8000 and np.abs(counts - 800).max() < 4.5 * 28


def test_few_rows_are_held_out_in_proportion():
    sample = _Sample(room=10_000, share=0.1, seed=0)
    sample.hold_out(np.zeros((5000, 1)), np.zeros(5000, dtype=int))
    assert 500 - 4 * 21 < len(sample.codes) < 500 + 4 * 21


# --- luce fit --stream ---


def run(*arguments, code=0, stdin=None):
    result = CliRunner().invoke(main, [str(a) for a in arguments], input=stdin)
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result


def table(n=4000, labels=("ant", "bee", "cat"), seed=0):
    X, y = rows(n, seed)
    frame = pd.DataFrame(X[:, :4].round(4), columns=list("pqrs"))
    frame["size"] = np.where(np.arange(n) % 13 == 0, np.nan, (X[:, 4] * 100).round(1))
    frame["colour"] = np.array(["red", "green", "blue"])[(3 * X[:, 5]).astype(int) % 3]
    frame["kind"] = np.array(labels)[y]
    return frame


@pytest.fixture(scope="module")
def text():
    return table().to_csv(index=False)


def test_a_stream_from_stdin(text, tmp_path):
    result = run("fit", "-", "--stream", "--target", "kind", "-o", tmp_path / "m", "--json", stdin=text)
    said = json.loads(result.stdout)
    assert said["data"]["rows"] == 4000 == said["model"]["rows"] + said["held_out"]["rows"]
    assert said["data"]["classes"] == ["ant", "bee", "cat"] and said["model"]["status"] == "stream"
    assert said["held_out"]["rows"] == said["excess"]["rows"] == np.sum(said["held_out"]["confusion"])
    assert said["held_out"]["accuracy"] > said["held_out"]["majority"]["accuracy"] + 0.1
    assert 0 < said["excess"]["proven"] < said["excess"]["likely"] < 0.1
    (tmp_path / "a.csv").write_text(text)
    measured = json.loads(run("evaluate", tmp_path / "m", tmp_path / "a.csv", "--json").stdout)
    exact = json.loads(run("fit", tmp_path / "a.csv", "--json", "--target", "kind").stdout)
    assert measured["accuracy"] > exact["held_out"]["accuracy"] - 0.03
    assert [c["kind"] for c in said["columns"]] == ["number"] * 5 + ["category"]
    again = run("fit", "-", "--stream", "--target", "kind", "--json", stdin=text)
    assert json.loads(again.stdout)["excess"] == said["excess"]


def test_what_it_says(text):
    said = run("fit", "-", "--stream", "--target", "kind", stdin=text).stdout
    for part in ("4,000 rows, 3 classes", "standardised", "drawn from the whole stream", "one pass over"):
        assert part in said
    assert "above the least for these rows (proven)" in said and "95 % confidence" in said
    assert max(map(len, said.splitlines())) <= 80
    alone = run("fit", "-", "--stream", "--target", "kind", "--test-size", "0", stdin=text).stdout
    assert "not known: no rows were held out" in alone


@pytest.mark.parametrize("form", ["tsv", "csv.gz"])
def test_other_forms_of_the_same_rows(text, tmp_path, form):
    path = tmp_path / f"a.{form}"
    path.write_bytes(gzip.compress(text.encode()) if "gz" in form else text.replace(",", "\t").encode())
    options = ("--stream", "--target", "kind", "--json")
    from_file, from_pipe = run("fit", path, *options), run("fit", "-", *options, stdin=text)
    assert json.loads(from_file.stdout)["excess"] == json.loads(from_pipe.stdout)["excess"]


def test_rows_beyond_the_first_megabyte_and_types_that_widen(tmp_path):
    n = 60_000
    frame = table(n)
    frame["p"] = [*range(1, n), 0.5]  # whole numbers but for the last
    path = tmp_path / "a.csv"
    frame.to_csv(path, index=False)
    assert path.stat().st_size > 2 << 20
    said = json.loads(run("fit", path, "--stream", "--target", "kind", "--json").stdout)
    assert said["data"]["rows"] == n and said["held_out"]["rows"] == 10_000  # there is no room for more


def test_labels_keep_their_type(tmp_path):
    for labels, classes in (((3, 10, 7), None), (("3", "10", "x"), None), ((3, 10, 7), "7,3,10,20")):
        (tmp_path / "a.csv").write_text(table(300, labels).to_csv(index=False))
        named = ("--classes", classes) if classes else ()
        run("fit", tmp_path / "a.csv", "--stream", "--target", "kind", "-o", tmp_path / "m", *named)
        found = luce.load(tmp_path / "m").classes_.tolist()
        assert found == ([3, 7, 10, 20] if classes else sorted(labels))


def test_a_class_that_comes_late(tmp_path):
    frame = table(12_000)
    frame.loc[11_500:, "kind"] = "dog"
    text = frame.to_csv(index=False)
    said = run("fit", "-", "--stream", "--target", "kind", stdin=text, code=3).stderr
    assert "row 11501: the label 'dog' is none of the classes of the first rows ('ant', 'bee', 'cat')" in said
    named = ("--classes", "ant, bee, cat, dog")
    said = json.loads(run("fit", "-", "--stream", "--target", "kind", *named, "--json", stdin=text).stdout)
    assert said["data"]["classes"] == ["ant", "bee", "cat", "dog"]
    assert said["held_out"]["classes"][3]["rows"] > 0
    said = run("fit", "-", "--stream", "--target", "kind", "--classes", "ant,bee", stdin=text, code=3).stderr
    assert "'cat' is none of the classes that were named ('ant', 'bee')" in said


def broken(row, column, cell):
    frame = table(30_000).astype(object)  # over a megabyte, from which the types are told
    frame.loc[row - 1, column] = cell
    return frame.to_csv(index=False)


@pytest.mark.parametrize(
    "stdin, options, said",
    [
        ("", (), "is empty"),
        ("a,kind\n", (), "no rows"),
        ("kind\nx\n", (), "no column beside the labels"),
        ("a,kind\n1,x\n2,x\n", (), "hold one class only (x): shuffle the rows"),
        ("a,b\n1,x\n2,y\n", (), "no column 'kind'"),
        (broken(29_000, "kind", None), (), "'kind' has no label in row 29000"),
        (broken(29_990, "size", "huge"), (), "'huge' is not a number, which this column held before"),
        ("a,kind\n1,x\n2,y\n", ("--classes", "x"), "classes has one class only"),
    ],
)
def test_what_is_wrong_with_a_stream_is_named(stdin, options, said):
    assert said in run("fit", "-", "--stream", "--target", "kind", *options, stdin=stdin, code=3).stderr


def test_only_text_is_streamed(tmp_path):
    table(50).to_parquet(tmp_path / "a.parquet")
    for data in (tmp_path / "a.parquet", "digits"):
        assert "--stream reads CSV and TSV" in run("fit", data, "--stream", code=3).stderr
    assert "no such file" in run("fit", tmp_path / "absent.csv", "--stream", code=3).stderr


@pytest.mark.parametrize(
    "options, said",
    [
        (("--stream", "--tol", "1e-3"), "--stream cannot do --tol"),
        (("--stream", "--valid", "b.csv"), "--stream cannot do --valid"),
        (("--stream", "--checkpoint", "d"), "--stream cannot do --checkpoint"),
        (("--classes", "a,b"), "--classes needs --stream"),
    ],
)
def test_options_that_do_not_go_together(options, said):
    assert said in run("fit", "-", *options, code=2, stdin="").stderr


@pytest.mark.parametrize("after", [1, 3])
def test_ctrl_c_ends_a_stream_and_saves(tmp_path, monkeypatch, after):
    whole = LabelledRows.batches

    def interrupted(self, rows):
        for _, batch in zip(range(after), whole(self, 10_000), strict=False):
            yield batch
        raise KeyboardInterrupt

    monkeypatch.setattr(LabelledRows, "batches", interrupted)
    frame = table(40_000)
    options = ("--stream", "--target", "kind", "-o", tmp_path / "m")
    said = run("fit", "-", *options, stdin=frame.to_csv(index=False), code=130)
    assert f"the stream was ended after {after}0,000 rows; what came before is learned" in said.stderr
    assert f"Saved {tmp_path}/m" in said.stdout.replace("\n", "")
    assert luce.load(tmp_path / "m").predict(frame[:50]).shape == (50,)


def test_ctrl_c_before_anything_is_learned_saves_nothing(tmp_path, monkeypatch):
    def interrupted(self, rows):
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr(LabelledRows, "batches", interrupted)
    run("fit", "-", "--stream", "-o", tmp_path / "m", stdin="a,y\n1,x\n2,z\n", code=130)
    assert not (tmp_path / "m").exists()
