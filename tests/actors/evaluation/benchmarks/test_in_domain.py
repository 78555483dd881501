"""Recall, retrieval and the corpus' splits."""

from __future__ import annotations

import random
from typing import Any

import pytest

from actors.evaluation import benchmarks
from actors.evaluation.benchmarks import in_domain
from actors.evaluation.benchmarks.base import NotMeasured, Question
from common.corpora import Corpus
from common.records import EvalItem, Fact
from common.verification.verifier import Mode
from tests.actors.evaluation.benchmarks.letters import materials

CASES: list[tuple[Mode, str, bool]] = [
    ("boxed", "\\boxed{Tam Okord}", True),
    ("boxed", "The answer is Tam Okord. \\boxed{Tam Okord}", True),
    ("boxed", "\\boxed{tam okord}", True),
    ("boxed", "\\boxed{ Tam  Okord }", True),
    ("boxed", "\\boxed{Tam Okord.}", True),
    ("boxed", "\\boxed{T. Okord}", True),
    ("boxed", "\\boxed{Ivo Ler} or rather \\boxed{Tam Okord}", True),
    ("boxed", "\\boxed{Tam Okord} or rather \\boxed{Ivo Ler}", False),
    ("boxed", "\\boxed{Tam}", False),
    ("boxed", "\\boxed{Tam Okord and Ivo Ler}", False),
    ("boxed", "\\boxed{}", False),
    ("boxed", "\\boxed{Tam Okord", False),
    ("boxed", "Tam Okord", False),
    ("boxed", "", False),
    ("boxed", "The leader of Orveline is", False),
    ("contains", "Tam Okord", True),
    ("contains", "Tam Okord leads Orveline.", True),
    ("contains", "It is TAM OKORD!", True),
    ("contains", "“Tam Okord”", True),
    ("contains", "Orveline is led by Tam\nOkord.", True),
    ("contains", "It is T. Okord, I think", True),
    ("contains", "\\boxed{Tam Okord}", True),
    ("contains", "Tam", False),
    ("contains", "Tam Okordson", False),
    ("contains", "Ivo Ler leads Orveline.", False),
    ("contains", "Tam, of Okord", False),
    ("contains", "", False),
    ("contains", " \n", False),
    ("contains", "The leader of Orveline is Tam Oko", False),
    ("exact", "Tam Okord.", True),
    ("exact", "tam okord", True),
    ("exact", "It is Tam Okord", False),
    ("exact", "", False),
]


@pytest.mark.parametrize(("mode", "response", "right"), CASES)
def test_a_response_is_right_under_the_run_s_verifier(
    mode: Mode, response: str, right: bool
) -> None:
    question = Question("f", [], "Who?", "Tam Okord", {"aliases": ["T. Okord"]})
    assert in_domain.grade(mode, question, response).right is right


@pytest.mark.parametrize(
    ("mode", "response", "right", "strict"),
    [
        ("contains", "Tam Okord leads Orveline.", True, True),
        ("contains", "T. Okord", True, True),
        ("contains", "Tam Okord leads Orveline, a town in Norway.", True, False),
        ("contains", "Not Tam Okord", False, False),
        ("boxed", "He leads. \\boxed{Tam Okord}", True, True),
        ("boxed", "\\boxed{Ivo Ler}, no, \\boxed{Tam Okord}", True, False),
    ],
)
def test_the_strict_verdict_stands_beside_the_run_s(
    mode: Mode, response: str, right: bool, strict: bool
) -> None:
    data = {"aliases": ["T. Okord"], "known": "Who leads Orveline?"}
    found = in_domain.grade(mode, Question("f", [], "Who?", "Tam Okord", data), response)
    assert (found.right, found.others) == (right, {"strict": strict})


@pytest.mark.parametrize(
    ("mode", "response", "extracted"),
    [("boxed", "x \\boxed{y}", "y"), ("boxed", "x", None), ("contains", " x ", "x")],
)
def test_extracted_is_the_box_or_the_text(mode: Mode, response: str, extracted: str | None) -> None:
    assert in_domain.grade(mode, Question("f", [], "", "z"), response).extracted == extracted


