"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

Command = Callable[..., Any]


def _set_debug(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    ctx.meta["luce.debug"] = value


def common(command: Command) -> Command:
    """Add --quiet and --debug."""
    command = click.option(
        "--debug",
        is_flag=True,
        expose_value=False,
        callback=_set_debug,
        help="Show the traceback of an error.",
    )(command)
    return click.option("--quiet", "-q", is_flag=True, help="Print errors and warnings only.")(command)


def as_json(command: Command) -> Command:
    """Add --json."""
    return click.option(
        "--json",
        "as_json",
        is_flag=True,
        help="Print one JSON object with a schema_version instead of tables.",
    )(command)


def target(help: str) -> Callable[[Command], Command]:
    """Add --target."""
    return click.option("--target", metavar="COL", help=help)
