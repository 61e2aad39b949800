"""What is printed, and where: results on stdout, remarks on stderr."""

from __future__ import annotations

import json
import math
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from luce.errors import DataFileError, InputError

SCHEMA_VERSION = 1


def printable(text: object) -> str:
    r"""Return text from a file with control characters spelled out, so that it cannot steer the terminal.

    Examples
    --------
    >>> printable("a\x1b[2Jb")
    'a\\x1b[2Jb'
    """
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in str(text))


@dataclass(frozen=True)
class Output:
    """Where a command prints; `--quiet` silences all but warnings, `--json` replaces the tables."""

    quiet: bool = False
    as_json: bool = False

    def remark(self, text: str) -> None:
        """Say on stderr what the user may want to know."""
        if not self.quiet:
            print(f"luce: {printable(text)}", file=sys.stderr)

    def warn(self, text: str) -> None:
        """Say on stderr what the user must know."""
        print(f"luce: warning: {printable(text)}", file=sys.stderr)

    def result(self, values: dict[str, Any], show: Any) -> None:
        """Print the result as JSON, or as `show(console, values)` lays it out."""
        if self.as_json:
            print(json.dumps({"schema_version": SCHEMA_VERSION, **plain(values)}, allow_nan=False))
        elif not self.quiet:
            from rich.console import Console

            show(Console(highlight=False, markup=False, emoji=False), values)

    @contextmanager
    def collecting_warnings(self) -> Iterator[list[warnings.WarningMessage]]:
        """Collect Python warnings and print each distinct one when the block ends."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                yield caught
            finally:
                told = [w for w in caught if issubclass(w.category, UserWarning | RuntimeWarning)]
                for text in dict.fromkeys(str(w.message) for w in told):
                    self.warn(text)


@contextmanager
def about(source: str) -> Iterator[None]:
    """Name the source of the data in errors that know only the column and the row."""
    try:
        yield
    except DataFileError:
        raise
    except InputError as error:
        raise DataFileError(f"{source}: {error}") from error


def plain(value: Any) -> Any:
    """Return a value as JSON can hold it: NumPy numbers as Python's, NaN and infinities as None."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
