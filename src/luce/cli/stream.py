"""`luce fit --stream`: from rows that come once to a measured, saved classifier."""

from __future__ import annotations

import csv
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from luce.cli import options, show
from luce.cli.console import Output, about
from luce.errors import DataFileError

if TYPE_CHECKING:
    from rich.console import Console

    from luce.data.dataset import Dataset

ROWS = 8192  # in a batch
_USED = {"data", "target", "output", "test_size", "seed", "C", "text", "onnx", "stream", "classes"}
_USED |= {"as_json", "quiet"}


def fit_stream(ctx: click.Context, out: Output) -> None:
    """Run the command."""
    from luce.cli.evaluate import as_dict
    from luce.cli.fit import metadata_of, save
    from luce.data.columns import describe
    from luce.data.labelled import labelled_rows
    from luce.data.sources import format_of
    from luce.estimator import SoftmaxClassifier
    from luce.solvers import SGD
    from luce.streaming import learn

    _check_usage(ctx)
    given = ctx.params
    data, seed, test_size = given["data"], given["seed"], given["test_size"]
    if format_of(data) != "csv":
        raise DataFileError(
            f"{data}: --stream reads CSV and TSV; leave it out: other data are read as they are"
        )
    classes = None if given["classes"] is None else [c.strip() for c in next(csv.reader([given["classes"]]))]
    names = classes is not None and not all(c.lstrip("-").isdecimal() for c in classes)
    started = time.monotonic()
    with labelled_rows(data, given["target"], names=names) as rows:
        for note in rows.notes:
            out.remark(note)
        with about(data), out.collecting_warnings():
            learned = learn(
                _told(rows.batches(ROWS), out),
                SoftmaxClassifier(C=given["C"], solver=SGD()),
                classes=classes,
                text=given["text"] or None,
                test_size=test_size,
                seed=seed,
            )
        fingerprint = rows.fingerprint
    seconds = time.monotonic() - started
    pipeline, excess = learned.pipeline, learned.excess
    held_out = None
    if learned.held_out is not None and excess is not None:
        how = f"{excess.rows:,} rows, drawn from the whole stream (seed {seed})"
        held_out = {"how": how, "split": True, "test_size": test_size, **as_dict(learned.held_out)}
    n_rows = int(learned.counts.sum())
    n_seen = n_rows + (0 if excess is None else excess.rows)
    result = {
        "command": "fit",
        "again": options.as_typed(ctx),
        "data": {
            "name": data,
            "kind": rows.layout.kind,
            "rows": n_seen,
            "features": rows.layout.n_features,
            "target": rows.layout.target,
            "classes": pipeline.classes_.tolist(),
            "fingerprint": fingerprint,
        },
        "columns": [dict(zip(("name", "kind", "done"), c, strict=True)) for c in describe(pipeline)],
        "model": {
            "C": given["C"],
            "solver": "sgd",
            "seed": seed,
            "rows": n_rows,
            "loss": float("nan") if excess is None else excess.objective,
            "gap": float("inf"),
            "converged": False,
            "status": "stream",
            "passes": 1.0,
            "seconds": seconds,
        },
        "excess": None if excess is None else asdict(excess),
        "held_out": held_out,
        "saved": given["output"],
        "onnx": given["onnx"],
    }
    save(pipeline, given["output"], given["onnx"], metadata_of(rows.layout, result, learned.counts, []))
    out.result(result, _show)
    if learned.interrupted:
        raise KeyboardInterrupt(f"the stream was ended after {n_seen:,} rows; what came before is learned")


def _check_usage(ctx: click.Context) -> None:
    for parameter in ctx.command.params:
        name = parameter.name or ""
        typed = ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE
        if typed and parameter.expose_value and name not in _USED:
            mend = "; luce report MODEL on a file afterwards" if name == "report" else ""
            message = f"--stream cannot do {parameter.opts[0]}: rows are seen once, by one pass{mend}"
            raise click.UsageError(message)


def _told(batches: Iterable[Dataset], out: Output) -> Iterator[Dataset]:
    """Say now and then how many rows have come."""
    interval = 2.0 if sys.stderr.isatty() else 10.0
    started = last = time.monotonic()
    done = 0
    for batch in batches:
        yield batch
        done += len(batch)
        now = time.monotonic()
        if now - last >= interval:
            last = now
            out.remark(f"{done:,} rows, {done / (now - started):,.0f} a second")


def _show(console: Console, result: dict[str, Any]) -> None:
    data, model, excess = result["data"], result["model"], result["excess"]
    console.print(f"{data['name']}: {data['rows']:,} rows, {len(data['classes']):,} classes", style="bold")
    console.print()
    show.columns(console, result["columns"])
    if result["held_out"]:
        console.print()
        show.evaluation(console, result["held_out"], f"Held out: {result['held_out']['how']}")
    console.print()
    show.heading(console, "Fit")
    console.print(
        f"  effort     one pass over {model['rows']:,} rows, {show.seconds(model['seconds'])}, "
        f"C = {model['C']:g}"
    )
    if excess is None:
        console.print("  objective  not known: no rows were held out, and no bound without them")
    else:
        console.print(f"  objective  {excess['objective']:.6g} on the held-out rows")
        console.print(
            f"             at most {excess['proven']:.2g} above the least for these rows (proven)\n"
            f"             at most {excess['likely']:.2g} above the least for rows like all of these\n"
            "             (95 % confidence, if each row is drawn alike)"
        )
    if result["saved"]:
        console.print()
        console.print(f"Saved {result['saved']}; it can learn on: luce.load(...), then partial_fit.")
