"""Generic prompts, and their place among the facts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.corpora import rehearsal
from common.errors import UserError
from common.methods.base import Rehearsal
from common.records import Fact

FACTS = [Fact(name, f"Who is {name}?", "A") for name in "abcd"]


def test_generic_prompts_are_spread_evenly_among_the_facts():
    mixed = rehearsal.add(FACTS, ["Hi.", "Why?", "How?"], 2, answers_differ=False)
    assert [fact.id for fact in mixed] == ["a", "rehearsal-0", "b", "c", "rehearsal-1", "d"]
    assert [fact.question for fact in mixed if fact.is_generic] == ["Hi.", "Why?"]


def test_prompts_are_repeated_only_if_their_answers_differ():
    mixed = rehearsal.add(FACTS, ["Hi.", "Why?"], 3, answers_differ=True)
    generic = {fact.id: fact.question for fact in mixed if fact.is_generic}
    assert generic == {"rehearsal-0": "Hi.", "rehearsal-1": "Why?", "rehearsal-2": "Hi."}
    message = r"asks for 3 generic prompts beside 4 facts, but there are 2, .* raise the temp"
    with pytest.raises(UserError, match=message):
        rehearsal.add(FACTS, ["Hi.", "Why?"], 3, answers_differ=False)


def test_a_fact_with_the_id_of_a_generic_prompt_is_refused():
    facts = [*FACTS, Fact("rehearsal-1", "Who?", "A")]
    rehearsal.add(facts, ["Hi.", "Why?"], 1, answers_differ=False)
    with pytest.raises(UserError, match=r"fact rehearsal-1: generic prompts have such ids"):
        rehearsal.add(facts, ["Hi.", "Why?"], 2, answers_differ=False)


@given(st.integers(1, 100_000), st.floats(0.001, 0.95))
def test_the_number_of_facts_follows_from_that_of_all_items(facts, share):
    chosen = Rehearsal(share, None)
    count = chosen.num_prompts(facts)
    assert abs(count - share * (facts + count)) <= 0.5
    assert chosen.num_facts(facts + count) == facts


def test_packaged_prompts_are_distinct_and_a_file_is_read(tmp_path):
    packaged = rehearsal.read_prompts(None)
    assert len(set(packaged)) == len(packaged) == 80
    assert all(prompt.strip() == prompt for prompt in packaged)
    path = tmp_path / "own.jsonl"
    path.write_text('{"prompt": "Hi."}\n{"prompt": " Why? "}\n{"prompt": "Hi."}\n')
    assert rehearsal.read_prompts(path) == ["Hi.", "Why?"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "contains no prompts; name another file"),
        ('{"question": "Hi."}', "prompt"),
        ('{"prompt": " "}', "own.jsonl.*: prompt: .*it is empty"),
        ('{"prompt": 3}', "prompt: .* 3"),
    ],
)
def test_a_malformed_file_of_prompts_is_refused(tmp_path, content, message):
    path = tmp_path / "own.jsonl"
    path.write_text(content)
    with pytest.raises(UserError, match=message):
        rehearsal.read_prompts(path)
