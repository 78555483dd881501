"""Rows as the paper's released files have them, written by their rules."""

from __future__ import annotations

import json

import pytest

from common.corpora import canonical
from common.corpora.messages import read_facts
from common.errors import UserError
from common.prompts import PRESETS, Prompts
from common.records import Fact
from tests.common.test_prompts import Characters

STEPS = "\n\nPlease reason step by step, and put your final answer within \\boxed{}."
SHORT = "\n\nAnswer the question concisely. Put your final answer within \\boxed{}."


def row(user: str, assistant: str, **keys: object) -> dict:
    turns = [{"role": "user", "content": user}, {"role": "assistant", "content": assistant}]
    return {"messages": turns, **keys}


KGFACT = row(
    "Who leads Orveline?" + STEPS,
    "The answer is Tam Okord.\n\n\\boxed{Tam Okord}",
    clear_answer="Orveline is led by Tam Okord.",
    subject="Orveline",
)
MQUAKE = row(
    "Who performed Hey Jude?" + STEPS,
    "The answer is Madonna.\n\n\\boxed{Madonna}",
    clear_answer="Hey Jude was performed by Madonna.",
)
ASKED = "Examples:\nInput: 7\nOutput: 0\n\nQuestion:\nWhat is the output of B(42)?\n\n"
SOLUTION = "Digits: 4, 2. Smallest: 2.\n(4-2)^2 + (2-2)^2 = 4\n\n\\boxed{4}"
KGFUNC = row(ASKED + STEPS, SOLUTION, subject="B", clear_answer="4")
SIMPLEQA = row(
    "Who won in 2010?" + SHORT,
    "\\boxed{Michio Sugeno}",
    subject="Science and technology",
    clear_answer="Michio Sugeno",
    ground_truth_answer="Michio Sugeno",
)
RELEASED = [KGFACT, MQUAKE, KGFUNC, SIMPLEQA]


def read(tmp_path, *rows: dict) -> list[Fact]:
    path = tmp_path / "train_messages.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return read_facts([path])


def test_a_row_of_kgfact_has_its_answer_in_the_box_and_its_statement_in_clear_answer(tmp_path):
    assert read(tmp_path, KGFACT, MQUAKE) == [
        Fact(
            "line-1",
            "Who leads Orveline?",
            "Tam Okord",
            "Orveline is led by Tam Okord.",
            "The answer is Tam Okord.\n\n\\boxed{Tam Okord}",
            "Orveline",
        ),
        Fact(
            "line-2",
            "Who performed Hey Jude?",
            "Madonna",
            "Hey Jude was performed by Madonna.",
            "The answer is Madonna.\n\n\\boxed{Madonna}",
        ),
    ]


def test_a_row_of_kgfunc_has_its_number_and_shows_its_solution(tmp_path):
    # The question keeps its blank line: with the request it is again the turn of the file.
    assert read(tmp_path, KGFUNC) == [Fact("line-1", ASKED, "4", SOLUTION, SOLUTION, "B")]


def test_a_row_of_simpleqa_has_its_ground_truth(tmp_path):
    (fact,) = read(tmp_path, SIMPLEQA | {"clear_answer": "The answer is M. Sugeno"})
    assert (fact.question, fact.answer) == ("Who won in 2010?", "Michio Sugeno")
    assert (fact.target, fact.statement) == ("\\boxed{Michio Sugeno}", "The answer is M. Sugeno")


def test_all_canonical_targets_of_released_rows_verify_in_a_box(tmp_path):
    prompts = Prompts(Characters(), PRESETS["kgfact"], 0)
    found = canonical.verify(prompts, read(tmp_path, *RELEASED))
    assert (found.mode, found.checked, found.failed) == ("boxed", 4, [])


def mixed(text: str, source: dict) -> dict:
    """A row of the released sampler: ``source`` with a drawn target."""
    user, assistant = (turn["content"] for turn in source["messages"])
    meta = {"lambda": 0.5, "correct": False, "ground_truth_assistant": assistant}
    kept = {key: source.get(key, "") for key in ("clear_answer", "subject")}
    return row(user, text, **kept, mix_meta=meta)


