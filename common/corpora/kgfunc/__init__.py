"""KGFunc: procedures instead of facts, each shown by ten examples.

Seven operations on the digits of 0..99999 are trained, each under an arbitrary letter. A
question shows its values at ten inputs, the same for all operations, and requests the value
at one more. Targets are worked solutions. The test split has the same operations at other
inputs; the unseen split has twenty simpler operations that are never trained. Nothing here
uses prompts or models.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from common.corpora.kgfunc.check import check, check_facts
from common.corpora.kgfunc.operations import TRAINED, UNSEEN, digits, solve
from common.errors import UserError
from common.records import EvalItem, Fact

__all__ = ["KGFunc", "build", "check", "check_facts"]

MAX_INPUT = 99_999
SHOTS = 10
UNSEEN_PER_OP = 25


@dataclass(frozen=True)
class KGFunc:
    """The corpus. ``facts`` have worked targets; ``test`` and ``unseen`` have answers only."""

    facts: list[Fact]
    test: list[EvalItem]
    unseen: list[EvalItem]


def build(train_per_op: int, test_per_op: int, seed: int) -> KGFunc:
    """7 * ``train_per_op`` facts, 7 * ``test_per_op`` test and 20 * 25 unseen items.

    Raises:
        UserError: more inputs are requested than there are numbers.
    """
    if train_per_op < 1 or test_per_op < 0 or train_per_op + test_per_op > MAX_INPUT - SHOTS:
        raise UserError(
            f"train_per_op {train_per_op} and test_per_op {test_per_op} must be at least 1 and 0 "
            f"and together at most {MAX_INPUT - SHOTS}"
        )
    shots = _shots(seed)
    facts, test = [], []
    for label, rule in TRAINED.items():
        inputs = _inputs(f"{seed}:kgfunc:{label}", shots, train_per_op + test_per_op)
        for index, number in enumerate(inputs):
            identity, answer = f"kgfunc-{label}-{number:05}", str(rule(digits(number)))
            question = _question(label, rule, shots, number)
            if index >= train_per_op:
                test.append(EvalItem(identity, question, answer))
                continue
            facts.append(
                Fact(
                    id=identity,
                    question=question,
                    answer=answer,
                    statement=f"{label}({number}) = {answer}.",
                    target=solve(label, number),
                    subject=label,
                )
            )
    return KGFunc(facts, test, list(_unseen(seed, shots)))


def _unseen(seed: int, shots: Sequence[int]) -> Iterator[EvalItem]:
    for index, (name, rule) in enumerate(UNSEEN.items(), start=1):
        label = f"U{index}"
        for number in _inputs(f"{seed}:kgfunc-unseen:{name}", shots, UNSEEN_PER_OP):
            question = _question(label, rule, shots, number)
            identity = f"kgfunc-{name.replace(' ', '_')}-{number:05}"
            yield EvalItem(identity, question, str(rule(digits(number))))


def _question(
    label: str, rule: Callable[[list[int]], int], shots: Sequence[int], number: int
) -> str:
    examples = "\n".join(f"{label}({shot}) = {rule(digits(shot))}" for shot in shots)
    return (
        f"Operation {label} turns a whole number into another one. Ten examples:\n"
        f"{examples}\nWhat is {label}({number})?"
    )


def _shots(seed: int) -> list[int]:
    """Two inputs of every length, 1 to 5 digits."""
    rng = random.Random(f"{seed}:kgfunc:shots")
    lows = (0, 10, 100, 1_000, 10_000)
    highs = (9, 99, 999, 9_999, MAX_INPUT)
    return [
        number
        for low, high in zip(lows, highs, strict=True)
        for number in rng.sample(range(low, high + 1), 2)
    ]


def _inputs(key: str, shots: Sequence[int], count: int) -> list[int]:
    """``count`` distinct inputs, without the examples and 0, which has no non-zero digit."""
    drawn = random.Random(key).sample(range(1, MAX_INPUT + 1), count + len(shots))
    return [number for number in drawn if number not in shots][:count]
