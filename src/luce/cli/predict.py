"""`luce predict`: classes and probabilities, row by row, for data of any length."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from luce.cli import options
from luce.cli.console import Output, about
from luce.cli.outputs import check_writable, writing


@click.command()
@click.argument("model", metavar="MODEL")
@click.argument("data", metavar="DATA")
@click.option(
    "--output",
    "-o",
    metavar="FILE",
    default="-",
    help="A .csv, .parquet or .jsonl file; by default CSV on stdout.",
)
@click.option("--proba/--no-proba", default=True, help="Write the probability of each class too (default).")
@options.common
def predict(model: str, data: str, output: str, proba: bool, quiet: bool) -> None:
    """Predict the class of each row of DATA with MODEL.

    Rows are read, predicted and written in batches, in their order, so that DATA may be larger than memory;
    - reads CSV from stdin. Labels in DATA are ignored. Images get a column with the name of their file. Where
    DATA brings its own test part (MNIST's t10k files in a folder, x_test in an NPZ file), that is predicted.
    """
    from luce.cli.models import open_model
    from luce.cli.rows import write_rows
    from luce.data import sources

    out = Output(quiet)
    check_writable(output)
    pipeline, stored = open_model(model)
    done = 0

    def tables() -> Iterator[Any]:
        nonlocal done
        with about(data), out.collecting_warnings():
            for batch in sources.batches(data, stored.layout):
                yield predicted(pipeline, batch, proba)
                done += len(batch)

    try:
        with writing(output):
            write_rows(tables(), output, pipeline.classes_, proba)
    except KeyboardInterrupt:
        kept = "they are on stdout" if output == "-" else f"{output} was not written"
        raise KeyboardInterrupt(f"{done:,} rows were predicted; {kept}") from None
    out.remark(f"{done:,} rows predicted" + (f", written to {output}" if output != "-" else ""))


def predicted(pipeline: Any, batch: Any, proba: bool) -> dict[str, Any]:
    """Return the columns to write for a batch."""
    columns: dict[str, Any] = {} if batch.names is None else {"file": list(batch.names)}
    if not proba:
        return {**columns, "prediction": pipeline.predict(batch.X)}
    P = pipeline.predict_proba(batch.X)
    columns["prediction"] = pipeline.classes_[P.argmax(axis=1)]
    return {**columns, **{f"proba_{c}": P[:, k] for k, c in enumerate(pipeline.classes_)}}
