"""Operations on the digits of a whole number: seven that are trained, twenty that are not.

The trained operations are named by arbitrary letters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

PRIME_DIGITS = frozenset({2, 3, 5, 7})


def digits(number: int) -> list[int]:
    """Digits from the left; 0 has one."""
    return [int(digit) for digit in str(number)]


Rule = Callable[[list[int]], int]

# Rules are functions of the digits from the left.
TRAINED: dict[str, Rule] = {
    "B": lambda d: sum((x - min(d)) ** 2 for x in d),
    "C": lambda d: abs(sum(x * x for x in d[::2]) - sum(x * x for x in d[1::2])),
    "D": lambda d: sum(x * x if x in PRIME_DIGITS else x for x in d),
    "E": lambda d: sum(x * y for x, y in zip(d, reversed(d), strict=True)),
    "F": lambda d: sum(max(d[: end + 1]) for end in range(len(d))),
    "G": lambda d: sum(sum(range(x + 1)) for x in d),
    "H": lambda d: min(_joined(d[start:] + d[:start]) for start in range(len(d))),
}

UNSEEN: dict[str, Rule] = {
    "digit sum": sum,
    "product of the non-zero digits": lambda d: math.prod(x for x in d if x),
    "number of digits": len,
    "largest digit": max,
    "smallest digit": min,
    "first digit": lambda d: d[0],
    "last digit": lambda d: d[-1],
    "range of the digits": lambda d: max(d) - min(d),
    "reversal": lambda d: _joined(d[::-1]),
    "first plus last digit": lambda d: d[0] + d[-1],
    "number of even digits": lambda d: sum(x % 2 == 0 for x in d),
    "number of odd digits": lambda d: sum(x % 2 for x in d),
    "number of distinct digits": lambda d: len(set(d)),
    "digital root": lambda d: 1 + (sum(d) - 1) % 9 if any(d) else 0,
    "sum of squares": lambda d: sum(x * x for x in d),
    "digits in ascending order": lambda d: _joined(sorted(d)),
    "digits in descending order": lambda d: _joined(sorted(d, reverse=True)),
    "number of zeros": lambda d: d.count(0),
    "twice the digit sum": lambda d: 2 * sum(d),
    "first times last digit": lambda d: d[0] * d[-1],
}


def _joined(d: Sequence[int]) -> int:
    return int("".join(map(str, d)))
