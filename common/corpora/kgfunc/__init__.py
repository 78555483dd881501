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
from string import ascii_lowercase
from typing import NamedTuple

from common.corpora.kgfunc import ours, paper
from common.corpora.kgfunc.check import check, check_facts
from common.corpora.kgfunc.operations import TRAINED, UNSEEN, Rule, digits
from common.corpora.settings import Wording
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


class _Texts(NamedTuple):
    question: Callable[[str, Sequence[tuple[int, int]], int], str]
    solve: Callable[[str, int], str]


_TEXTS: dict[Wording, _Texts] = {
    "ours": _Texts(ours.question, ours.solve),
    "paper": _Texts(paper.question, paper.solve),
}


def build(train_per_op: int, test_per_op: int, seed: int, wording: Wording = "ours") -> KGFunc:
    """7 * ``train_per_op`` facts, 7 * ``test_per_op`` test and 20 * 25 unseen items.

    With ``wording`` ``paper``, questions and targets read as in the released code, and the unseen
    operations have its labels, examples and inputs. The trained ones have the same inputs in both
    wordings.

    Raises:
        UserError: more inputs are requested than there are numbers.
    """
    if train_per_op < 1 or test_per_op < 0 or train_per_op + test_per_op > MAX_INPUT - SHOTS:
        raise UserError(
            f"train_per_op {train_per_op} and test_per_op {test_per_op} must be at least 1 and 0 "
            f"and together at most {MAX_INPUT - SHOTS}"
        )
    texts, shots = _TEXTS[wording], _shots(seed)
    facts, test = [], []
    for label, rule in TRAINED.items():
        inputs = _inputs(f"{seed}:kgfunc:{label}", shots, train_per_op + test_per_op)
        for index, number in enumerate(inputs):
            identity, answer = f"kgfunc-{label}-{number:05}", str(rule(digits(number)))
            question = texts.question(label, _examples(rule, shots), number)
            if index >= train_per_op:
                test.append(EvalItem(identity, question, answer))
                continue
            facts.append(
                Fact(
                    id=identity,
                    question=question,
                    answer=answer,
                    statement=f"{label}({number}) = {answer}.",
                    target=texts.solve(label, number),
                    subject=label,
                )
            )
    return KGFunc(facts, test, list(_unseen(seed, shots, wording)))


def _unseen(seed: int, shots: Sequence[int], wording: Wording) -> Iterator[EvalItem]:
    for index, (name, rule) in enumerate(UNSEEN.items()):
        label, examples = f"U{index + 1}", _examples(rule, shots)
        inputs: Sequence[int] = _inputs(f"{seed}:kgfunc-unseen:{name}", shots, UNSEEN_PER_OP)
        if wording == "paper":
            label, examples = ascii_lowercase[index], _examples(rule, paper.UNSEEN_SHOTS)
            inputs = paper.UNSEEN_INPUTS
        for number in inputs:
            question = _TEXTS[wording].question(label, examples, number)
            identity = f"kgfunc-{name.replace(' ', '_')}-{number:05}"
            yield EvalItem(identity, question, str(rule(digits(number))))


def _examples(rule: Rule, shots: Sequence[int]) -> list[tuple[int, int]]:
    return [(shot, rule(digits(shot))) for shot in shots]


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
