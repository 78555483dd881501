"""A configuration's data section becomes a corpus; a built folder becomes the same one."""

from __future__ import annotations

import json
import re

import pytest

from common.config.run_config import parse_data
from common.corpora import Corpus, folder, inspection, load
from common.errors import UserError
from common.records import EvalItem, Fact

FACTS = [Fact("a", "Q?", "A", "Q is A."), Fact("b", "R?", "B", "R is B.")]


@pytest.fixture
def built(tmp_path):
    splits = {
        "train": FACTS,
        "retrieval": [EvalItem("r", "S?", "C", ("S is C.",))],
        "paraphrased": [EvalItem("a#1", "Q, then?", "A"), EvalItem("b#1", "R, then?", "B")],
        "two_hop": [EvalItem("a+b", "R of Q?", "B")],
        "unseen": [EvalItem("u", "U?", "D")],
    }
    folder.write(tmp_path / "out", "own", {}, splits)
    return tmp_path / "out"


def test_a_built_folder_gives_its_facts_and_all_its_splits(built):
    corpus = load(parse_data({"facts": str(built)}))
    assert corpus.facts == FACTS
    assert [item.id for item in corpus.retrieval] == ["r"]
    ids = {name: [item.id for item in items] for name, items in corpus.splits.items()}
    assert ids == {"paraphrased": ["a#1", "b#1"], "two_hop": ["a+b"], "unseen": ["u"]}


def test_a_limit_also_drops_the_questions_about_facts_that_are_cut_off(built):
    corpus = load(parse_data({"facts": str(built), "limit": 1}))
    assert corpus.facts == FACTS[:1]
    ids = {name: [item.id for item in items] for name, items in corpus.splits.items()}
    assert ids == {"paraphrased": ["a#1"], "two_hop": [], "unseen": ["u"]}
    assert [item.id for item in corpus.retrieval] == ["r"]


def test_a_path_becomes_absolute_and_a_hub_id_stays_what_it_is(built, monkeypatch):
    monkeypatch.chdir(built.parent)
    settings = parse_data({"facts": "out"})
    monkeypatch.chdir("/")
    assert load(settings).facts == FACTS
    assert parse_data({"facts": "someone/facts"}).facts == "someone/facts"
    monkeypatch.chdir(built.parent)
    assert parse_data({"simpleqa": {}, "root": "copies"}).root == built.parent / "copies"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({}, "set exactly one of data.kgfact, data.kgfunc, data.simpleqa, .*; currently set: none"),
        ({"kgfact": {}, "facts": "x"}, "currently set: kgfact, facts"),
        ({"kgfact": {}, "root": "x"}, "data.root is for data.simpleqa and data.mquake, not kgfact"),
        ({"kgfunc": {"train": 1}}, "data.kgfunc.train: no such setting; did you mean data.kgfunc."),
    ],
)
def test_a_data_section_that_cannot_work_is_refused(data, message):
    with pytest.raises(UserError, match=message):
        parse_data(data)


def test_generated_corpora_bring_their_splits():
    corpus = load(parse_data({"kgfact": {"domains": 3, "entities": 2}}))
    assert len(corpus.facts) == len(corpus.retrieval) == 6
    assert {name: len(items) for name, items in corpus.splits.items()} == {
        "paraphrased": 30,
        "two_hop": 2,
    }
    corpus = load(parse_data({"kgfunc": {"train_per_op": 2, "test_per_op": 1}}))
    assert (len(corpus.facts), corpus.retrieval) == (14, [])
    assert {name: len(items) for name, items in corpus.splits.items()} == {"test": 7, "unseen": 500}


def test_generated_corpora_can_have_the_papers_wording():
    wording = {"wording": "paper"}
    kgfact = load(parse_data({"kgfact": {"domains": 3, "entities": 2, **wording}}))
    assert len(kgfact.splits["paraphrased"]) == 6
    kgfunc = load(parse_data({"kgfunc": {"train_per_op": 1, "test_per_op": 1, **wording}}))
    asked = [*kgfunc.facts, *kgfunc.splits["test"], *kgfunc.splits["unseen"]]
    assert all(record.question.startswith("Based on the input\u2013output ") for record in asked)
    with pytest.raises(UserError, match=r"data.kgfact.wording: input should be 'ours' or 'paper'"):
        parse_data({"kgfact": {"wording": "theirs"}})


def test_published_corpora_are_read_below_the_root(data_root):
    root = str(data_root)
    assert len(load(parse_data({"simpleqa": {}, "root": root, "limit": 9})).facts) == 9
    edits = load(parse_data({"mquake": {"file": "MQuAKE-hard.json"}, "root": root}))
    assert {name: len(items) for name, items in edits.splits.items()} == {
        "recall": 767,
        "four_hop": 1281,
    }
    assert len(edits.remarks) == 2


def test_a_folder_that_holds_something_is_never_written_into(built):
    before = sorted(path.name for path in built.iterdir())
    with pytest.raises(UserError, match="not empty; choose another folder"):
        folder.write(built, "own", {}, {"train": FACTS})
    assert sorted(path.name for path in built.iterdir()) == before
    assert [path.name for path in built.parent.iterdir()] == ["out"]


