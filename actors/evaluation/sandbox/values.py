"""Plain data as JSON: all that passes between a solution and its tests.

A value keeps its type where it is a number, a string or one of Python's collections; a
subclass becomes its base, other iterables an iterator over their items, and any other
object one that equals nothing and keeps only its truth. No code crosses, so a
solution cannot answer with an object that claims to equal everything.
"""

import json
from collections.abc import Callable, Iterable, Set
from decimal import Decimal
from fractions import Fraction
from typing import Any

# The first that fits is taken.
_COLLECTIONS = (
    ("list", list),
    ("tuple", tuple),
    ("set", set),
    ("frozenset", Set),
    ("iterator", Iterable),
)
_MAKE: dict[str, Callable[[Any], Any]] = {
    "list": list,
    "tuple": tuple,
    "set": set,
    "frozenset": frozenset,
    "iterator": iter,
}
_READ: dict[str, Callable[[str], Any]] = {
    "bytes": bytes.fromhex,
    "Decimal": Decimal,
    "Fraction": Fraction,
}


class Opaque:
    """What remains of an object that is no plain data."""

    def __init__(self, truth: bool) -> None:
        self._truth = truth

    def __bool__(self) -> bool:
        return self._truth


def dumps(value: Any) -> bytes:
    """One line."""
    return json.dumps(_encode(value)).encode() + b"\n"


def loads(line: bytes) -> Any:
    """The value of a line.

    Raises:
        ValueError, TypeError, LookupError, ArithmeticError, RecursionError: it is not one
            of :func:`dumps`.
    """
    return _decode(json.loads(line))


def _encode(value: Any) -> Any:
    if value is None or isinstance(value, (int, float, str)):
        return value
    if isinstance(value, dict):
        return ["dict", [[_encode(key), _encode(item)] for key, item in value.items()]]
    if isinstance(value, complex):
        return ["complex", [value.real, value.imag]]
    if isinstance(value, (bytes, bytearray)):
        return ["bytes", value.hex()]
    if isinstance(value, (Decimal, Fraction)):
        return ["Decimal" if isinstance(value, Decimal) else "Fraction", str(value)]
    for name, kind in _COLLECTIONS:
        if isinstance(value, kind):
            return [name, [_encode(item) for item in value]]
    return ["object", bool(value)]


def _decode(value: Any) -> Any:
    if not isinstance(value, list):
        return value
    name, content = value
    if name == "dict":
        return {_decode(key): _decode(item) for key, item in content}
    if name == "complex":
        return complex(*content)
    if name == "object":
        return Opaque(bool(content))
    if name in _READ:
        return _READ[name](content)
    return _MAKE[name](map(_decode, content))
