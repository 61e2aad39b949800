"""`luce report`: a page that shows a saved model and how well it does."""

from __future__ import annotations

import sys
from threading import Timer
from typing import TYPE_CHECKING

import click

from luce.cli import options
from luce.cli.console import Output, about
from luce.cli.outputs import check_writable, writing

if TYPE_CHECKING:
    from luce.report.subject import Subject


@click.command()
@click.argument("model", metavar="MODEL")
@click.argument("data", metavar="DATA")
@click.option(
    "--output",
    "-o",
    metavar="FILE",
    default="report.html",
    show_default=True,
    help="The page; - is stdout.",
)
@options.target("The labels; by default the column that the model was fitted on.")
@options.common
def report(model: str, data: str, output: str, target: str | None, quiet: bool) -> None:
    """Show MODEL, measured on the labelled rows of DATA, on one HTML page.

    Of the data that MODEL was fitted on, the rows that were held out are measured. Where DATA brings its own
    test part (MNIST's t10k files in a folder, x_test in an NPZ file), that part is.

    The page is one file and needs no network.
    """
    from luce import model_file
    from luce.cli.models import open_model
    from luce.data import sources
    from luce.report.subject import subject_of

    out = Output(quiet)
    check_writable(output)
    pipeline, stored = open_model(model)
    dataset = sources.read(data, target=target, layout=stored.layout)
    for note in dataset.notes:
        out.remark(note)
    subject = subject_of(pipeline, dataset, model_file.read_metadata(model))
    with about(dataset.name):
        write_page(subject, output, out)


def write_page(subject: Subject, output: str, out: Output) -> None:
    """Measure a subject, write its page, and say so."""
    from luce.files import written_whole
    from luce.report import render

    patience = Timer(2.0, out.remark, [f"measuring {len(subject.data):,} rows and drawing"])
    patience.start()
    try:
        with out.collecting_warnings():
            page = render(subject).encode()
    finally:
        patience.cancel()
    with writing(output):
        if output == "-":
            sys.stdout.buffer.write(page)
            return
        with written_whole(output) as file:
            file.write(page)
    out.remark(f"the page is in {output} ({len(page) / 1000:,.0f} kB): open it in a browser")
