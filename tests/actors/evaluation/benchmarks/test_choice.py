"""Ranking of continuations, and the data's two forms."""

from __future__ import annotations

import random

import pytest

from actors.evaluation.benchmarks import choice
from actors.evaluation.benchmarks.base import Choice, Materials
from actors.evaluation.benchmarks.choice import ARC, PIQA, HubARC, HubPIQA


def test_the_likeliest_is_by_log_likelihood_a_character() -> None:
    # −2 over 2 letters is worse than −3 over 6.
    assert choice.likeliest(("no", "really"), ([-2.0], [-1.0, -2.0])) == 1
    assert choice.likeliest(("no", "so"), ([-2.0], [-2.5])) == 0
    assert choice.likeliest(("aa", "bb"), ([-2.0], [-2.0])) == 0


@pytest.mark.parametrize("gold", range(4))
@pytest.mark.parametrize("length", [1, 5, 40])
@pytest.mark.parametrize("rate", [-0.1, -2.0, -9.0])
def test_one_that_is_likelier_a_character_wins_at_any_length(
    gold: int, length: int, rate: float
) -> None:
    choices = tuple("x" * (length if index == gold else 7) for index in range(4))
    logprobs = [
        [rate * len(text) * (0.9 if index == gold else 1.0)] for index, text in enumerate(choices)
    ]
    assert choice.likeliest(choices, logprobs) == gold


def test_context_and_continuation_are_encoded_together() -> None:
    def encode(text: str) -> list[int]:
        # "A:" and what follows are one token where they touch.
        return [len(word) for word in text.split(" ")]

    item = Choice("i", "Question: x\nAnswer:", ("red", "light blue"), 0)
    assert choice.pairs(item, encode) == [([9, 9], [3]), ([9, 9], [5, 4])]


def test_rows_of_the_hub_and_of_the_copies_give_the_same_items() -> None:
    local = {"question": "Q?", "choices": ["a", "b", "c"], "answer_index": 2}
    hub = {
        "question": "Q?",
        "choices": {"text": ["a", "b", "c"], "label": ["1", "2", "3"]},
        "answerKey": "3",
    }
    assert (
        ARC.model_validate(local).item("x")
        == HubARC.model_validate(hub).item("x")
        == Choice("x", "Question: Q?\nAnswer:", ("a", "b", "c"), 2)
    )
    local = {"query": "Question: cook\n", "choices": ["a", "b"], "gold": 1}
    hub = {"goal": "cook", "sol1": "a", "sol2": "b", "label": 1}
    item = PIQA.model_validate(local).item("x")
    assert item == HubPIQA.model_validate(hub).item("x")
    assert item.text == "Question: cook\nAnswer:"


@pytest.mark.parametrize(
    ("build", "count", "chance"), [(choice.arc_easy, 2376, 0.25), (choice.piqa, 1838, 0.5)]
)
def test_gold_is_right_and_shuffled_gold_at_chance(
    real: Materials, build: object, count: int, chance: float
) -> None:
    items = list(build(real).items)  # type: ignore[operator]
    assert len(items) == count
    gold = [item.gold for item in items]

    def right(picks: list[int]) -> float:
        found = 0
        for item, pick in zip(items, picks, strict=True):
            rates = [[-1.0 * len(t) + (index == pick)] for index, t in enumerate(item.choices)]
            found += choice.likeliest(item.choices, rates) == item.gold
        return found / count

    assert right(gold) == 1.0
    random.Random(0).shuffle(gold)
    assert abs(right(gold) - chance) < 0.03
