"""Options that several commands share."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import Any

import click
from click.core import ParameterSource

Command = Callable[..., Any]

_OUTPUTS = {"output", "onnx", "report", "checkpoint", "every", "resume", "as_json", "quiet", "debug"}


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


def memory(command: Command) -> Command:
    """Add --memory."""
    return click.option(
        "--memory",
        metavar="SIZE",
        help="Memory that the data may take, such as 2GiB; larger data are read from disk in each pass. "
        "Beside it the program itself and each row, about 20 bytes, take some. By default a quarter of the "
        "machine's.",
    )(command)


def as_typed(ctx: click.Context) -> str:
    """Return the command that gives the same result again: what was typed, without where results went."""
    words = ["luce", ctx.info_name or ""]
    for parameter in ctx.command.params:
        name = parameter.name or ""
        value = ctx.params.get(name)
        if isinstance(parameter, click.Argument):
            words.append(str(value))
        elif name not in _OUTPUTS and ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            flag = max(parameter.opts, key=len)
            for each in value if isinstance(value, tuple) else [value]:
                words += [flag] if each is True else [flag, str(each)]
    return shlex.join(words)
