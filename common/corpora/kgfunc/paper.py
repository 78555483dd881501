"""Questions and worked solutions in the wording of the paper's released code.

Also the inputs of its unseen operations; those of its trained ones depend on the state of its
random numbers and are not taken over. ``check_paper`` parses the solutions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate

from common.corpora.kgfunc.operations import PRIME_DIGITS, TRAINED, digits

# Unseen operations are called a to t; all have these examples and questions.
UNSEEN_SHOTS = (328, 41, 45, 87397, 242, 1, 9935, 21395, 2, 2679)
UNSEEN_INPUTS = (
    *(15559, 11536, 66444, 85638, 58733, 52879, 65333, 29190, 58598, 2329, 13453, 72154, 60174),
    *(97679, 52858, 58220, 41426, 54046, 75108, 10332, 6599, 30801, 4696, 49628, 73024),
)


def question(label: str, examples: Sequence[tuple[int, int]], number: int) -> str:
    """The values of ``label`` at the examples' inputs, and the question for one more.

    It ends with an empty line, and the request of the preset begins with another.
    """
    listed = "\n\n".join(f"Input: {shot}\nOutput: {value}" for shot, value in examples)
    return (
        "Based on the input–output examples below, infer the rule implemented by function "
        f"{label}. Then apply the same rule to determine the output for the given input.\n\n"
        f"Examples:\n{listed}\n\nQuestion:\nWhat is the output of {label}({number})?\n\n"
    )


def solve(label: str, number: int) -> str:
    """The worked solution, one step a line, and below an empty line the boxed result."""
    d = digits(number)
    result = TRAINED[label](d)
    opening = f"The digits of {number} are [{_listed(d)}]."
    if label == "H":
        opening = f'The digit string of {number} is "{number}".'
    steps, total = _STEPS[label](d)
    last = " = ".join([f"{label}({number})", *total, str(result)])
    return "\n".join([opening, *steps, last, "", f"\\boxed{{{result}}}"])


# The lines between the digits and the result, and the terms of the result if it shows them.
_Steps = tuple[list[str], list[str]]


def _squared_deviations(d: list[int]) -> _Steps:
    low = min(d)
    values = [(digit - low) ** 2 for digit in d]
    lines = [f"({x} - {low})^2 = {value}" for x, value in zip(d, values, strict=True)]
    return [f"Min digit = {low}", *lines], [_sum(values)]


def _alternating_squares(d: list[int]) -> _Steps:
    raw = sum(x * x if place % 2 == 0 else -x * x for place, x in enumerate(d))
    powers, squares = _alternating(f"{x}^2" for x in d), _alternating(str(x * x) for x in d)
    return [f"Alternating sum of squares = {powers} = {squares} = {raw}"], [f"|{raw}|"]


def _prime_squares(d: list[int]) -> _Steps:
    lines = [
        f"{x} is prime: {x}^2 = {x * x}" if x in PRIME_DIGITS else f"{x} is not prime: {x}"
        for x in d
    ]
    return lines, [_sum(x * x if x in PRIME_DIGITS else x for x in d)]


def _mirrored_products(d: list[int]) -> _Steps:
    pairs = list(zip(d, reversed(d), strict=True))
    products = " + ".join(f"{x}*{y}" for x, y in pairs)
    values = [x * y for x, y in pairs]
    lines = [f"Reversed: [{_listed(d[::-1])}]", f"{products} = {_sum(values)} = {sum(values)}"]
    return lines, []


def _running_maxima(d: list[int]) -> _Steps:
    maxima = list(accumulate(d, max))
    return [f"Running max: {_listed(maxima)}"], [_sum(maxima)]


def _triangular_numbers(d: list[int]) -> _Steps:
    values = [x * (x + 1) // 2 for x in d]
    lines = [f"T({x}) = {x}*{x + 1}/2 = {value}" for x, value in zip(d, values, strict=True)]
    return lines, [_sum(values)]


def _rotations(d: list[int]) -> _Steps:
    text = "".join(map(str, d))
    listed = _listed(int(text[start:] + text[:start]) for start in range(len(d)))
    return [f"Rotations: {listed}"], [f"min({listed})"]


_STEPS: dict[str, Callable[[list[int]], _Steps]] = {
    "B": _squared_deviations,
    "C": _alternating_squares,
    "D": _prime_squares,
    "E": _mirrored_products,
    "F": _running_maxima,
    "G": _triangular_numbers,
    "H": _rotations,
}


def _alternating(terms: Iterable[str]) -> str:
    """a - b + c - …"""
    signed = "".join(f" {'+' if place % 2 == 0 else '-'} {x}" for place, x in enumerate(terms))
    return signed.removeprefix(" + ")


def _sum(values: Iterable[int]) -> str:
    return " + ".join(map(str, values))


def _listed(values: Iterable[int]) -> str:
    return ", ".join(map(str, values))
