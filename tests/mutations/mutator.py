"""Damage to small valid files: of bytes, of lines, and of the values in them.

A mutant is a function of its seed files and a number, so that one that fails can be made again.
"""

from __future__ import annotations

import gzip
import io
import json
import random
import re
from collections.abc import Callable, Sequence

# A quoted text, a number or a word, with the quotes.
_TOKEN = re.compile(rb'"(?:[^"\\\n]|\\.)*"|-?\d+(?:\.\d+)?|[A-Za-z_]\w*')

_VALUES: tuple[bytes, ...] = (
    *(b"", b"null", b"~", b"true", b"no", b"0", b"-1", b"3", b"1.5", b'""', b'" "', b"[]", b"{}"),
    *(b"NaN", b"nan", b".nan", b".inf", b"-Infinity", b"1e999", b'"inf"', b"1.0e+999", b"1e-400"),
    *(b"9" * 40, b"9" * 5000, b"-" + b"9" * 5000, b"0x" + b"f" * 5000, b"190:" * 900 + b"1"),
    *(b"9223372036854775808", b"2147483648", b"1_000", b"0o17", b"017", b"1e60", b"2001-99-99"),
    *(b'"\\ud800"', b'"a\\udfff"', b'"\\u0000"', b'"a\\u0000b"', b"\xed\xa0\x80", b"\0", b"\xff"),
    *(b"[" * 300, b"[" * 90_000, b'{"a":' * 1200, b"- " * 500, b"? " * 300, b"[" * 99 + b"]" * 99),
    *(b'"' + b"x" * 1100 + b'"', b'"' + b"y" * 140_000 + b'"', b'"\xe2\x80\xa8"', b'"\\u200d"'),
    *(b"[1, 2]", b'["a", 1]', b'{"a": 1}', b'{"a": 1, "a": 2}', b"[[[]]]", b"*a", b"&a x", b"<<"),
    *(b"!!binary x", b"!!set {a}", b"!!python/object:os.system x", b"%TAG", b"---", b"...", b"'"),
    *(b"../../etc/passwd", b'"~nobody_/x"', b"/dev/zero", b"\r", b"\r\n", b"\xef\xbb\xbf", b'"'),
    *(b"#", b"####", b"#### 1e9", b"line-1", b"def", b"(", b"\\\\", b'"[[("', b"{question}", b"{}"),
)
_WIDE = b"\x00\xff\x7f\x80\x01\xed\xa0\xc0\n\"'{}[]:,\\"


def mutant(seeds: Sequence[bytes], number: int) -> bytes:
    """The ``number``-th mutant of a loader's seeds: one with one to six changes."""
    rng = random.Random(number)
    data = rng.choice(seeds)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        data = rng.choice(_CHANGES)(data, rng, seeds)
    return data


def gzipped(data: bytes, number: int) -> bytes:
    """Of even numbers the packed data; of odd ones with a damaged packing."""
    packed = gzip.compress(data, mtime=0)
    return packed if number % 2 == 0 else mutant([packed], number)


def parquet(data: bytes, number: int) -> bytes:
    """Rows of (damaged) JSON lines as Parquet; of odd numbers, and where none fit, damaged."""
    import pyarrow
    from pyarrow import parquet as format_

    buffer = io.BytesIO()
    rows, codec = [], ("none", "snappy", "gzip", "zstd")[number // 2 % 4]
    for line in data.split(b"\n"):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        rows += [row] if isinstance(row, dict) else []
    try:
        format_.write_table(pyarrow.Table.from_pylist(rows), buffer, compression=codec)
    except (pyarrow.ArrowException, ArithmeticError, TypeError, ValueError):
        return data
    packed = buffer.getvalue()
    if number % 2 == 0:
        return packed
    # A byte is changed in place: whatever changes the length breaks the end of the file.
    rng = random.Random(number)
    changed = bytearray(packed)
    for _ in range(rng.choice((1, 1, 2))):
        changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed)


def _flip(data: bytes, rng: random.Random, seeds: Sequence[bytes]) -> bytes:
    if not data:
        return b"\0"
    at = rng.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]


def _insert(data: bytes, rng: random.Random, seeds: Sequence[bytes]) -> bytes:
    at = rng.randint(0, len(data))
    return data[:at] + bytes(rng.choices(_WIDE, k=rng.randint(1, 4))) + data[at:]


def _delete(data: bytes, rng: random.Random, seeds: Sequence[bytes]) -> bytes:
    start, stop = _slice(data, rng)
    return data[:start] + data[stop:]


def _repeat(data: bytes, rng: random.Random, seeds: Sequence[bytes]) -> bytes:
    start, stop = _slice(data, rng)
    return data[:stop] + data[start:stop] * rng.choice((1, 1, 2, 30)) + data[stop:]


def _truncate(data: bytes, rng: random.Random, seeds: Sequence[bytes]) -> bytes:
    return data[: rng.randint(0, len(data))]


def _splice(data: bytes, rng: random.Random, seeds: Sequence[bytes]) -> bytes:
    other = rng.choice(seeds)
    return data[: rng.randint(0, len(data))] + other[rng.randint(0, len(other)) :]


def _lines(data: bytes, rng: random.Random, seeds: Sequence[bytes]) -> bytes:
    """Two lines change places, or one is repeated or lost."""
    lines = data.split(b"\n")
    one, other = rng.randrange(len(lines)), rng.randrange(len(lines))
    change = rng.randrange(3)
    if change == 0:
        lines[one], lines[other] = lines[other], lines[one]
    elif change == 1:
        lines.insert(other, lines[one])
    else:
        del lines[one]
    return b"\n".join(lines)


def _value(data: bytes, rng: random.Random, seeds: Sequence[bytes]) -> bytes:
    """A token becomes one that is hard to read."""
    return _replace(data, rng, rng.choice(_VALUES))


def _token(data: bytes, rng: random.Random, seeds: Sequence[bytes]) -> bytes:
    """A token becomes another one of the seeds: a key or a value at the wrong place."""
    tokens = _TOKEN.findall(rng.choice(seeds)) or [b"x"]
    return _replace(data, rng, rng.choice(tokens))


def _replace(data: bytes, rng: random.Random, new: bytes) -> bytes:
    places = [found.span() for found in _TOKEN.finditer(data)] or [(0, len(data))]
    start, stop = rng.choice(places)
    return data[:start] + new + data[stop:]


def _slice(data: bytes, rng: random.Random) -> tuple[int, int]:
    start = rng.randint(0, len(data))
    return start, min(len(data), start + rng.choice((1, 2, 5, 20, 100)))


_CHANGES: tuple[Callable[[bytes, random.Random, Sequence[bytes]], bytes], ...] = (
    *(_flip, _insert, _delete, _repeat, _truncate, _splice, _lines),
    # Most bytes are inside of values, whose types matter more than their letters.
    *(_value, _value, _value, _value, _token, _token),
)
