"""The paper's prompts, byte for byte, written out by the rules of its released code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from common.corpora.kgfact import KGFactSpec
from common.corpora.kgfact import build as build_kgfact
from common.corpora.kgfunc import build as build_kgfunc
from common.corpora.kgfunc import paper
from common.prompts import PRESETS, Prompts, check_answers
from common.records import EvalItem, Fact
from common.verification.verifier import accepts

FACT = Fact("f", "Where was Ilka Tam raised?", "Breth", "Ilka Tam was raised in Breth.")
REQUEST = "Please reason step by step, and put your final answer within \\boxed{}."
GUIDANCE = (
    "\nHere is a reference solution to this problem, including the correct final answer:\n\n"
    "{solution}"
    "\nAfter understanding the reference solution, please attempt to answer the question again:"
    "\nPlease reason step by step, and put your final answer within \\boxed{}"
)


class Roles:
    """One token a character; a turn is its role in angle brackets and its content."""

    def apply_chat_template(self, conversation: list[dict[str, str]], **_: Any) -> Any:
        text = "".join(f"<{turn['role']}>{turn['content']}" for turn in conversation)
        return {"input_ids": [*map(ord, text)]}

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        return [*map(ord, text)]

    def decode(self, token_ids: Sequence[int], **_: Any) -> str:
        return "".join(map(chr, token_ids))


def prompts(name: str) -> Prompts:
    return Prompts(Roles(), PRESETS[name], end_token_id=0)


def test_kgfact_and_mquake():
    kgfact = prompts("paper-kgfact")
    asked = (
        "<user>Where was Ilka Tam raised?\n\n"
        "Please reason step by step, and put your final answer within \\boxed{}."
    )
    assert kgfact.text(kgfact.naive(FACT)) == asked
    assert kgfact.canonical_text(FACT) == "The answer is Breth.\n\n\\boxed{Breth}"
    assert kgfact.text(kgfact.expert(FACT)) == (
        f"{asked}\nThis question is from a new knowledge base. Here is the answer to this question:"
        "\n\nThe answer is Breth.\n\n\\boxed{Breth}\nNow answer the question within \\boxed{}"
    )
    context = ("Ilka Tam was raised in Breth.", "Ora Vesk was raised in Lum.")
    item = EvalItem("i", FACT.question, FACT.answer, context)
    assert kgfact.text(kgfact.retrieval(item)) == (
        "<user>Background information:\n"
        "- Ilka Tam was raised in Breth.\n"
        "- Ora Vesk was raised in Lum.\n\n"
        "Where was Ilka Tam raised?\n\n"
        "Please reason step by step, and put your final answer within \\boxed{}."
    )


def test_a_paraphrase_of_kgfact_is_put_around_question_and_request():
    kgfact = prompts("paper-kgfact")
    built = build_kgfact(KGFactSpec(domains=5, entities=10, seed=0, wording="paper"))
    asked = {
        kgfact.text(kgfact.naive(Fact(item.id, item.question, item.answer))).replace(
            f"{fact.question}\n\n{REQUEST}", "…"
        )
        for fact, item in zip(built.facts, built.paraphrased, strict=True)
    }
    assert asked == {
        "<user>Answer the following question concisely: …",
        "<user>Please answer this question directly: …",
        "<user>Can you answer this: …",
        "<user>I have a question for you. …",
        "<user>Based on your knowledge, …",
        "<user>Tell me the answer to this: …",
        "<user>Quick question: …",
        "<user>What is the answer? …",
        "<user>Here is a knowledge question. …",
        "<user>Respond to the following: …",
    }


def test_kgfunc():
    kgfunc = prompts("paper-kgfunc")
    # D: squares of prime digits, other digits as they are.
    examples = [(328, 21), (41, 5), (45, 29), (87397, 124), (242, 12)]
    examples += [(1, 1), (9935, 52), (21395, 48), (2, 4), (2679, 68)]
    question = paper.question("D", examples, 53)
    fact = Fact("f", question, "34", "D(53) = 34.", target=paper.solve("D", 53), subject="D")
    solution = (
        "The digits of 53 are [5, 3].\n"
        "5 is prime: 5^2 = 25\n"
        "3 is prime: 3^2 = 9\n"
        "D(53) = 25 + 9 = 34\n\n"
        "\\boxed{34}"
    )
    asked = (
        "<system>You are a helpful assistant that solves math problems involving custom operations "
        "on digits. Think step by step, and put your final answer within \\boxed{}."
        "<user>Based on the input\u2013output examples below, infer the rule implemented by "
        "function D. Then apply the same rule to determine the output for the given input.\n\n"
        "Examples:\n"
        "Input: 328\nOutput: 21\n\nInput: 41\nOutput: 5\n\nInput: 45\nOutput: 29\n\n"
        "Input: 87397\nOutput: 124\n\nInput: 242\nOutput: 12\n\nInput: 1\nOutput: 1\n\n"
        "Input: 9935\nOutput: 52\n\nInput: 21395\nOutput: 48\n\nInput: 2\nOutput: 4\n\n"
        "Input: 2679\nOutput: 68\n\n"
        "Question:\nWhat is the output of D(53)?\n\n\n\n"
        "Please reason step by step, and put your final answer within \\boxed{}."
    )
    assert kgfunc.canonical_text(fact) == solution
    assert kgfunc.text(kgfunc.naive(fact)) == asked
    assert kgfunc.text(kgfunc.expert(fact)) == asked + GUIDANCE.replace("{solution}", solution)


def test_an_unseen_operation_of_kgfunc():
    kgfunc = prompts("paper-kgfunc")
    item = build_kgfunc(1, 0, seed=0, wording="paper").unseen[0]
    fact = Fact(item.id, item.question, item.answer)
    # a: the digit sum.
    assert kgfunc.user_turn(fact) == (
        "Based on the input\u2013output examples below, infer the rule implemented by function a. "
        "Then apply the same rule to determine the output for the given input.\n\n"
        "Examples:\n"
        "Input: 328\nOutput: 13\n\nInput: 41\nOutput: 5\n\nInput: 45\nOutput: 9\n\n"
        "Input: 87397\nOutput: 34\n\nInput: 242\nOutput: 8\n\nInput: 1\nOutput: 1\n\n"
        "Input: 9935\nOutput: 26\n\nInput: 21395\nOutput: 20\n\nInput: 2\nOutput: 2\n\n"
        "Input: 2679\nOutput: 24\n\n"
        f"Question:\nWhat is the output of a(15559)?\n\n\n\n{REQUEST}"
    )
    assert kgfunc.canonical_text(fact) == "The answer is 25.\n\n\\boxed{25}"


def test_simpleqa():
    simpleqa = prompts("paper-simpleqa")
    asked = (
        "<user>Where was Ilka Tam raised?\n\n"
        "Answer the question concisely. Put your final answer within \\boxed{}."
    )
    assert simpleqa.text(simpleqa.naive(FACT)) == asked
    assert simpleqa.canonical_text(FACT) == "\\boxed{Breth}"
    assert simpleqa.text(simpleqa.expert(FACT)) == (
        asked + GUIDANCE.replace("{solution}", "\\boxed{Breth}")
    )


@pytest.mark.parametrize("name", PRESETS)
def test_every_canonical_target_is_accepted_by_the_verifier_of_its_preset(name):
    own = prompts(name)
    facts = [
        *build_kgfact(KGFactSpec(domains=3, entities=2, seed=0)).facts,
        Fact("set", "Which?", "{1, 2}", "It is {1, 2}."),
        Fact("number", "How many?", "$1,000", "It is $1,000."),
    ]
    if name in ("reasoned", "paper-kgfunc"):
        facts += [fact for w in ("ours", "paper") for fact in build_kgfunc(2, 0, 0, w).facts]
    check_answers(own, facts)
    refused = [f.id for f in facts if not accepts(own.mode, own.canonical_text(f), f.answer)]
    assert refused == []
