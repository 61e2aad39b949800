"""`luce fit`: from a table of data to a measured, saved classifier."""

from __future__ import annotations

import math
import sys
import time
from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import click

from luce.cli import options, resuming
from luce.cli.console import Output, about, plain
from luce.cli.outputs import check_writable, writing
from luce.errors import InputError, MissingExtraError

if TYPE_CHECKING:
    from luce.data.dataset import Dataset, Layout


@dataclass(frozen=True)
class Parts:
    """The rows to fit, the rows held out (None for none), and how they were chosen."""

    train: Dataset
    held_out: Dataset | None
    how: str
    split: bool


@click.command(context_settings={"show_default": True})
@click.argument("data", metavar="DATA")
@options.target(
    "Labels: the name of a column or array, the number of a NPY column (-1: the last) or a labels file. "
    "By default a column called target, label, class or y, or the labels file beside the data."
)
@click.option("--output", "-o", metavar="FILE", help="Save the model; without it none is kept.")
@click.option("--valid", metavar="FILE", help="Measure on this data, and fit on all of DATA.")
@click.option(
    "--test-size",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.25,
    help="Fraction of the rows held out to measure on, stratified by class; 0 fits on all of them.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, help="Seed of the split and of the solver.")
@click.option(
    "--C", "C", type=click.FloatRange(0, min_open=True), default=1.0, help="Inverse penalty; inf: none."
)
@click.option(
    "--l1-ratio", type=click.FloatRange(0, 1), default=0.0, help="0: L2 penalty, 1: L1, between: both."
)
@click.option("--class-weight", type=click.Choice(["balanced"]), help="Let each class weigh the same.")
@click.option(
    "--solver",
    type=click.Choice(["auto", "lbfgs", "newton", "newton-cg", "proximal", "sgd"]),
    default="auto",
)
@click.option("--tol", type=click.FloatRange(0, min_open=True), help="Relative gap at which the fit stops.")
@click.option("--max-iter", type=click.IntRange(1), help="Most iterations.")
@options.memory
@click.option("--device", metavar="NAME", help="Fit on a device of PyTorch's, such as cuda.")
@click.option(
    "--cluster",
    metavar="ADDRESS",
    help="Fit on the workers of the Dask scheduler at this address (tcp://...), or local: DATA are Parquet "
    "files, a folder or a pattern, that the workers can read.",
)
@click.option("--text", multiple=True, metavar="COL", help="Treat a column as text; may be repeated.")
@click.option("--onnx", metavar="FILE", help="Also export the whole pipeline to ONNX.")
@click.option("--report", metavar="FILE", help="Also write a page that shows the fit, as `luce report` does.")
@resuming.checkpointed
@click.option(
    "--stream",
    is_flag=True,
    help="Read the rows of a CSV file, or of - for stdin, once, and learn from them as they come.",
)
@click.option(
    "--classes",
    metavar="A,B,...",
    help="With --stream: all labels that will come; by default those of the first 10,000 rows.",
)
@options.as_json
@options.common
@click.pass_context
def fit(
    ctx: click.Context,
    /,
    data: str,
    target: str | None,
    output: str | None,
    valid: str | None,
    test_size: float,
    seed: int,
    memory: str | None,
    cluster: str | None,
    text: tuple[str, ...],
    onnx: str | None,
    report: str | None,
    checkpoint: str | None,
    every: float,
    resume: bool,
    stream: bool,
    classes: str | None,
    as_json: bool,
    quiet: bool,
    **parameters: Any,
) -> None:
    """Fit a softmax classifier to DATA, measure it on held-out rows, and save it.

    The model is fitted on the rows that are not held out and saved as it was measured: it is not fitted again
    on all rows; --test-size 0 does that. Where DATA brings its own test part (MNIST's t10k files in a folder,
    x_test in an NPZ file), that part is held out. Exit code 4: the fit ended above its tolerance; the model
    is saved all the same.

    With --checkpoint DIR a fit that was cut off, by Ctrl-C, a kill or a crash, loses what it did since the
    last checkpoint and no more: the same command with --resume goes on. It refuses other data and other
    options than those of the fit that was cut off, but for --tol and --max-iter.

    With --stream the data may be longer than memory and come from a pipe: one pass of gradient descent with
    averaged weights, which ends near the optimum, not at it. Rows held out from the whole stream measure the
    model and bound how far from the optimum it may be. How columns are prepared is decided by the first
    10,000 rows; rows should come in random order. Ctrl-C ends the stream, and the model is saved.
    """
    from luce.blocks.memory import as_bytes
    from luce.cli import show
    from luce.data import large, sources, spread
    from luce.data.columns import describe, make_pipeline
    from luce.data.labels import check_counts
    from luce.estimator import SoftmaxClassifier
    from luce.evaluation import evaluate, measure

    out = Output(quiet, as_json)
    check_writable(output)
    check_writable(onnx)
    check_writable(report)
    _check_extra(onnx, "--onnx", "onnx", ("onnx",))
    _check_extra(report, "--report", "report", ("jinja2", "matplotlib"))
    resuming.check_usage(ctx)
    if stream:
        from luce.cli.stream import fit_stream

        return fit_stream(ctx, out)
    if classes is not None:
        raise click.UsageError("--classes needs --stream; otherwise the labels in DATA are the classes")
    bound = as_bytes(memory)
    dataset: Dataset
    if cluster is not None:
        dataset = spread.read(data, target, ctx.with_resource(spread.connected(cluster)))
    else:
        dataset = large.read(data, target, bound) or sources.read(data, target=target)
    for note in dataset.notes:
        out.remark(note)
    parts = _divide(dataset, valid, test_size, seed, bound)
    if report is not None and any(isinstance(d, large.LargeDataset) for d in (dataset, parts.held_out)):
        raise InputError(f"--report needs data in memory: fit first, then luce report on a part of {data}")
    classes_found, counts = parts.train.class_counts()
    for note in check_counts(classes_found, counts, data, dataset.layout.target):
        out.warn(note)

    chosen = {name: value for name, value in parameters.items() if value is not None}
    latest: deque[Any] = deque(maxlen=1)
    keeper = resuming.opened(ctx, dataset, out)
    classifier = SoftmaxClassifier(
        random_state=seed,
        verbose=0 if quiet else 1,
        callbacks=(latest.append, *([keeper] if keeper else [])),
        **chosen,
    )
    started = time.monotonic()
    try:
        with resuming.stoppable(keeper), about(data), out.collecting_warnings():
            if not isinstance(parts.train, large.LargeDataset):
                pipeline = make_pipeline(parts.train.X, classifier, text=list(text) or None)
                pipeline.fit(parts.train.X, parts.train.y)
            elif cluster is not None:
                pipeline = spread.fit(parts.train, classifier, list(text) or None)
            else:
                pipeline, rows = large.fit(parts.train, classifier, bound, list(text) or None)
            classifier = pipeline[-1]
    except KeyboardInterrupt:
        reached = f"after {show.seconds(time.monotonic() - started)} of fitting {len(parts.train):,} rows"
        for progress in latest:
            reached += f", {progress.passes:.0f} passes, loss {progress.loss:.6g}"
            if math.isfinite(progress.gap):
                reached += f", estimated gap {progress.gap:.2g}"
        if sys.stderr.isatty():
            print(file=sys.stderr)  # the line of progress is still open
        kept = keeper is not None and keeper.path.exists()
        left = f"the same command with --resume goes on from {checkpoint}" if kept else "nothing was written"
        raise KeyboardInterrupt(f"{reached}; {left}") from None

    columns = [dict(zip(("name", "kind", "done"), line, strict=True)) for line in describe(pipeline)]
    held_out = None
    if parts.held_out is not None:
        with about(parts.held_out.name):
            frequencies = counts / counts.sum()
            if not (parts.split and isinstance(parts.held_out, large.LargeDataset)):
                measured = evaluate(pipeline, parts.held_out, frequencies)
            elif cluster is not None:
                scored = spread.scores(pipeline, parts.held_out)
                measured = measure(*scored, pipeline.classes_, frequencies)
            else:
                measured = evaluate(pipeline[-1], replace(parts.held_out, X=rows), frequencies)
        held_out = {"how": parts.how, "split": parts.split, "test_size": test_size, **_as_dict(measured)}
    result = {
        "command": "fit",
        "again": options.as_typed(ctx),
        "data": {
            "name": data,
            "kind": dataset.layout.kind,
            "rows": len(dataset),
            "features": dataset.layout.n_features,
            "target": dataset.layout.target,
            "classes": pipeline.classes_.tolist(),
            "fingerprint": dataset.fingerprint,
        },
        "columns": columns,
        "model": {
            **chosen,
            "seed": seed,
            "rows": len(parts.train),
            "loss": classifier.loss_,
            "gap": classifier.gap_,
            "converged": classifier.converged_,
            "status": classifier.status_,
            "passes": classifier.history_[-1]["passes"],
            "seconds": classifier.history_[-1]["seconds"],
        },
        "held_out": held_out,
        "saved": output,
        "onnx": onnx,
        "report": report,
    }
    metadata = metadata_of(dataset.layout, result, counts, classifier.history_)
    save(pipeline, output, onnx, metadata)
    if report is not None:
        from luce.cli.report import write_page
        from luce.report.subject import subject_of

        measured_on = dataset if valid is None or parts.held_out is None else parts.held_out
        write_page(subject_of(pipeline, measured_on, {"metadata": metadata}), report, out)
    out.result(result, show.fit)
    if not classifier.converged_ and classifier.status_ != "finished":
        ctx.exit(4)


def _divide(dataset: Dataset, valid: str | None, test_size: float, seed: int, memory: int) -> Parts:
    from luce.data import large, sources
    from luce.evaluation import split

    if valid is not None:
        layout = dataset.layout
        held_out = large.read(valid, None, memory, layout) or sources.read(valid, layout=layout)
        return Parts(dataset, held_out, f"{len(held_out):,} rows of {valid}", split=False)
    if test_size == 0:
        return Parts(dataset, None, "", split=False)
    if dataset.held_out is not None:
        rows = len(dataset.held_out)
        return Parts(dataset, dataset.held_out, f"{rows:,} rows, the data's own test part", split=False)
    train, test = split(dataset.y, test_size, seed)
    if not test.size:
        return Parts(dataset, None, "", split=False)
    how = f"{test.size:,} of {len(dataset):,} rows, stratified by class (seed {seed})"
    return Parts(dataset.rows(train), dataset.rows(test), how, split=True)


def _check_extra(path: str | None, option: str, extra: str, packages: tuple[str, ...]) -> None:
    """Refuse an output whose packages are missing, before a long fit and not after it."""
    from importlib.util import find_spec

    if path is not None and any(find_spec(package) is None for package in packages):
        raise MissingExtraError(option, extra)


def _as_dict(measured: Any) -> dict[str, Any]:
    from luce.cli.evaluate import as_dict

    return as_dict(measured)


def metadata_of(
    layout: Layout, result: dict[str, Any], counts: Any, history: list[dict[str, Any]]
) -> dict[str, Any]:
    """Return what the other commands need to know of a model."""
    if layout.kind == "table":
        layout = layout.only({c["name"] for c in result["columns"] if c["kind"] != "dropped"})
    values: dict[str, Any] = plain(
        {
            **{name: result[name] for name in ("again", "data", "columns", "model", "held_out")},
            "layout": layout.to_dict(),
            "class_counts": counts,
            "history": history,
        }
    )
    return values


def save(pipeline: Any, output: str | None, onnx: str | None, metadata: dict[str, Any]) -> None:
    """Write the files that were asked for."""
    if output is not None:
        from luce import model_file

        with writing(output):
            model_file.save(pipeline, output, metadata=metadata)
    if onnx is not None:
        from luce.onnx_export import to_onnx

        with writing(onnx):
            to_onnx(pipeline, onnx)
