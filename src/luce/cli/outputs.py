"""Output files: checked before the work starts, written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from luce.errors import LuceError, ModelFileError


def check_writable(path: str | None) -> None:
    """Refuse an output path that cannot be written, before a long fit and not after it."""
    if path is None or path == "-":
        return
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise LuceError(f"{path}: is a folder; name a file in it")
    if target.exists() and not target.is_file():
        return  # a device or a pipe, such as /dev/null
    if not target.parent.is_dir():
        raise LuceError(
            f"{path}: there is no folder {target.parent}; make it first: mkdir -p {target.parent}"
        )
    with writing(path), tempfile.TemporaryFile(dir=target.parent) as probe:
        probe.write(b"luce")


@contextmanager
def writing(path: str) -> Iterator[None]:
    """Say which output failed, and that nothing was left half-written."""
    try:
        yield
    except BrokenPipeError:
        raise
    except ModelFileError as error:  # while writing, it is no fault of a file that was given
        raise LuceError(str(error)) from error
    except OSError as error:
        raise LuceError(
            f"{path}: cannot be written: {error.strerror or error}; nothing was left there: "
            "check permission and space, or choose another place"
        ) from error
