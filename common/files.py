"""Files from users: read whole as bytes, text or JSON, or refused with the reason.

This is the one place where failures of the file system, gzip, UTF-8 and JSON become
:class:`~common.errors.UserError`; ``common.config.yaml_file`` and ``common.corpora.tables`` build
on it for YAML, CSV and Parquet.
"""

from __future__ import annotations

import codecs
import gzip
import stat
import zlib
from pathlib import Path
from typing import Any

from common.errors import UserError, shown

# Of the content, unpacked: a small gzip file can expand a thousandfold.
MAX_BYTES = 2**30


def read_bytes(path: Path, limit: int | None = None) -> bytes:
    """The content of a file, unpacked if its name ends in ``.gz``.

    Args:
        path: a regular file; a device or a pipe may never end.
        limit: most bytes of the content; none: ``MAX_BYTES``.

    Raises:
        UserError: the file is missing, unreadable, damaged, too large or not a regular file.
    """
    limit = MAX_BYTES if limit is None else limit
    try:
        is_regular = stat.S_ISREG(path.stat().st_mode)
        data = _head(path, limit + 1) if is_regular else b""
    except (OSError, ValueError, EOFError, zlib.error) as error:
        # A path with a NUL is a ValueError.
        reason = getattr(error, "strerror", None) or error
        hint = "; check the path" if isinstance(error, FileNotFoundError) else ""
        raise UserError(f"{path}: cannot be read ({reason}){hint}") from error
    if not is_regular:
        kind = "a folder" if path.is_dir() else "a device or a pipe"
        raise UserError(f"{path}: cannot be read ({kind}, not a file)")
    if len(data) > limit:
        raise UserError(f"{path}: over {limit} bytes of content, too large; split or shorten it")
    return data


def read_text(path: Path, limit: int | None = None) -> str:
    """The text of a UTF-8 file, without a byte order mark; see :func:`read_bytes`.

    Raises:
        UserError: as there, or the content is not text.
    """
    data = read_bytes(path, limit).removeprefix(codecs.BOM_UTF8)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: not UTF-8 text (byte {error.start}); save it in that encoding"
        ) from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise UserError(f"{path}: not text (line {line} has a NUL character); save it as UTF-8")
    return text


def parse_json(text: str) -> Any:
    """A JSON value, by the letter of RFC 8259.

    The standard library would accept NaN, lone surrogates, which nothing can encode, and repeated
    keys, of which it loses all but the last; deep nesting overflows its stack.

    Raises:
        ValueError: the text is not such a value, or is nested over 200 levels deep; the message
            ends with line and column.
    """
    import jiter

    return jiter.from_json(text.encode(), allow_inf_nan=False, catch_duplicate_keys=True)


def read_json(path: Path) -> Any:
    """The value in a JSON file.

    Raises:
        UserError: the file cannot be read or is not JSON.
    """
    text = read_text(path)
    try:
        return parse_json(text)
    except ValueError as error:
        raise UserError(f"{path}: not JSON: {shown(str(error))}") from error


def _head(path: Path, size: int) -> bytes:
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        return file.read(size)