def test_a_failed_write_leaves_nothing(tmp_path):
    lone_surrogate = EvalItem("a", "\ud800", "A")
    with pytest.raises(UnicodeEncodeError):
        folder.write(tmp_path / "out", "own", {}, {"train": FACTS, "bad": [lone_surrogate]})
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        folder.write(tmp_path / "file" / "out", "own", {}, {"train": FACTS})


def test_a_card_counts_and_hashes_each_split(built):
    card = json.loads((built / "card.json").read_text())
    assert card["corpus"] == "own"
    assert card["splits"]["train"]["count"] == 2
    assert folder.check_hashes(built) == []
    (built / "train.jsonl").write_text("")
    (built / "unseen.jsonl").unlink()
    assert folder.check_hashes(built) == [
        f"{built / 'train.jsonl'}: changed since it was built (its sha256 differs from the card's)",
        f"{built / 'unseen.jsonl'}: missing",
    ]


CARDS = [
    "",
    "[]",
    "{}",
    '{"splits": {}}',
    '{"corpus": "own", "splits": {"../../etc/x": {"count": 1, "sha256": "0"}, "train": {}}}',
    '{"corpus": "own", "splits": {"train": {"count": 1}}}',
    "[" * 100_000,
]


@pytest.mark.parametrize("card", CARDS)
def test_a_damaged_card_is_refused(built, card):
    (built / "card.json").write_text(card)
    with pytest.raises(UserError, match="not the card of a built corpus; build it again"):
        load(parse_data({"facts": str(built)}))


def test_duplicates_and_contradictions_name_their_places_whatever_case_and_blanks(tmp_path):
    path = tmp_path / "facts.jsonl"
    rows = [("Q?", "A"), ("q? ", "B"), ("R?", "C"), ("R?", "c."), ("S?", "A")]
    lines = [json.dumps({"question": question, "answer": answer}) for question, answer in rows]
    path.write_text("\n".join(lines))
    found = inspection.inspect(str(path))
    assert found.contradictions == [f"{path}:1, {path}:2: 'Q?' is answered 'A', 'B'"]
    assert found.duplicates == [f"{path}:3, {path}:4: 'R?' is asked 2 times"]
    assert found.problems == []


def rebuilt(tmp_path, corpus: str, source: Corpus, facts: list[Fact]) -> list[str]:
    splits = {"train": facts, "retrieval": source.retrieval}
    folder.write(tmp_path / "out", corpus, {}, splits)
    return inspection.inspect(str(tmp_path / "out")).problems


def test_inspection_proves_a_built_kgfact_unique_both_ways(tmp_path):
    corpus = load(parse_data({"kgfact": {"domains": 7, "entities": 25}}))
    assert rebuilt(tmp_path, "kgfact", corpus, corpus.facts) == []


def test_inspection_finds_a_second_subject_in_a_built_kgfact(tmp_path):
    corpus = load(parse_data({"kgfact": {}}))
    first, second = corpus.facts[:2]
    statement = first.statement.replace(first.subject, second.subject)
    planted = Fact(second.id, second.question, first.answer, statement, subject=second.subject)
    problems = rebuilt(tmp_path, "kgfact", corpus, [first, planted])
    assert f"{second.id}: same object and relation as {first.id}" in problems


def test_inspection_recomputes_the_solutions_of_a_built_kgfunc(tmp_path):
    corpus = load(parse_data({"kgfunc": {"train_per_op": 2, "test_per_op": 0}}))
    fact = corpus.facts[0]
    target = fact.target.replace("Sum: ", "Sum: 1 + ")
    planted = Fact(fact.id, fact.question, fact.answer, fact.statement, target, fact.subject)
    problems = rebuilt(tmp_path, "kgfunc", corpus, [planted, *corpus.facts[1:]])
    assert len(problems) == 1
    assert problems[0].startswith(f"{fact.id}: line ")


def test_inspection_names_facts_whose_ids_are_not_of_the_corpus(tmp_path):
    corpus = load(parse_data({"kgfact": {}}))
    stray = Fact("x", "q", "a", "a", subject="s")
    problems = rebuilt(tmp_path, "kgfact", corpus, [*corpus.facts, stray])
    assert problems[0] == "x: the id names no domains (kgfact-person-location-000)"


def test_inspection_reads_no_number_that_python_cannot(tmp_path):
    corpus = load(parse_data({"kgfunc": {"train_per_op": 1, "test_per_op": 0}}))
    fact = corpus.facts[0]
    target = re.sub(r"= \d+\.", f"= {'9' * 5000}.", fact.target, count=1)
    planted = Fact(fact.id, fact.question, fact.answer, fact.statement, target, fact.subject)
    problems = rebuilt(tmp_path, "kgfunc", corpus, [planted])
    assert problems[0].startswith(f"{fact.id}: line 3 is wrong: ")
    assert len(problems[0]) < 300


@pytest.mark.parametrize("facts", ["~nobody_of_that_name/f.jsonl", "x" * 5000, "a" * 300 + ".csv"])
def test_a_path_that_cannot_be_is_refused(facts):
    with pytest.raises(UserError, match=r"data\.facts: .* cannot be read"):
        load(parse_data({"facts": facts}))
