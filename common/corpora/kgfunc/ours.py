"""Questions and worked solutions in the project's own wording.

A worked solution executes the rule line by line in a fixed wording, which ``check_ours`` parses.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from common.corpora.kgfunc.operations import PRIME_DIGITS, digits


def question(label: str, examples: Sequence[tuple[int, int]], number: int) -> str:
    """The values of ``label`` at the examples' inputs, and the question for one more."""
    listed = "\n".join(f"{label}({shot}) = {value}" for shot, value in examples)
    return (
        f"Operation {label} turns a whole number into another one. Ten examples:\n"
        f"{listed}\nWhat is {label}({number})?"
    )


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
        if digit in PRIME_DIGITS:
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
