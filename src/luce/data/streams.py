"""Bytes from files: decompressed by their magic numbers, checked to be UTF-8, hashed."""

from __future__ import annotations

import codecs
import hashlib
import io
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, cast

from luce.errors import DataFileError, LuceError

CHUNK = 1 << 20
STDIN = "-"


@contextmanager
def reading(name: str) -> Iterator[None]:
    """Turn whatever a file format's library raises on a broken file into one `DataFileError`.

    Those libraries promise no closed set of exceptions, so all of `Exception` is caught here; wrap
    only calls into them, so that an error of our own making is not passed off as a bad file.
    """
    try:
        yield
    except LuceError:
        raise
    except FileNotFoundError:
        raise DataFileError(f"{name}: no such file; check the path") from None
    except PermissionError as error:
        raise DataFileError(f"{name}: no permission to read it; try chmod +r") from error
    except EOFError as error:
        raise DataFileError(f"{name}: the file ends too early; copy or download it again") from error
    except MemoryError as error:
        raise DataFileError(f"{name}: needs more memory than there is, or its header is broken") from error
    except Exception as error:
        what = " ".join(str(error).split()) or type(error).__name__
        raise DataFileError(
            f"{name}: cannot be read: {what[:300].rstrip('.')}; is the file complete?"
        ) from error


@contextmanager
def open_bytes(path: str) -> Iterator[IO[bytes]]:
    """Open a file, or standard input for ``-``, decompressing gzip, bzip2 and xz by what they contain."""
    with ExitStack() as stack:
        with reading(path):
            if path == STDIN:
                stream = _decompressed(io.BufferedReader(_Unseekable(sys.stdin.buffer)))
            elif Path(path).is_dir():
                raise DataFileError(f"{path}: is a folder, where a file was expected")
            else:
                stream = _decompressed(stack.enter_context(open(path, "rb")))
        yield stream


class _Unseekable(io.RawIOBase):
    """Standard input as a raw stream: `peek` then works on pipes, and closing it leaves stdin open."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer)  # type: ignore[arg-type]
        data = self._stream.read(len(view))
        view[: len(data)] = data
        return len(data)


def _decompressed(stream: io.BufferedReader[Any]) -> IO[bytes]:
    magic = stream.peek(6)[:6]
    if magic[:2] == b"\x1f\x8b":
        import gzip

        return cast("IO[bytes]", gzip.GzipFile(fileobj=stream))
    if magic[:3] == b"BZh":
        import bz2

        return bz2.BZ2File(stream)
    if magic == b"\xfd7zXZ\x00":
        import lzma

        return lzma.LZMAFile(stream)
    return stream


def read_at_most(stream: IO[bytes], size: int) -> bytes:
    """Read up to `size` bytes without first allocating `size`, which a hostile header may have made huge."""
    parts = []
    while size > 0 and (part := stream.read(min(size, CHUNK))):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def fingerprint(*paths: str | Path) -> str:
    """SHA-256 over the bytes of the files, as stored.

    Examples
    --------
    >>> fingerprint()
    'sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'
    """
    digest = hashlib.sha256()
    for path in paths:
        with reading(str(path)), open(path, "rb") as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
    return f"sha256:{digest.hexdigest()}"


class Utf8(io.RawIOBase):
    """A byte stream that is certain to be UTF-8: a byte order mark is dropped, UTF-16 is converted.

    Parameters
    ----------
    stream : binary file
    name : str
        Used in messages.

    Attributes
    ----------
    head : str
        The first `CHUNK` bytes as text, to guess the format from; reading starts before them.
    fingerprint : str
        SHA-256 of the (decompressed) bytes read so far.
    """

    def __init__(self, stream: IO[bytes], name: str) -> None:
        self._stream, self._name = stream, name
        self._row, self._offset = 1, 0
        self._hash = hashlib.sha256()
        with reading(name):
            first = read_at_most(stream, CHUNK)
        self._hash.update(first)
        self._encoding = "utf-16" if first[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8"
        if first.startswith(codecs.BOM_UTF8):
            first = first[3:]
            self._offset = 3
        self._decoder = codecs.getincrementaldecoder(self._encoding)()
        self._pending = self._checked(first).lstrip(b"\r\n")
        self.head = self._pending.decode("utf-8", errors="ignore")
        if "\0" in self.head:
            raise DataFileError(f"{name}: holds NUL bytes: it is binary or UTF-16 without a byte order mark")

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the bytes read so far."""
        return f"sha256:{self._hash.hexdigest()}"

    def readable(self) -> bool:
        """True: the stream can be read."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Return up to `size` bytes of UTF-8, all of the rest for -1; b"" at the end."""
        parts, have = [], 0
        while size < 0 or have < size:
            if not self._pending:
                with reading(self._name):
                    raw = self._stream.read(CHUNK)
                self._hash.update(raw)
                self._pending = self._checked(raw)
                if not raw:
                    break
            part = self._pending if size < 0 else self._pending[: size - have]
            self._pending = self._pending[len(part) :]
            parts.append(part)
            have += len(part)
        return b"".join(parts)

    def readinto(self, buffer: object) -> int:
        """Fill `buffer`; the number of bytes written."""
        view = memoryview(buffer)  # type: ignore[arg-type]
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)

    def _checked(self, raw: bytes) -> bytes:
        held = len(self._decoder.getstate()[0])  # bytes of a character that the last chunk cut in two
        try:
            text = self._decoder.decode(raw, final=not raw)
        except UnicodeDecodeError as error:
            byte = error.object[error.start]
            row = self._row + error.object[: error.start].count(b"\n")
            raise DataFileError(
                f"{self._name}: line {row} (byte {self._offset - held + error.start}) is not "
                f"{self._encoding.upper()}: 0x{byte:02x}; if it was saved by a spreadsheet, convert it: "
                f"iconv -f WINDOWS-1252 -t UTF-8 {self._name} > utf8.csv"
            ) from None
        self._offset += len(raw)
        self._row += raw.count(b"\n")
        if self._encoding == "utf-8" and not held and not self._decoder.getstate()[0]:
            return raw  # the common case: nothing was cut, so no second copy is made
        return text.encode("utf-8")
