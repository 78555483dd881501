"""Recomputes a worked solution in the paper's wording from its text, line by line.

As in ``check_ours``, lines are read by patterns, their arithmetic is evaluated, and their
numbers are traced to the digits or to the lines above.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from common.corpora.kgfunc.arithmetic import evaluate, numbers
from common.corpora.kgfunc.operations import TRAINED, digits
from common.errors import shown

_MAX_LINE = 400
_LEADING_ZERO = re.compile(r"(?<!\d)0\d")
_LIST = r"(\d+(?:, \d+)*)"
_SUM = r"(\d+(?: \+ \d+)*)"

# A pattern of a line, and what must hold of its match.
_Line = tuple[str, Callable[[re.Match[str]], bool]]


def check(label: str, number: int, solution: str) -> list[str]:
    """Problems of one solution, each with its line number."""
    wanted = _Reader(label, number, digits(number)).lines()
    lines = solution.split("\n")
    problems = [
        f"line {index} is wrong: {shown(line)}"
        for index, (line, form) in enumerate(zip(lines, wanted, strict=False), start=1)
        if not _is_right(line, *form)
    ]
    if len(lines) != len(wanted):
        problems.append(f"{len(lines)} lines; {len(wanted)} are needed")
    return problems


def _is_right(line: str, pattern: str, holds: Callable[[re.Match[str]], bool]) -> bool:
    if len(line) > _MAX_LINE or _LEADING_ZERO.search(line):
        return False
    match = re.fullmatch(pattern, line, re.ASCII)
    return match is not None and holds(match)


@dataclass
class _Reader:
    """``values`` are the terms of the result, from the lines above it."""

    label: str
    number: int
    d: list[int]
    values: list[int] = field(default_factory=list)

    def lines(self) -> list[_Line]:
        """The lines of a solution, in order."""
        opening: _Line = (rf"The digits of (\d+) are \[{_LIST}\]\.", self._digits)
        if self.label == "H":
            opening = (r'The digit string of (\d+) is "(\d+)"\.', self._string)
        end: list[_Line] = [("", bool), (r"\\boxed\{(\d+)\}", self._is_result)]
        return [opening, *self._steps(), self._result(), *end]

    def _steps(self) -> list[_Line]:
        each = len(self.d)
        match self.label:
            case "B":
                step: _Line = (r"(\((\d) - (\d)\)\^2) = (\d+)", self._deviation)
                return [(r"Min digit = (\d)", self._smallest), *[step] * each]
            case "C":
                powers, squares = r"(\d\^2(?: [+-] \d\^2)*)", r"(\d+(?: [+-] \d+)*)"
                name = "Alternating sum of squares"
                return [(rf"{name} = {powers} = {squares} = (-?\d+)", self._alternating)]
            case "D":
                step = (r"(\d) is prime: (\1\^2) = (\d+)|(\d) is not prime: (\4)", self._prime)
                return [step] * each
            case "E":
                products = rf"(\d\*\d(?: \+ \d\*\d)*) = {_SUM} = (\d+)"
                return [(rf"Reversed: \[{_LIST}\]", self._reversed), (products, self._products)]
            case "F":
                return [(rf"Running max: {_LIST}", self._maxima)]
            case "G":
                step = (r"T\((\d)\) = (\1\*(\d+)/2) = (\d+)", self._triangular)
                return [step] * each
            case _:
                return [(rf"Rotations: {_LIST}", self._rotations)]

    def _result(self) -> _Line:
        begins = rf"{self.label}\({self.number}\) = "
        match self.label:
            case "C":
                return rf"{begins}\|(-?\d+)\| = (\d+)", self._absolute
            case "E":
                return rf"{begins}(\d+)", self._is_result
            case "H":
                return rf"{begins}min\({_LIST}\) = (\d+)", self._minimum
            case _:
                return rf"{begins}{_SUM} = (\d+)", self._sum

    def _digits(self, match: re.Match[str]) -> bool:
        return int(match[1]) == self.number and numbers(match[2]) == self.d

    def _string(self, match: re.Match[str]) -> bool:
        return int(match[1]) == self.number == int(match[2])

    def _smallest(self, match: re.Match[str]) -> bool:
        return int(match[1]) == sorted(self.d)[0]

    def _deviation(self, match: re.Match[str]) -> bool:
        step, digit, smallest, value = match.groups()
        return self._adds(digit, step, value) and int(smallest) == sorted(self.d)[0]

    def _prime(self, match: re.Match[str]) -> bool:
        said_prime = match[1] is not None
        digit, step, value = match.groups()[:3] if said_prime else (match[4], match[5], match[5])
        is_prime = int(digit) > 1 and all(int(digit) % factor for factor in range(2, int(digit)))
        return self._adds(digit, step, value) and is_prime == said_prime

    def _triangular(self, match: re.Match[str]) -> bool:
        digit, step, following, value = match.groups()
        return self._adds(digit, step, value) and int(following) == int(digit) + 1

    def _adds(self, digit: str, step: str, value: str) -> bool:
        """Whether the step is of the next digit and has this value."""
        place = len(self.values)
        self.values.append(int(value))
        return int(digit) == self.d[place] and evaluate(step) == int(value)

    def _alternating(self, match: re.Match[str]) -> bool:
        powers, squares, raw = match.groups()
        self.values = [int(raw)]
        signs = ["-+"[place % 2] for place in range(len(self.d) - 1)]
        return (
            numbers(powers.replace("^2", "")) == self.d
            and numbers(squares) == [digit * digit for digit in self.d]
            and re.findall(r" ([+-]) ", powers) == re.findall(r" ([+-]) ", squares) == signs
            and evaluate(powers) == evaluate(squares) == int(raw)
        )

    def _reversed(self, match: re.Match[str]) -> bool:
        return numbers(match[1]) == list(reversed(self.d))

    def _products(self, match: re.Match[str]) -> bool:
        products, values, total = match.groups()
        factors = numbers(products)
        return (
            factors[::2] == self.d
            and factors[1::2] == list(reversed(self.d))
            and numbers(values) == [evaluate(product) for product in products.split(" + ")]
            and evaluate(values) == int(total)
        )

    def _maxima(self, match: re.Match[str]) -> bool:
        self.values = numbers(match[1])
        return self.values == [sorted(self.d[: end + 1])[-1] for end in range(len(self.d))]

    def _rotations(self, match: re.Match[str]) -> bool:
        self.values = numbers(match[1])
        twice, length = "".join(map(str, self.d * 2)), len(self.d)
        return self.values == [int(twice[start : start + length]) for start in range(length)]

    def _sum(self, match: re.Match[str]) -> bool:
        return numbers(match[1]) == self.values and evaluate(match[1]) == int(match[2])

    def _absolute(self, match: re.Match[str]) -> bool:
        return [int(match[1])] == self.values and int(match[2]) == abs(int(match[1]))

    def _minimum(self, match: re.Match[str]) -> bool:
        return numbers(match[1]) == self.values and int(match[2]) == sorted(self.values)[0]

    def _is_result(self, match: re.Match[str]) -> bool:
        return int(match[1]) == TRAINED[self.label](self.d)
