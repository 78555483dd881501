"""Recomputes a worked solution in the project's own wording from its text, line by line.

Every line is read by a pattern, its arithmetic evaluated, its numbers traced to
the digits or to the lines above it, and the boxed result compared with the
rule. Nothing is shared with the writer of solutions but the wording.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from common.corpora.kgfunc.arithmetic import evaluate, numbers
from common.corpora.kgfunc.operations import TRAINED, digits
from common.errors import shown

# The longest line of a solution is far shorter; Python reads no integer of over 4,300 digits.
_MAX_LINE = 400
_EXTRA_LINE = {"B": "smallest digit", "E": "backwards", "C": "Absolute value"}


def check(label: str, number: int, solution: str) -> list[str]:
    """Problems of one solution, each with its line number."""
    reader = _Reader(label, digits(number))
    lines = solution.split("\n")
    problems = []
    for index, line in enumerate(lines, start=1):
        if not reader.accepts(line, is_first=index == 1, is_last=index == len(lines)):
            problems.append(f"line {index} is wrong: {shown(line)}")
    extra = _EXTRA_LINE.get(label, "")
    # Digits, one line each, their total, the answer, and what some operations add.
    expected = len(digits(number)) + 3 + bool(extra)
    if len(lines) != expected or extra not in solution:
        problems.append(f"{len(lines)} lines; {expected} are needed")
    return problems


@dataclass
class _Reader:
    label: str
    d: list[int]
    values: list[int] = field(default_factory=list)
    result: int | None = None

    def accepts(self, line: str, *, is_first: bool, is_last: bool) -> bool:
        if len(line) > _MAX_LINE:
            return False
        for pattern, judge in _LINES:
            match = pattern.fullmatch(line)
            if match is not None:
                in_place = (is_first, is_last) == (
                    judge is _Reader._opening,
                    judge is _Reader._answer,
                )
                return in_place and judge(self, match)
        return False

    def _opening(self, match: re.Match[str]) -> bool:
        return digits(int(match[1])) == self.d == numbers(match[2])

    def _smallest_digit(self, match: re.Match[str]) -> bool:
        first = self.label == "B" and not self.values
        return first and int(match[1]) == sorted(self.d)[0]

    def _backwards(self, match: re.Match[str]) -> bool:
        first = self.label == "E" and not self.values
        return first and numbers(match[1]) == list(reversed(self.d))

    def _digit(self, match: re.Match[str]) -> bool:
        place, digit, step, value = int(match[1]), int(match[2]), match[3], int(match[4])
        in_turn = place == len(self.values) + 1 <= len(self.d) and self.d[place - 1] == digit
        self.values.append(value)
        return in_turn and self._term(place, digit, step) and self._computes(place, step, value)

    def _term(self, place: int, digit: int, step: str) -> bool:
        """Whether the step is the operation's, of this digit."""
        prime = digit > 1 and all(digit % factor for factor in range(2, digit))
        return step == {
            "B": f"({digit} - {sorted(self.d)[0]})^2",
            "C": f"{digit}^2",
            "D": f"prime, {digit}^2" if prime else f"not prime, {digit}",
            "E": f"{digit} * {self.d[-place]}",
            "F": "largest so far",
            "G": f"{digit} * ({digit} + 1) / 2",
        }.get(self.label)

    def _computes(self, place: int, step: str, value: int) -> bool:
        if self.label == "F":
            return value == sorted(self.d[:place])[-1]
        return evaluate(step.rpartition(", ")[2]) == value

    def _sum(self, match: re.Match[str]) -> bool:
        self.result = int(match[2])
        signs = re.findall(r" ([+-]) ", match[1])
        wanted = ["-+"[place % 2] if self.label == "C" else "+" for place in range(len(signs))]
        return (
            len(self.values) == len(self.d)
            and numbers(match[1]) == self.values
            and signs == wanted
            and evaluate(match[1]) == self.result
        )

    def _absolute(self, match: re.Match[str]) -> bool:
        signed, self.result = self.result, int(match[2])
        return self.label == "C" and int(match[1]) == signed and self.result == abs(signed)

    def _rotation(self, match: re.Match[str]) -> bool:
        start, text, value = int(match[1]) - 1, match[2], int(match[3])
        in_turn = start == len(self.values) < len(self.d)
        self.values.append(value)
        twice = "".join(map(str, self.d * 2))
        return (
            self.label == "H"
            and in_turn
            and twice[start : start + len(self.d)] == text
            and int(text) == value
        )

    def _smallest(self, match: re.Match[str]) -> bool:
        self.result = int(match[2])
        return numbers(match[1]) == self.values and sorted(self.values)[0] == self.result

    def _answer(self, match: re.Match[str]) -> bool:
        return int(match[1]) == self.result == TRAINED[self.label](self.d)


_LINES: list[tuple[re.Pattern[str], Callable[[_Reader, re.Match[str]], bool]]] = [
    (re.compile(pattern), judge)
    for pattern, judge in (
        (r"The digits of (\d+) are ([\d, ]+)\.", _Reader._opening),
        (r"The smallest digit is (\d)\.", _Reader._smallest_digit),
        (r"Read backwards, the digits are ([\d, ]+)\.", _Reader._backwards),
        (r"Digit (\d), (\d): (.+) = (\d+)\.", _Reader._digit),
        (r"Sum: (\d[\d +-]*) = (-?\d+)\.", _Reader._sum),
        (r"Absolute value: \|(-?\d+)\| = (\d+)\.", _Reader._absolute),
        (r"Rotation (\d): (\d+) = (\d+)\.", _Reader._rotation),
        (r"Smallest: min\(([\d, ]+)\) = (\d+)\.", _Reader._smallest),
        (r"The answer is \\boxed\{(\d+)\}\.", _Reader._answer),
    )
]
