"""`luce check`: every version of the loss against numerical gradients, on this machine."""

from __future__ import annotations

import click

from luce.cli import options
from luce.cli.console import Output


@click.command()
@options.as_json
@options.common
@click.pass_context
def check(ctx: click.Context, as_json: bool, quiet: bool) -> None:
    """Check the loss and its gradient on this machine.

    The loops, the matrix form and the native kernels are held against each other and against numerical
    gradients.
    """
    from luce.cli import show
    from luce.loss.check import check_ladder

    rows = [rung._asdict() for rung in check_ladder()]
    Output(quiet, as_json).result({"command": "check", "rows": rows}, show.check)
    if not all(row["ok"] for row in rows):
        ctx.exit(1)
