"""SimpleQA and MQuAKE: small files by hand, and the published ones where there is a copy."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from common.config.run_config import parse_data
from common.corpora import load, mquake, simpleqa, sources
from common.corpora.settings import MQuAKESettings, SimpleQASettings
from common.errors import UserError
from common.records import EvalItem, Fact


def hop(question: str, answer: str, *aliases: str) -> dict:
    cloze = question.rstrip("?") + " is"
    return {"question": question, "cloze": cloze, "answer": answer, "answer_alias": [*aliases]}


def case(number: int, answer: str, *hops: dict) -> dict:
    return {
        "case_id": number,
        "requested_rewrite": [{"question": hops[0]["question"], "subject": "Ada"}],
        "questions": [f"{number}a?", f"{number}b?"],
        "new_answer": answer,
        "new_answer_alias": [answer.lower()],
        "new_single_hops": [*hops],
    }


def write(tmp_path: Path, *cases: object) -> Path:
    path = tmp_path / "cases.json"
    path.write_text(json.dumps([*cases]))
    return path


def test_a_row_of_simpleqa_is_a_fact(tmp_path):
    path = tmp_path / "s.csv"
    path.write_text("metadata,problem,answer\n{'topic': 'x'},Who won?,Michio Sugeno \n")
    assert simpleqa.build(path) == [
        Fact("simpleqa-0001", "Who won?", "Michio Sugeno", "The answer is Michio Sugeno.")
    ]


def test_a_file_that_is_not_simpleqa_is_refused(tmp_path):
    path = tmp_path / "s.csv"
    path.write_text("question,answer\nq,a\n")
    message = r"s.csv:2: 'problem' is missing"
    with pytest.raises(UserError, match=message):
        simpleqa.build(path)


def test_each_new_hop_is_taught_once_and_the_questions_are_asked(tmp_path):
    shared = hop("B of Ada?", "Bo", "B.")
    path = write(tmp_path, case(1, "Cy", shared, hop("C of Bo?", "Cy")), case(2, "Bo", shared))
    built = mquake.build(path)
    assert built.facts == [
        Fact("mquake-0001", "B of Ada?", "Bo", "B of Ada is Bo.", subject="Ada"),
        Fact("mquake-0002", "C of Bo?", "Cy", "C of Bo is Cy."),
    ]
    assert built.recall[0] == EvalItem("mquake-0001", "B of Ada?", "Bo", aliases=("B.",))
    assert [item.id for item in built.multi_hop] == [
        "mquake-1-1",
        "mquake-1-2",
        "mquake-2-1",
        "mquake-2-2",
    ]
    assert built.multi_hop[0] == EvalItem("mquake-1-1", "1a?", "Cy", aliases=("cy",))
    assert built.contradictions == []


def test_the_first_of_two_contradictory_edits_is_taught_and_the_other_reported(tmp_path):
    path = write(
        tmp_path,
        case(1, "Bo", hop("B of Ada?", "Bo")),
        case(2, "Di", hop("B of Ada?", "Di"), hop("E of Di?", "Ed")),
    )
    built = mquake.build(path)
    assert [fact.answer for fact in built.facts] == ["Bo", "Ed"]
    assert [item.id for item in built.multi_hop] == ["mquake-1-1", "mquake-1-2"]
    assert built.contradictions == [
        "case 2: 'B of Ada?' has the answer 'Di', but 'Bo' in case 1; the later edit and its "
        "case's 2 questions are left out"
    ]


@pytest.mark.parametrize("broken", ["x", {"case_id": 1}, case(1, "a", {"question": "q"})])
def test_what_is_not_a_case_is_named_by_its_record(tmp_path, broken):
    good = case(1, "Bo", hop("B of Ada?", "Bo"))
    with pytest.raises(UserError, match=r"cases\.json: record 2: "):
        mquake.build(write(tmp_path, good, broken))
    path = tmp_path / "object.json"
    path.write_text("{}")
    with pytest.raises(UserError, match="expected a list of objects, not dict"):
        mquake.build(path)


def test_the_published_simpleqa_has_4326_different_questions(data_root):
    facts = simpleqa.build(sources.published("simpleqa", SimpleQASettings(), data_root))
    assert len(facts) == len({fact.question for fact in facts}) == 4326
    assert (facts[0].id, facts[0].answer) == ("simpleqa-0001", "Michio Sugeno")


def test_the_published_mquake_hard_has_767_edits_and_two_contradictions(data_root):
    settings = MQuAKESettings(file="MQuAKE-hard.json")
    built = mquake.build(sources.published("mquake", settings, data_root))
    assert len(built.facts) == len(built.recall) == 767
    # 429 cases of three questions, less those of the two cases that lose.
    assert len(built.multi_hop) == 427 * 3
    assert len(built.contradictions) == 2
    assert built.facts[0] == Fact(
        "mquake-0001",
        "Who performed Hey Jude?",
        "Madonna",
        "Hey Jude was performed by Madonna.",
        subject="Hey Jude",
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"new_answer": 7}, "new_answer: input should be a valid string, not 7"),
        ({"questions": "One?"}, "questions: input should be a valid tuple, not 'One[?]'"),
        ({"new_single_hops": [{}]}, "'new_single_hops.0.question' is missing"),
        ({"new_answer_alias": [None]}, "new_answer_alias.0: input should be a valid string"),
        ({"case_id": 1}, r"case_id 1 was used at .*cases\.json: record 1"),
    ],
)
def test_a_case_of_another_form_is_named_by_record_and_field(tmp_path, change, message):
    first, second = (case(number, "Bo", hop("B of Ada?", "Bo")) for number in (1, 2))
    with pytest.raises(UserError, match=rf"cases\.json: record 2: {message}"):
        mquake.build(write(tmp_path, first, {**second, **change}))


@pytest.mark.parametrize("row", ["Who?,", "' ',x".replace("'", '"')])
def test_a_row_of_simpleqa_without_a_question_or_an_answer_is_named(tmp_path, row):
    path = tmp_path / "s.csv"
    path.write_text(f"problem,answer\nQ?,A\n{row}\n")
    with pytest.raises(UserError, match=r"s\.csv:3: "):
        simpleqa.build(path)


def test_a_published_file_without_rows_is_refused(tmp_path):
    (tmp_path / "mquake").mkdir()
    (tmp_path / "mquake" / "m.json").write_text("[]")
    data = {"mquake": {"file": "m.json"}, "root": tmp_path}
    with pytest.raises(UserError, match="contains no facts"):
        load(parse_data(data))
