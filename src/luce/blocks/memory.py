"""How much memory a fit may use."""

from __future__ import annotations

import os
import re
from typing import Any

from luce.errors import InputError

_SIZE = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([kmgt]?)(i?)b?\s*", re.IGNORECASE)


def as_bytes(memory: Any = None) -> int:
    """Return a size such as "1GiB", "500 MB" or 4096 in bytes; None is a quarter of this machine's memory.

    Examples
    --------
    >>> as_bytes("1.5 KiB"), as_bytes("2MB")
    (1536, 2000000)
    """
    if memory is None:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 4
    found = _SIZE.fullmatch(str(memory))
    if found is None or not (size := _bytes(*found.groups())):
        raise InputError(f"memory = {memory!r}: pass bytes, or a size such as '1GiB' or '500MB'")
    return size


def _bytes(digits: str, unit: str, binary: str) -> int:
    power = " kmgt".index(unit.lower() or " ")
    return int(float(digits) * (1024**power if binary else 1000**power))
