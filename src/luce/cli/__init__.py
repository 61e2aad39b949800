"""The command line: parses, calls, prints; no mathematics.

Results go to stdout, all else to stderr. Exit codes: 0 done, 1 failure, 2 usage, 3 bad data or a bad model
file, 4 the fit ended above its tolerance, 130 interrupted. What a command needs is imported when it runs.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from typing import Any

import click

from luce.cli.check import check
from luce.cli.evaluate import evaluate
from luce.cli.fit import fit
from luce.cli.predict import predict
from luce.cli.report import report
from luce.errors import InputError, LuceError, ModelFileError


class Commands(click.Group):
    """Click's group, with every error turned into one message and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; no exception passes but Click's own."""
        if isinstance(sys.stdout, io.TextIOWrapper):
            # A terminal without Unicode shows "?" for a bar, which is no reason to fail.
            sys.stdout.reconfigure(errors="replace")
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
            return result
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except BrokenPipeError:  # the reader has seen enough, as in `luce predict ... | head`
            _silence_stdout()
            ctx.exit(0)
        except KeyboardInterrupt as error:
            _say(f"interrupted{': ' if str(error) else ''}{error}")
            ctx.exit(130)
        except Exception as error:
            if ctx.meta.get("luce.debug"):
                import traceback

                traceback.print_exception(error)
            else:
                _say(f"error: {_message(error)}")
            ctx.exit(3 if isinstance(error, InputError | ModelFileError) else 1)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order in which they are used."""
        return list(self.commands)


def _message(error: Exception) -> str:
    if isinstance(error, LuceError):
        return str(error)
    if isinstance(error, MemoryError):
        return f"out of memory ({error}); take fewer rows or columns".replace(" ()", "")
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or 'output'}: {error.strerror}"
    return f"unexpected {type(error).__name__}: {error}; run again with --debug and report what it prints"


def _say(message: str) -> None:
    from luce.cli.console import printable

    click.echo(f"luce: {printable(message)}", err=True)


def _silence_stdout() -> None:
    """Point stdout at nothing, so that Python's flush at exit does not fail again."""
    with contextlib.suppress(OSError, ValueError):  # stdout is no file under a test runner
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="luce", message="luce %(version)s")
def main() -> None:
    r"""Fit softmax classifiers whose distance from the optimum is proven.

    \b
    luce fit digits -o digits.luce            fit, measure, save
    luce predict digits.luce digits           predict, as CSV on stdout
    luce evaluate digits.luce digits          measure a saved model
    luce report digits.luce digits            show it on a page to look at

    DATA is a file (CSV, TSV, Parquet, Arrow, NPY, NPZ, libsvm, IDX; also compressed), a folder of images with
    a folder per class, or built in: digits, iris, wine, breast_cancer.

    \b
    Exit codes: 0 done, 1 failure, 2 usage, 3 bad data or model file,
                4 not converged, 130 interrupted
    """


for command in (fit, predict, evaluate, report, check):
    main.add_command(command)