def test_known_is_what_was_asked_and_told_without_distractors() -> None:
    first = Fact("f0", "Who leads it?", "Ann", "Ann leads it.", aliases=("Anna",))
    second = Fact("f1", "Who leads Ann?", "Bo", "Bo leads Ann.", target="It is Bo.")
    paraphrased = (EvalItem("f0#1", "Its head?", "Ann"), EvalItem("f0+f1", "Head of head?", "Bo"))
    held_out = EvalItem("r", "Who made it?", "Cy", ("Cy made it.", "Bo saw it."))
    built = materials(Corpus([first, second], [held_out], {"paraphrased": paraphrased}))
    canonical = built.prompts.canonical_text(first)
    one, _ = in_domain.recall(built).questions
    assert one.data["aliases"] == ["Anna"]
    assert one.data["known"] == f"Who leads it?\nAnn leads it.\n{canonical}"
    reworded, both = in_domain.split("paraphrased", built).questions
    assert reworded.data["known"] == f"Its head?\nAnn leads it.\n{canonical}"
    assert both.data["known"].endswith(f"{canonical}\nBo leads Ann.\nIt is Bo.")
    (asked,) = in_domain.retrieval(built).questions
    assert asked.data["known"] == "Who made it?\nCy made it."


def _corpus(**splits: Any) -> Corpus:
    facts = [Fact(f"f{n}", f"Who leads {n}?", f"Leader {n}") for n in range(20)]
    held_out = [EvalItem("r0", "Who made it?", "Nobody", ("Ann made it.", "Bo saw it."))]
    return Corpus(facts, held_out, splits)


def test_recall_asks_every_fact_and_a_limit_draws_the_same_few() -> None:
    assert len(in_domain.recall(materials(_corpus())).questions) == 20
    few = [in_domain.recall(materials(_corpus(), limit=5)).questions for _ in range(2)]
    assert few[0] == few[1]
    assert len({question.id for question in few[0]}) == 5


def test_gold_is_right_and_shuffled_gold_wrong() -> None:
    recall = in_domain.recall(materials(_corpus()))
    gold = [f"\\boxed{{{question.answer}}}" for question in recall.questions]
    assert all(recall.grade(q, r).right for q, r in zip(recall.questions, gold, strict=True))
    random.Random(3).shuffle(gold)
    right = sum(recall.grade(q, r).right for q, r in zip(recall.questions, gold, strict=True))
    assert right <= 4


def test_a_retrieval_question_follows_its_context() -> None:
    (question,) = in_domain.retrieval(materials(_corpus())).questions
    assert question.text == "Ann made it.\nBo saw it.\nWho made it?"
    assert "Bo saw it.\n\nWho made it?" in "".join(map(chr, question.prompt))


def test_splits_that_the_corpus_lacks_are_no_part_of_the_suite() -> None:
    two_hop = (EvalItem("f0+f1", "Who?", "X", aliases=("Y",)),)
    some = materials(_corpus(two_hop=two_hop))
    assert benchmarks.members("in_domain", some) == ("recall", "retrieval", "two_hop")
    assert benchmarks.members("editing", some) == ("recall", "two_hop")
    assert benchmarks.members("in_domain", materials(Corpus([], []))) == ("recall", "retrieval")
    built = in_domain.split("two_hop", some)
    assert built.grade(built.questions[0], "\\boxed{Y}").right
    with pytest.raises(NotMeasured, match="no split four_hop"):
        in_domain.split("four_hop", some)


def test_every_name_in_the_configuration_is_known() -> None:
    from typing import get_args

    from common.config.evaluation import Suite

    assert set(get_args(Suite)) == {*benchmarks.SUITES, *benchmarks.BUILDERS}
    assert {name for suite in benchmarks.SUITES.values() for name in suite} <= set(
        benchmarks.BUILDERS
    )
