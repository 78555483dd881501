"""Which facts a limit keeps."""

from __future__ import annotations

from collections import Counter

from common.config.run_config import parse_data
from common.corpora import folder, limits, load
from common.records import EvalItem, Fact


def kept(limit: int, *facts: tuple[str, str]) -> list[str]:
    return [
        fact.id for fact in limits.keep([Fact(id, "q", "a", subject=of) for id, of in facts], limit)
    ]


def numbered(*subjects: str) -> list[tuple[str, str]]:
    return [(str(number), subject) for number, subject in enumerate(subjects)]


def test_subjects_take_turns_and_the_order_stays():
    # Ten facts of a, nine of b, one of c: of five, the first of each and the second of a and b.
    facts = numbered(*"aaaaaaaaaabbbbbbbbbc", *"a" * 10)
    assert kept(5, *facts) == ["0", "1", "10", "11", "19"]
    assert kept(4, *facts) == ["0", "1", "10", "19"]
    assert kept(2, *facts) == ["0", "10"]
    # Once b and c are used up, a fills the rest.
    assert kept(13, *facts) == ["0", "1", "2", "3", "4", "5", *map(str, range(10, 16)), "19"]
    assert kept(99, *facts) == [str(number) for number in range(30)]


def test_subjects_that_are_many_are_no_strata():
    # 19 facts of two subjects have fewer than ten each on average.
    assert kept(2, *numbered(*"a" * 10, *"b" * 9)) == ["0", "1"]
    assert kept(2, *numbered(*"a" * 10, *"b" * 10)) == ["0", "10"]
    assert kept(2, *numbered("", "", "")) == ["0", "1"]


def test_1600_facts_of_kgfunc_have_all_seven_operations():
    corpus = load(parse_data({"kgfunc": {"test_per_op": 2}, "limit": 1600}))
    per_operation = Counter(fact.subject for fact in corpus.facts)
    # 1600 = 7 * 228 + 4
    assert per_operation == {
        **dict.fromkeys("BCDE", 229),
        **dict.fromkeys("FGH", 228),
    }
    # Held-out questions stay whole.
    assert {name: len(items) for name, items in corpus.splits.items()} == {
        "test": 14,
        "unseen": 500,
    }
    assert load(parse_data({"kgfunc": {"test_per_op": 2}, "limit": 1600})) == corpus


def test_a_limit_of_kgfact_spreads_over_the_pairs_of_domains(tmp_path):
    corpus = load(parse_data({"kgfact": {}, "limit": 20}))
    pairs = Counter(fact.id.rpartition("-")[0] for fact in corpus.facts)
    assert (len(pairs), set(pairs.values())) == (10, {2})
    trained = {fact.id for fact in corpus.facts}
    assert {item.id.partition("#")[0] for item in corpus.splits["paraphrased"]} == trained
    assert all(trained.issuperset(item.id.split("+")) for item in corpus.splits["two_hop"])
    assert len(corpus.retrieval) == 100
    # And so does that of its files.
    whole = load(parse_data({"kgfact": {}}))
    folder.write(tmp_path / "out", "kgfact", {}, {"train": whole.facts})
    assert load(parse_data({"facts": str(tmp_path / "out"), "limit": 20})).facts == corpus.facts


def test_targets_of_generated_facts_are_spread_alike():
    ids = ["kgfunc-B-00001", "kgfunc-B-00002#draw-1", "kgfunc-C-00001#draw-2"]
    assert kept(2, *((id, "") for id in ids)) == [ids[0], ids[2]]


def test_a_question_stays_if_all_its_facts_do(tmp_path):
    facts = [Fact(name, f"{name}?", name) for name in "abc"]
    items = [EvalItem(id, "q", "x") for id in ("a", "a+b", "a+b#2", "b+c", "c#1", "elsewhere")]
    folder.write(tmp_path / "out", "own", {}, {"train": facts, "asked": items})
    corpus = load(parse_data({"facts": str(tmp_path / "out"), "limit": 2}))
    assert [item.id for item in corpus.splits["asked"]] == ["a", "a+b", "a+b#2", "elsewhere"]
