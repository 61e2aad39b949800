"""Files are written whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO


@contextmanager
def written_whole(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a binary file that takes its name only when the block ends well.

    The bytes go to a temporary name in the same folder, ``.luce-NAME-*.part``, are flushed to the disk
    and renamed; after an error or Ctrl-C the folder, and a file that stood at `path` before, are unchanged.
    What is no plain file (a pipe, ``/dev/stdout``) is written to directly.

    Raises
    ------
    OSError
        The folder is missing or may not be written to, or there is no space; nothing is left behind.

    Examples
    --------
    >>> with written_whole(getfixture("tmp_path") / "a.bin") as file:
    ...     n = file.write(b"luce")
    """
    target = os.path.realpath(path)  # a symbolic link stays one, and its target is replaced
    if os.path.exists(target) and not os.path.isfile(target):
        with open(target, "wb") as file:
            yield file
        return
    folder, name = os.path.split(target)
    temporary = os.path.join(folder, f".luce-{name[:40]}-{secrets.token_hex(8)}.part")
    try:
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise
