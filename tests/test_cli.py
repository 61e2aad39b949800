"""The command line as its users meet it: what it prints, where, and how it ends."""

import json
import subprocess
import sys
from importlib.metadata import version

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from luce import model_file
from luce.cli import main
from luce.data import sources

RNG = np.random.default_rng(0)


def run(*arguments, code=0, stdin=None):
    result = CliRunner().invoke(main, [str(a) for a in arguments], input=stdin)
    assert result.exit_code == code, result.output
    if code:
        assert "Traceback" not in result.output
    return result


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Return a CSV of numbers with gaps, a category, and a label that both tell."""
    n = 240
    label = RNG.integers(0, 3, n)
    frame = pd.DataFrame(
        {
            "size": (label + RNG.normal(0, 0.7, n)).round(3),
            "colour": np.array(["red", "green", "blue"])[(label + (RNG.random(n) < 0.3)) % 3],
            "id": np.arange(n),
            "kind": np.array(["ant", "bee", "cat"])[label],
        }
    )
    frame.loc[::17, "size"] = np.nan
    path = tmp_path_factory.mktemp("table") / "animals.csv"
    frame.to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def model(table):
    path = table.with_name("animals.luce")
    run("fit", table, "--target", "kind", "-o", path, "--quiet")
    return path


def subprocess_run(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "luce.cli", *map(str, arguments)], capture_output=True, text=True, **options
    )


def test_fit_tells_the_whole_story(table, tmp_path):
    result = run("fit", table, "--target", "kind", "-o", tmp_path / "m.luce")
    for part in ("240 rows, 3 classes", "standardised", "one-hot", "dropped", "60 of 240 rows", "accuracy"):
        assert part in result.stdout
    for part in (
        "log-loss",
        "macro-F1",
        "majority",
        "precision",
        "above the optimum",
        "Saved",
        "--test-size 0",
    ):
        assert part in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_fit_as_json(table):
    result = run("fit", table, "--target", "kind", "--C", "0.5", "--json")
    said = json.loads(result.stdout)
    assert (said["schema_version"], said["command"], said["model"]["C"]) == (1, "fit", 0.5)
    assert said["data"]["classes"] == ["ant", "bee", "cat"]
    assert [column["kind"] for column in said["columns"]] == ["number", "category", "dropped"]
    held_out = said["held_out"]
    assert held_out["rows"] == 60 == np.sum(held_out["confusion"])
    assert held_out["accuracy"] == pytest.approx(np.trace(held_out["confusion"]) / 60)
    assert held_out["accuracy"] > held_out["majority"]["accuracy"] + 0.2
    assert said["model"]["converged"] and said["model"]["gap"] >= 0


def test_quiet_fit_prints_nothing(table):
    result = run("fit", table, "--target", "kind", "-q")
    assert result.output == ""


def test_same_seed_same_model(table, tmp_path):
    for name in ("a", "b"):
        run("fit", table, "--target", "kind", "-o", tmp_path / name, "--seed", 3, "-q")
    first, second = (model_file.read_metadata(tmp_path / name) for name in ("a", "b"))
    assert first["metadata"]["held_out"] == second["metadata"]["held_out"]


def test_valid_and_evaluate_agree(table, tmp_path):
    said = run("fit", table, "--target", "kind", "--valid", table, "-o", tmp_path / "m", "--json")
    fitted = json.loads(said.stdout)["held_out"]
    measured = json.loads(run("evaluate", tmp_path / "m", table, "--json").stdout)
    assert fitted["rows"] == measured["rows"] == 240
    assert fitted["confusion"] == measured["confusion"]
    assert fitted["log_loss"] == measured["log_loss"]


def test_test_size_0_fits_all_rows(table):
    said = json.loads(run("fit", table, "--target", "kind", "--test-size", "0", "--json").stdout)
    assert said["held_out"] is None and said["model"]["rows"] == 240


def test_a_class_of_one_row_is_no_obstacle(tmp_path):
    (tmp_path / "a.csv").write_text("x,y\n" + "".join(f"{i},{'ab'[i % 2]}\n" for i in range(20)) + "9,c\n")
    assert json.loads(run("fit", tmp_path / "a.csv", "--json").stdout)["data"]["classes"] == ["a", "b", "c"]


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".jsonl"])
def test_predictions_in_each_format(table, model, tmp_path, suffix):
    pipeline = model_file.load(model)
    X = sources.read(str(table), labels=False, layout=_layout(model)).X
    run("predict", model, table, "-o", tmp_path / f"p{suffix}")
    if suffix == ".csv":
        lines = [line.split(",") for line in (tmp_path / "p.csv").read_text().splitlines()]
        found = pd.DataFrame([[line[0], *map(float, line[1:])] for line in lines[1:]], columns=lines[0])
    elif suffix == ".parquet":
        found = pd.read_parquet(tmp_path / "p.parquet")
    else:
        lines = [json.loads(line) for line in (tmp_path / "p.jsonl").read_text().splitlines()]
        found = pd.DataFrame([{f"proba_{c}": p for c, p in line["probabilities"].items()} for line in lines])
        found.insert(0, "prediction", [line["prediction"] for line in lines])
    assert list(found.columns) == ["prediction", "proba_ant", "proba_bee", "proba_cat"]
    assert list(found["prediction"]) == list(pipeline.predict(X))
    np.testing.assert_array_equal(found.iloc[:, 1:].to_numpy(), pipeline.predict_proba(X))


def test_stdin_to_stdout(table, model):
    piped = run("predict", model, "-", "--no-proba", stdin=table.read_text())
    named = run("predict", model, table, "--no-proba")
    assert piped.stdout == named.stdout
    assert piped.stdout.splitlines()[0] == "prediction" and len(piped.stdout.splitlines()) == 241


def test_no_rows_give_a_header(model, tmp_path):
    (tmp_path / "a.csv").write_text("size,colour\n")
    assert run("predict", model, tmp_path / "a.csv").stdout == "prediction,proba_ant,proba_bee,proba_cat\n"


def test_unknown_labels_are_told(table, model, tmp_path):
    (tmp_path / "a.csv").write_text("size,colour,kind\n1,red,ant\n2,red,dog\n")
    assert json.loads(run("evaluate", model, tmp_path / "a.csv", "--json").stdout)["unknown_labels"] == 1
    assert "does not know" in run("evaluate", model, tmp_path / "a.csv").stdout


def test_a_dropped_column_may_be_missing(table, model, tmp_path):
    pd.read_csv(table).drop(columns=["id", "kind"]).to_csv(tmp_path / "a.csv", index=False)
    assert len(run("predict", model, tmp_path / "a.csv").stdout.splitlines()) == 241


def test_unconverged_is_code_4_and_saved(table, tmp_path):
    result = run(
        "fit", table, "--target", "kind", "--tol", "1e-15", "--max-iter", 1, "-o", tmp_path / "m", code=4
    )
    assert "warning" in result.stderr and "above the tolerance" in result.stdout
    assert (tmp_path / "m").exists()


HOSTILE = [
    (["fit", "nowhere.csv"], 3, "no such file"),
    (["fit", "{table}", "--target", "knid"], 3, "did you mean 'kind'"),
    (["fit", "{table}"], 3, "pass --target COL"),
    (["fit", "{table}", "--target", "kind", "-o", "/nowhere/m"], 1, "mkdir -p"),
    (["fit", "{table}", "--target", "kind", "-o", "/"], 1, "is a folder"),
    (["fit", "{table}", "--target", "kind", "-o", "/proc/m"], 1, "cannot be written"),
    (["fit", "{table}", "--target", "kind", "--text", "nothing"], 3, "animals.csv: .*no column .nothing"),
    (["fit"], 2, "Missing argument"),
    (["fit", "{table}", "--C", "0"], 2, "not in the range"),
    (["fit", "{table}", "--test-size", "1"], 2, "not in the range"),
    (["nonsense"], 2, "No such command"),
    (["predict", "{table}", "{table}"], 3, "no model file"),
    (["predict", "nowhere.luce", "{table}"], 3, "cannot be read"),
    (["predict", "{model}", "digits"], 3, "digits: has other columns than the model"),
    (["predict", "{model}", "nowhere.csv"], 3, "no such file"),
    (["predict", "{model}", "{table}", "-o", "/nowhere/p.csv"], 1, "mkdir -p"),
    (["evaluate", "{model}", "{table}", "--target", "size"], 3, "regression|no label"),
]


@pytest.mark.parametrize(("arguments", "code", "message"), HOSTILE)
def test_errors_are_one_message(table, model, arguments, code, message):
    import re

    arguments = [a.format(table=table, model=model) for a in arguments]
    result = run(*arguments, code=code)
    assert result.stdout == ""
    assert re.search(message, result.stderr)
    if code != 2:
        assert len(result.stderr.splitlines()) == 1


def test_one_class_only(tmp_path):
    (tmp_path / "a.csv").write_text("a,y\n1,x\n2,x\n")
    assert "one class only (x)" in run("fit", tmp_path / "a.csv", code=3).stderr


def test_errors_in_a_later_batch_name_the_row(model, tmp_path):
    rows = "1.5,red\n" * 20_000
    (tmp_path / "a.csv").write_text(f"size,colour\n{rows}inf,red\n")
    result = run("predict", model, tmp_path / "a.csv", "-o", tmp_path / "p.csv", code=3)
    assert (
        "a.csv" in result.stderr and "'size'" in result.stderr and "20001" in result.stderr.replace(",", "")
    )
    assert not (tmp_path / "p.csv").exists()


def test_debug_shows_the_traceback(table):
    result = CliRunner().invoke(main, ["fit", str(table), "--debug"])
    assert result.exit_code == 3 and "Traceback" in result.stderr


def test_terminal_escapes_are_spelled_out(tmp_path):
    label = "\x1b[31mred\x07"
    (tmp_path / "a.csv").write_text("x,y\n" + f"1,{label}\n2,[bold]b\n" * 20)
    output = run("fit", tmp_path / "a.csv").output
    assert "\x1b" not in output and "\\x1b[31mred" in output and "[bold]b" in output


def test_an_interrupted_fit_leaves_nothing(table, tmp_path, monkeypatch):
    def fit(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("luce.estimator.SoftmaxClassifier.fit", fit)
    result = run("fit", table, "--target", "kind", "-o", tmp_path / "m", code=130)
    assert "interrupted" in result.stderr and "nothing was written" in result.stderr
    assert not list(tmp_path.iterdir())


def test_an_interrupted_prediction_says_how_far_it_came(table, model, tmp_path, monkeypatch):
    batches = sources.batches

    def interrupted(*arguments, **options):
        yield next(iter(batches(*arguments, rows=100)))
        raise KeyboardInterrupt

    monkeypatch.setattr(sources, "batches", interrupted)
    result = run("predict", model, table, "-o", tmp_path / "p.csv", code=130)
    assert "100 rows were predicted" in result.stderr
    assert not list(tmp_path.iterdir())


def test_a_signal_ends_with_130(table, tmp_path):
    code = (
        "import os, signal, time\n"
        "from luce.data import sources\n"
        "from luce.cli import main\n"
        "def read(*_, **__):\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    time.sleep(60)\n"
        "sources.read = read\n"
        f"main(['fit', 'digits', '-o', {str(tmp_path / 'm')!r}])\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 130 and "interrupted" in result.stderr and "Traceback" not in result.stderr
    assert not list(tmp_path.iterdir())


def test_a_reader_that_leaves_is_no_error(tmp_path, model, table):
    rows = table.read_text().splitlines()
    (tmp_path / "long.csv").write_text("\n".join([rows[0], *rows[1:] * 100]))
    command = [sys.executable, "-m", "luce.cli", "predict", str(model), str(tmp_path / "long.csv")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout.readline().startswith(b"prediction")
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


def test_no_space_leaves_nothing(table, tmp_path):
    import resource

    result = subprocess_run(
        *("fit", table, "--target", "kind", "-o", tmp_path / "m"),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (512, 512)),
    )
    assert (
        result.returncode == 1 and "cannot be written" in result.stderr and "Traceback" not in result.stderr
    )
    assert not list(tmp_path.iterdir())


def test_a_terminal_without_unicode(table):
    result = subprocess_run("fit", table, "--target", "kind", env={"PYTHONIOENCODING": "ascii", "PATH": ""})
    assert result.returncode == 0 and "####" in result.stdout


def test_a_model_saved_without_a_layout(table, model, tmp_path):
    model_file.save(model_file.load(model), tmp_path / "bare.luce")
    assert "luce.load(path)" in run("predict", tmp_path / "bare.luce", table, code=3).stderr


def test_version():
    assert subprocess_run("--version").stdout == f"luce {version('luce')}\n"


def test_help_needs_no_heavy_import():
    code = (
        "import sys\nfrom luce.cli import main\n"
        "try: main(['fit', '--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'numpy', 'pandas', 'sklearn', 'scipy', 'pyarrow', 'rich'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def test_check_prints_a_row_for_each_rung():
    said = json.loads(run("check", "--json").stdout)
    assert all(row["ok"] for row in said["rows"]) and len(said["rows"]) >= 3
    assert "ok" in run("check").stdout


def _layout(model):
    from luce.cli.models import open_model

    return open_model(str(model))[1].layout


def test_csv_quotes_what_it_must(tmp_path):
    import csv
    import io

    from luce.cli.rows import _csv

    columns = {
        "prediction": np.array(['a,"b"\n', "plain", "é"], dtype=object),
        "proba_a,b": np.array([1 / 3, 1e-300, 1.0]),
        "proba_1": np.array([0.1, 5e-324, 0.0]),
    }
    file = io.BytesIO()
    _csv(iter([columns, columns]), file)
    header, *rows = csv.reader(io.StringIO(file.getvalue().decode()))
    assert header == list(columns) and len(rows) == 6
    for i, row in enumerate(rows):
        assert row[0] == columns["prediction"][i % 3]
        assert [float(v) for v in row[1:]] == [columns["proba_a,b"][i % 3], columns["proba_1"][i % 3]]
