"""What crosses between a solution and its tests, and what cannot."""

from __future__ import annotations

import collections
import enum
import math
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.evaluation.sandbox import values

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.complex_numbers(allow_nan=False)
    | st.text(st.characters(exclude_categories=[]))
    | st.binary()
    | st.fractions()
    | st.decimals(allow_nan=False)
)
KEYS = SCALARS | st.tuples(SCALARS) | st.frozensets(SCALARS)
DATA = st.recursive(
    SCALARS | st.sets(SCALARS) | st.frozensets(SCALARS),
    lambda inner: (
        st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(KEYS, inner, max_size=3)
    ),
    max_leaves=10,
)


def _types(value: Any) -> Any:
    """The types of a value and its items, in order."""
    if isinstance(value, dict):
        return dict, [(_types(key), _types(item)) for key, item in value.items()]
    if isinstance(value, (list, tuple)):
        return type(value), [_types(item) for item in value]
    return type(value)


def _across(value: Any) -> Any:
    line = values.dumps(value)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    return values.loads(line)


@given(DATA)
def test_plain_data_arrives_as_it_was(value: Any) -> None:
    arrived = _across(value)
    assert arrived == value
    assert _types(arrived) == _types(value)


def test_floats_keep_their_sign_and_what_is_no_number() -> None:
    assert math.copysign(1, _across(-0.0)) == -1
    assert math.isnan(_across([math.nan])[0])
    assert _across(-math.inf) == -math.inf


def test_a_subclass_becomes_its_base() -> None:
    class Colour(enum.IntEnum):
        RED = 3

    class Word(str):
        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = str.__hash__

    point = collections.namedtuple("point", "x y")
    for value, plain in [
        (Colour.RED, 3),
        (Word("a"), "a"),
        (point(1, 2), (1, 2)),
        (collections.Counter("aab"), {"a": 2, "b": 1}),
        (collections.OrderedDict(a=1), {"a": 1}),
        (bytearray(b"x"), b"x"),
    ]:
        arrived = _across(value)
        assert arrived == plain
        assert type(arrived) is type(plain)
    assert _across(Word("a")) != "b"


def test_other_iterables_become_iterators_and_views_of_keys_sets() -> None:
    for value in (range(3), map(abs, [0, -1, -2]), collections.deque([0, 1, 2])):
        arrived = _across(value)
        assert arrived != [0, 1, 2]
        assert list(arrived) == [0, 1, 2]
    assert _across({"a": 1}.keys()) == {"a"}


def test_any_other_object_equals_nothing_and_keeps_its_truth() -> None:
    class Yes:
        def __init__(self, truth: bool) -> None:
            self.truth = truth

        def __eq__(self, other: object) -> bool:
            return True

        def __bool__(self) -> bool:
            return self.truth

        __hash__ = None  # type: ignore[assignment]

    assert _across(Yes(True)) != 1
    assert _across([Yes(True)]) != [1]
    assert bool(_across(Yes(True))) is True
    assert bool(_across(Yes(False))) is False


def test_numbers_of_the_library_stay_exact() -> None:
    assert _across(Fraction(1, 3)) == Fraction(1, 3)
    assert str(_across(Decimal("1.10"))) == "1.10"


@pytest.mark.parametrize(
    "line",
    [
        *(b"", b"{", b"[1]", b"[]", b"[[]]", b'["list", 3]', b'["set", [["list", []]]]'),
        *(b'["os", "system"]', b'["__import__", ["os"]]', b'["dict", [1]]', b'["bytes", "zz"]'),
        *(b'["Fraction", "1/0"]', b'["Decimal", "one"]', b'["complex", [1, 2, 3]]', b"\xff"),
        *(b"[" * 100_000, b'["list", [' * 5000 + b"]]" * 5000),
    ],
)
def test_a_line_that_holds_no_value_is_an_error(line: bytes) -> None:
    errors = (ValueError, TypeError, LookupError, ArithmeticError, RecursionError)
    with pytest.raises(errors):
        values.loads(line)
