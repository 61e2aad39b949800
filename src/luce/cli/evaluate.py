"""`luce evaluate`: measure a saved model on labelled data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from luce.cli import options
from luce.cli.console import Output, about

if TYPE_CHECKING:
    from luce.data.dataset import Dataset
    from luce.evaluation import Evaluation


@click.command()
@click.argument("model", metavar="MODEL")
@click.argument("data", metavar="DATA")
@options.target("The labels; by default the column that the model was fitted on.")
@options.memory
@options.as_json
@options.common
def evaluate(
    model: str, data: str, target: str | None, memory: str | None, as_json: bool, quiet: bool
) -> None:
    """Measure MODEL on the labelled rows of DATA.

    Where DATA brings its own test part (MNIST's t10k files in a folder, x_test in an NPZ file), that part is
    measured.
    """
    from luce.blocks.memory import as_bytes
    from luce.cli import show
    from luce.cli.models import open_model
    from luce.data import large, sources
    from luce.evaluation import evaluate as measure

    out = Output(quiet, as_json)
    pipeline, stored = open_model(model)
    dataset: Dataset | None = large.read(data, target, as_bytes(memory), stored.layout)
    dataset = dataset or sources.read(data, target=target, layout=stored.layout)
    for note in dataset.notes:
        out.remark(note)
    dataset = dataset.held_out or dataset
    with about(dataset.name), out.collecting_warnings():
        result = as_dict(measure(pipeline, dataset, stored.frequencies))
    result = {"command": "evaluate", "model": model, "data": dataset.name, **result}
    out.result(
        result,
        lambda console, r: show.evaluation(console, r, f"{model} on {r['rows']:,} rows of {r['data']}"),
    )


def as_dict(result: Evaluation) -> dict[str, Any]:
    """Return an evaluation as JSON shows it."""
    columns = (result.classes, result.precision, result.recall, result.f1, result.support)
    return {
        "rows": result.rows,
        "accuracy": result.accuracy,
        "log_loss": result.log_loss,
        "macro_f1": result.macro_f1,
        "majority": {
            "accuracy": result.baseline_accuracy,
            "log_loss": result.baseline_log_loss,
            "macro_f1": result.baseline_macro_f1,
        },
        "unknown_labels": result.unknown,
        "classes": [
            dict(zip(("class", "precision", "recall", "f1", "rows"), row, strict=True))
            for row in zip(*(column.tolist() for column in columns), strict=True)
        ],
        "confusion": result.confusion.tolist(),
    }
