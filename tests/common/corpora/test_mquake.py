"""MQuAKE: small files by hand, and the published one where there is a copy."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from common.config.run_config import parse_data
from common.corpora import folder, load, mquake, mquake_cases, sources
from common.corpora.mquake_cases import Case
from common.corpora.settings import MQuAKESettings
from common.errors import UserError
from common.records import EvalItem, Fact


def hop(question: str, answer: str, *aliases: str) -> dict:
    cloze = question.rstrip("?") + " is"
    return {"question": question, "cloze": cloze, "answer": answer, "answer_alias": [*aliases]}


def case(number: int, answer: str, *hops: dict, relation: str | None = None) -> dict:
    edit = {"question": hops[0]["question"], "subject": "Ada"}
    return {
        "case_id": number,
        "requested_rewrite": [edit if relation is None else edit | {"relation_id": relation}],
        "questions": [f"{number}a?", f"{number}b?"],
        "new_answer": answer,
        "new_answer_alias": [answer.lower()],
        "new_single_hops": [*hops],
    }


def write(tmp_path: Path, *cases: object) -> Path:
    path = tmp_path / "mquake" / "cases.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps([*cases]))
    return path


def build(path: Path, limit: int | None = None, **settings: Any) -> mquake.MQuAKE:
    return mquake.build(path, MQuAKESettings(**settings), limit)


def chain(number: int, *letters: str, relation: str = "P1") -> dict:
    """A case of one hop per letter; equal letters are equal facts."""
    hops = [hop(f"{letter}?", letter) for letter in letters]
    return case(number, letters[-1], *hops, relation=relation)


def ids(items: list[EvalItem] | tuple[EvalItem, ...]) -> list[str]:
    return [item.id for item in items]


def test_each_new_hop_is_taught_once_and_the_questions_are_asked_by_hops(tmp_path):
    shared, more = hop("B of Ada?", "Bo", "B."), hop("C of Bo?", "Cy")
    path = write(
        tmp_path, case(1, "Cy", shared, more), case(2, "Di", shared, more, hop("D?", "Di"))
    )
    built = build(path)
    assert built.facts == [
        Fact("mquake-0001", "B of Ada?", "Bo", "B of Ada is Bo.", subject="Ada", aliases=("B.",)),
        Fact("mquake-0002", "C of Bo?", "Cy", "C of Bo is Cy."),
        Fact("mquake-0003", "D?", "Di", "D is Di."),
    ]
    recall = built.splits["recall"]
    assert recall[0] == EvalItem("mquake-0001", "B of Ada?", "Bo", aliases=("B.",))
    assert len(recall) == 3
    # The id of a question names its facts.
    assert built.splits["two_hop"] == (
        EvalItem("mquake-0001+mquake-0002#1", "1a?", "Cy", aliases=("cy",)),
        EvalItem("mquake-0001+mquake-0002#2", "1b?", "Cy", aliases=("cy",)),
    )
    assert ids(built.splits["three_hop"]) == [
        f"mquake-0001+mquake-0002+mquake-0003#{number}" for number in (1, 2)
    ]
    assert "four_hop" not in built.splits
    assert (built.retrieval, built.remarks) == ([], [])


def test_a_question_that_two_cases_ask_is_asked_once(tmp_path):
    same = chain(1, "b", "c") | {"case_id": 2, "questions": ["1b?", "2?"]}
    built = build(write(tmp_path, chain(1, "b", "c"), same))
    assert [(item.id[-2:], item.question) for item in built.splits["two_hop"]] == [
        ("#1", "1a?"),
        ("#2", "1b?"),
        ("#3", "2?"),
    ]


def test_questions_over_one_or_five_hops_have_no_split_and_are_counted(tmp_path):
    built = build(write(tmp_path, chain(1, "b"), chain(2, "b", "c"), chain(3, *"bcdef")))
    assert built.splits.keys() == {"recall", "two_hop"}
    assert built.remarks == ["4 questions over fewer than 2 or more than 4 hops are left out"]
    assert len(built.facts) == 5


def test_the_first_of_two_contradictory_edits_is_taught_and_the_other_reported(tmp_path):
    path = write(
        tmp_path,
        case(1, "Cy", hop("B of Ada?", "Bo"), hop("C?", "Cy")),
        case(2, "Ed", hop("B of Ada?", "Di"), hop("E of Di?", "Ed")),
    )
    built = build(path)
    assert [fact.answer for fact in built.facts] == ["Bo", "Cy", "Ed"]
    assert ids(built.splits["two_hop"]) == [f"mquake-0001+mquake-0002#{n}" for n in (1, 2)]
    assert built.remarks == [
        "case 2: 'B of Ada?' has the answer 'Di', but 'Bo' in case 1; the later edit and its "
        "case's 2 questions are left out"
    ]
    # A limit chooses among the cases that agree.
    limited = build(path, 2)
    assert ([fact.answer for fact in limited.facts], limited.remarks) == (["Bo", "Cy"], [])
    assert limited.retrieval == []


def test_a_limit_takes_whole_cases_and_asks_nothing_about_others(tmp_path):
    # b-c-d costs 3; after it, c-d costs nothing and d-e one more.
    path = write(
        tmp_path, chain(1, "x", "y", "z", "w"), chain(2, *"bcd"), chain(3, *"cd"), chain(4, *"de")
    )
    for seed in range(5):
        built = build(path, 4, seed=seed)
        assert [fact.answer for fact in built.facts] == ["b", "c", "d", "e"]
        assert [item.question for item in built.splits["two_hop"]] == ["3a?", "3b?", "4a?", "4b?"]
        assert [item.question for item in built.splits["three_hop"]] == ["2a?", "2b?"]
        assert ids(built.splits["recall"]) == [f"mquake-{number:04}" for number in (5, 6, 7, 8)]
        assert "four_hop" not in built.splits
    # An id does not depend on the limit.
    everything = {fact.id: fact for fact in build(path).facts}
    assert all(everything[fact.id] == fact for fact in built.facts)
    assert len(build(path, 8).facts) == len(build(path, 99).facts) == len(everything) == 8


def test_relations_take_turns_with_their_cheapest_cases():
    def of(relation: str, *facts: str) -> Case:
        return Case(relation, facts, (), "", ())

    many = [of("P1", f"a{n}", f"b{n}") for n in range(10)]
    others = [of("P2", "c", "d", "e"), of("P2", "f", "g"), of("P3", "h", "i")]
    for seed in range(5):
        chosen = mquake_cases.choose([*many, *others], 9, random.Random(seed))
        # Round one takes two facts of each relation. In round two P2 takes its three if it is
        # before P1, else P1 takes two, and P2 does not fit the one that is left.
        found = [(case.relation, len(case.facts)) for case in chosen]
        assert sorted(found[:3]) == [("P1", 2), ("P2", 2), ("P3", 2)]
        assert found[3:] in ([("P1", 2)], [("P2", 3)])
        assert chosen == mquake_cases.choose([*many, *others], 9, random.Random(seed))


def test_a_limit_that_no_case_fits_is_refused_with_the_least(tmp_path):
    path = write(tmp_path, chain(1, *"bcd"), chain(2, *"ef"))
    assert len(build(path, 2).facts) == 2
    message = r"data\.limit: 1 is less than the 2 facts of the smallest case in .*cases\.json; "
    with pytest.raises(UserError, match=message):
        load(parse_data({"mquake": {"file": path.name}, "root": tmp_path, "limit": 1}))


def test_held_out_facts_are_of_cases_that_share_none_with_the_trained_ones(tmp_path):
    # Trained: b, c. The second case shares c; the others are held out.
    cases = [chain(1, *"bc"), chain(2, *"cx"), chain(3, *"de", relation="P2"), chain(4, *"fgh")]
    path = write(tmp_path, *cases)
    for seed in range(20):
        built = build(path, 2, seed=seed, distractors=2)
        trained = {fact.answer for fact in built.facts}
        held_out = {item.answer for item in built.retrieval}
        asked = {"bc": "defgh", "cx": "defgh", "de": "bcxfgh"}["".join(sorted(trained))]
        assert held_out == set(asked)
        for item in built.retrieval:
            assert f"{item.answer} is {item.answer}." in item.context
            assert len(item.context) == len(set(item.context)) == 3
            assert {line[0] for line in item.context} <= held_out
    gold_is_first = [item.context[0][0] == item.answer for item in built.retrieval]
    assert not all(gold_is_first)
    assert built == build(path, 2, seed=19, distractors=2)
    assert built.retrieval != build(path, 2, seed=18, distractors=2).retrieval


def test_held_out_facts_have_a_budget_of_their_own(tmp_path):
    path = write(tmp_path, *(chain(number, f"{number}b", f"{number}c") for number in range(6)))
    assert len(build(path, 4).retrieval) == 8
    assert len(build(path, 4, held_out=5).retrieval) == 4
    assert build(path, 4, held_out=0).retrieval == []
    assert build(path).retrieval == []
    (item, *_) = build(path, 4, distractors=0).retrieval
    assert item.context == (f"{item.answer} is {item.answer}.",)


def test_a_limit_on_the_files_of_the_corpus_drops_questions_about_facts_cut_off(tmp_path):
    built = build(write(tmp_path, chain(1, *"bc"), chain(2, *"cd"), chain(3, *"bcd")))
    folder.write(tmp_path / "out", "mquake", {}, {"train": built.facts, **built.splits})
    corpus = load(parse_data({"facts": str(tmp_path / "out"), "limit": 2}))
    assert [fact.answer for fact in corpus.facts] == ["b", "c"]
    assert [item.question for item in corpus.splits["two_hop"]] == ["1a?", "1b?"]
    assert corpus.splits["three_hop"] == ()


@pytest.mark.parametrize("broken", ["x", {"case_id": 1}, case(1, "a", {"question": "q"})])
def test_what_is_not_a_case_is_named_by_its_record(tmp_path, broken):
    good = case(1, "Bo", hop("B of Ada?", "Bo"))
    with pytest.raises(UserError, match=r"cases\.json: record 2: "):
        build(write(tmp_path, good, broken))
    path = tmp_path / "object.json"
    path.write_text("{}")
    with pytest.raises(UserError, match="expected a list of objects, not dict"):
        build(path)


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
        build(write(tmp_path, first, {**second, **change}))


def test_a_published_file_without_rows_is_refused(tmp_path):
    data = {"mquake": {"file": write(tmp_path).name}, "root": tmp_path}
    for limit in (None, 3):
        with pytest.raises(UserError, match="contains no facts"):
            load(parse_data({**data, "limit": limit}))


@pytest.fixture
def hard(data_root: Path) -> Path:
    """MQuAKE-hard: 429 cases of four hops and three questions."""
    settings = MQuAKESettings(file="MQuAKE-hard.json")
    return sources.published("mquake", settings, data_root)


def test_the_published_mquake_hard_has_767_edits_and_two_contradictions(hard):
    built = build(hard)
    assert len(built.facts) == len(built.splits["recall"]) == 767
    # 429 cases of three questions, less those of the two cases that lose.
    assert len(built.splits["four_hop"]) == 427 * 3
    assert len(built.remarks) == 2
    assert built.facts[0] == Fact(
        "mquake-0001",
        "Who performed Hey Jude?",
        "Madonna",
        "Hey Jude was performed by Madonna.",
        subject="Hey Jude",
        aliases=(
            "Madonna Ciccone",
            "Madonna Louise Ciccone",
            "Madonna Louise Veronica Ciccone",
        ),
    )


def test_a_hundred_facts_of_mquake_hard_answer_all_their_questions(hard):
    built = build(hard, 100, seed=42)
    # What the paper's released converter gives with its seed 42 for the 427 cases that agree.
    assert (len(built.facts), len(built.splits["four_hop"]), len(built.retrieval)) == (
        100,
        123,
        100,
    )
    trained = {fact.id for fact in built.facts}
    held_out = {item.id for item in built.retrieval}
    assert all(
        trained.issuperset(item.id.partition("#")[0].split("+"))
        for item in built.splits["four_hop"]
    )
    assert trained.isdisjoint(held_out)
    assert {len(item.context) for item in built.retrieval} == {50}
    statements = {fact.id: fact.statement for fact in build(hard).facts}
    for item in built.retrieval:
        assert statements[item.id] in item.context
        assert {statements[key] for key in held_out}.issuperset(item.context)
