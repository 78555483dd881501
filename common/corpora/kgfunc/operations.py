"""Operations on the digits of a whole number, and worked solutions of seven of them.

The seven trained operations are named by arbitrary letters. A worked solution
executes the rule line by line in a fixed wording, which ``check`` can parse.
The twenty unseen operations have no solution: they are only evaluated.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

_PRIME_DIGITS = frozenset({2, 3, 5, 7})


def digits(number: int) -> list[int]:
    """Digits from the left; 0 has one."""
    return [int(digit) for digit in str(number)]


def solve(label: str, number: int) -> str:
    """The worked solution, one step a line; its last line boxes the result."""
    return "\n".join(_steps(label, number))


def _steps(label: str, number: int) -> Iterator[str]:
    d = digits(number)
    yield f"The digits of {number} are {_listed(d)}."
    if label == "H":
        yield from _rotations(d)
        return
    if label == "B":
        yield f"The smallest digit is {min(d)}."
    if label == "E":
        yield f"Read backwards, the digits are {_listed(d[::-1])}."
    values = []
    for place, digit in enumerate(d, start=1):
        step, value = _term(label, d, place)
        values.append(value)
        yield f"Digit {place}, {digit}: {step}."
    if label == "C":
        signed = [value if place % 2 == 0 else -value for place, value in enumerate(values)]
        terms = "".join(f" {'+' if place % 2 == 0 else '-'} {v}" for place, v in enumerate(values))
        yield f"Sum: {terms.removeprefix(' + ')} = {sum(signed)}."
        result = abs(sum(signed))
        yield f"Absolute value: |{sum(signed)}| = {result}."
    else:
        result = sum(values)
        yield f"Sum: {' + '.join(map(str, values))} = {result}."
    yield _answer(result)


def _term(label: str, d: Sequence[int], place: int) -> tuple[str, int]:
    """What one digit contributes: the step as text, and its value."""
    digit = d[place - 1]
    if label == "B":
        value = (digit - min(d)) ** 2
        return f"({digit} - {min(d)})^2 = {value}", value
    if label == "C":
        return f"{digit}^2 = {digit**2}", digit**2
    if label == "D":
        if digit in _PRIME_DIGITS:
            return f"prime, {digit}^2 = {digit**2}", digit**2
        return f"not prime, {digit} = {digit}", digit
    if label == "E":
        other = d[len(d) - place]
        return f"{digit} * {other} = {digit * other}", digit * other
    if label == "F":
        largest = max(d[:place])
        return f"largest so far = {largest}", largest
    assert label == "G", f"no operation {label}"
    value = digit * (digit + 1) // 2
    return f"{digit} * ({digit} + 1) / 2 = {value}", value


def _rotations(d: Sequence[int]) -> Iterator[str]:
    values = []
    for start in range(len(d)):
        text = "".join(map(str, [*d[start:], *d[:start]]))
        values.append(int(text))
        yield f"Rotation {start + 1}: {text} = {int(text)}."
    yield f"Smallest: min({_listed(values)}) = {min(values)}."
    yield _answer(min(values))


def _answer(result: int) -> str:
    return f"The answer is \\boxed{{{result}}}."


def _listed(values: Sequence[int]) -> str:
    return ", ".join(map(str, values))


# The rules themselves (DESIGN: d_1..d_n from the left), as functions of the digits.
TRAINED: dict[str, Callable[[list[int]], int]] = {
    "B": lambda d: sum((x - min(d)) ** 2 for x in d),
    "C": lambda d: abs(sum(x * x for x in d[::2]) - sum(x * x for x in d[1::2])),
    "D": lambda d: sum(x * x if x in _PRIME_DIGITS else x for x in d),
    "E": lambda d: sum(x * y for x, y in zip(d, reversed(d), strict=True)),
    "F": lambda d: sum(max(d[: end + 1]) for end in range(len(d))),
    "G": lambda d: sum(sum(range(x + 1)) for x in d),
    "H": lambda d: min(_joined(d[start:] + d[:start]) for start in range(len(d))),
}

UNSEEN: dict[str, Callable[[list[int]], int]] = {
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