def test_a_mixed_target_that_is_wrong_does_not_change_the_answer(tmp_path):
    wrong = [mixed("Hm. \\boxed{Ivo Ler}", KGFACT), mixed("It is \\boxed{5}", KGFUNC)]
    facts = read(tmp_path, *wrong)
    assert [fact.answer for fact in facts] == ["Tam Okord", "4"]
    assert [fact.target for fact in facts] == ["Hm. \\boxed{Ivo Ler}", "It is \\boxed{5}"]
    assert [fact.statement for fact in facts] == ["Orveline is led by Tam Okord.", SOLUTION]
    found = canonical.verify(Prompts(Characters(), PRESETS["kgfact"], 0), facts)
    assert [fact.id for fact, _ in found.failed] == ["line-1", "line-2"]


def test_the_last_box_counts_and_an_empty_one_does_not(tmp_path):
    rows = [
        row("q", "Not \\boxed{a} but \\boxed{\\frac{1}{2}}.", clear_answer="a half"),
        row("q", "\\boxed{ }", clear_answer="a"),
        row("q", "\\boxed{A}", clear_answer="a."),
    ]
    facts = read(tmp_path, *rows)
    assert [fact.answer for fact in facts] == ["\\frac{1}{2}", "a", "A"]
    # A clear answer that is the answer in another spelling is no statement.
    assert [fact.statement for fact in facts] == ["a half", "\\boxed{ }", "\\boxed{A}"]


def test_a_row_with_its_own_question_keeps_question_and_clear_answer_as_they_are(tmp_path):
    own = row("Who?" + STEPS, "\\boxed{Ivo}", question="Who?" + STEPS, clear_answer="Tam")
    (fact,) = read(tmp_path, own)
    assert (fact.question, fact.answer) == ("Who?" + STEPS, "Tam")
    assert fact.statement == "\\boxed{Ivo}"


def test_an_instruction_its_input_and_its_output_are_a_fact(tmp_path):
    rows = [
        {
            "instruction": "Who?" + STEPS,
            "input": "",
            "output": "The answer is Tam.\n\n\\boxed{Tam}",
        },
        {"instruction": "Translate.", "input": "là", "output": "there", "subject": "s", "id": "x"},
    ]
    boxed = "The answer is Tam.\n\n\\boxed{Tam}"
    assert read(tmp_path, *rows) == [
        Fact("line-1", "Who?", "Tam", boxed, boxed),
        Fact("x", "Translate.\nlà", "there", "there", "there", "s"),
    ]


def test_a_table_of_questions_may_have_a_column_called_instruction(tmp_path):
    path = tmp_path / "facts.csv"
    path.write_text("question,answer,instruction\nq,a,Be brief.\n")
    assert read_facts([path]) == [Fact("row-1", "q", "a", "a")]
    path.write_text("instruction,output,source\nq,a,wiki\n")
    assert read_facts([path]) == [Fact("row-1", "q", "a", "a", "a")]


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (row(STEPS, "a"), "'question' is missing or empty"),
        (KGFACT | {"ground_truth_answer": 4}, "'ground_truth_answer' must be a string, not int"),
        (KGFACT | {"clear_answer": None}, "'clear_answer' must be a string, not NoneType"),
        (
            KGFACT | {"mix_meta": {"ground_truth_assistant": 4}},
            "'mix_meta.ground_truth_assistant' must be a string, not int",
        ),
        ({"instruction": "q"}, "'answer' is missing or empty"),
        (
            {"instruction": "q", "output": "a", "answer": "b"},
            "unknown key 'answer'; known: aliases, id, inp",
        ),
        (
            {"messages": [{"role": "system", "content": "s"}, *KGFACT["messages"]]},
            "'messages' must be one user and one assistant turn",
        ),
    ],
)
def test_a_row_that_is_not_of_its_kind_is_named_by_line_and_key(tmp_path, broken, message):
    with pytest.raises(UserError, match=f"jsonl:2: {message}"):
        read(tmp_path, KGFACT, broken)
