"""--checkpoint, --every and --resume: a fit that can be cut off."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from luce.cli.console import Output

if TYPE_CHECKING:
    from luce.checkpoint import Checkpoint
    from luce.data.dataset import Dataset

_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
# What decides where a fit goes; tol and max-iter only decide where it ends.
_DECISIVE = ("target", "valid", "test_size", "seed", "C", "l1_ratio", "class_weight", "solver", "text")


class Duration(click.ParamType[float]):
    """Seconds, or a number with s, m or h after it."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return seconds."""
        if isinstance(value, float):
            return value
        found = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+) *(s|m|min|h)?", str(value))
        if found is None:
            self.fail(f"{value!r} is no duration; write 90s, 5m or 1h", param, ctx)
        return float(found[1]) * _UNITS[found[2] or ""]


def checkpointed(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options."""
    for option in (
        click.option(
            "--resume",
            is_flag=True,
            help="Go on from the checkpoint, if there is one; --tol and --max-iter may differ from then.",
        ),
        click.option(
            "--every", type=Duration(), default="60s", metavar="TIME", help="Time between two checkpoints."
        ),
        click.option(
            "--checkpoint",
            metavar="DIR",
            help="Keep the state of the fit in this folder, so that a fit that was cut off can go on.",
        ),
    ):
        command = option(command)
    return command


def opened(ctx: click.Context, dataset: Dataset, out: Output) -> Checkpoint | None:
    """Return the checkpoint that was asked for, after a look at what is there."""
    from luce.checkpoint import Checkpoint
    from luce.data.large import content_of

    folder, resume = ctx.params["checkpoint"], ctx.params["resume"]
    if folder is None:
        return None
    flags = {parameter.name: parameter.opts[0] for parameter in ctx.command.params}
    checkpoint = Checkpoint(
        folder,
        ctx.params["every"],
        resume=resume,
        about={
            "the content of DATA": content_of(dataset),
            **{flags[name]: ctx.params[name] for name in _DECISIVE},
            "--target": dataset.layout.target,
        },
        say=out.remark,
        warn=out.warn,
    )
    if checkpoint.prepare() is None and resume:
        out.remark(f"no checkpoint in {folder} yet: the fit starts anew")
    return checkpoint


def check_usage(ctx: click.Context) -> None:
    """Refuse options that mean nothing without a checkpoint."""
    if ctx.params["checkpoint"] is None:
        for name in ("resume", "every"):
            if ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
                raise click.UsageError(f"--{name} needs --checkpoint DIR")


@contextmanager
def stoppable(checkpoint: Checkpoint | None) -> Iterator[None]:
    """Let SIGTERM, by which schedulers announce the end, interrupt a fit with a checkpoint as Ctrl-C does."""
    if checkpoint is None:
        yield
        return

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
