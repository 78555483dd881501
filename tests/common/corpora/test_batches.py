"""Facts of earlier batches after the edits of later ones."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.corpora import load
from common.corpora.batches import follow
from common.corpora.settings import DataSettings
from common.errors import UserError
from common.records import Fact

LEADER = Fact("1", "Who leads Orveline?", "Tam Okord", aliases=("T. Okord",))
RIVER = Fact("2", "Where does the Sele end?", "Lake Marn")


def states(*batches):
    """(batch, id, what is right now, what is so no more) of every earlier fact."""
    return [(one.batch, one.fact.id, one.now.answer, one.outdated) for one in follow(batches)]


def test_a_later_fact_with_the_same_question_and_another_answer_edits_the_earlier_one():
    new = Fact("1", "who leads  orveline?", "Ivo Ler")
    assert states([LEADER, RIVER], [new]) == [
        (1, "1", "Ivo Ler", ("Tam Okord", "T. Okord")),
        (1, "2", "Lake Marn", ()),
    ]
    found, kept = follow([[LEADER, RIVER], [new]])
    assert found.is_edited
    assert not kept.is_edited


def test_another_spelling_of_the_same_answer_is_no_edit():
    again = Fact("9", "Who leads Orveline?", "t. okord")
    assert states([LEADER], [again]) == [(1, "1", "Tam Okord", ())]


def test_a_fact_replaces_another_by_its_id_with_a_question_of_its_own():
    new = Fact("x", "Which lake does the Sele reach?", "Lake Orn", replaces="2")
    assert states([LEADER, RIVER], [new]) == [
        (1, "1", "Tam Okord", ()),
        (1, "2", "Lake Orn", ("Lake Marn",)),
    ]


def test_an_edit_of_an_edit_outdates_both_answers_and_one_back_makes_the_first_right():
    second, third = (Fact("1", LEADER.question, answer) for answer in ("Ivo Ler", "Ann"))
    assert states([LEADER], [second], [third]) == [
        (1, "1", "Ann", ("Tam Okord", "T. Okord", "Ivo Ler")),
        (2, "1", "Ann", ("Ivo Ler",)),
    ]
    assert states([LEADER], [second], [LEADER])[0] == (1, "1", "Tam Okord", ("Ivo Ler",))


def test_an_id_means_the_fact_of_the_latest_batch_that_has_it_and_what_that_one_edited():
    # Ids are often numbers of lines, so several batches have them.
    other = Fact("2", "Where does the Ume end?", "the sea")
    lake = Fact("7", "Which lake does the Sele reach?", "Lake Orn", replaces="2")
    bay = Fact("8", "Which bay does the Sele reach?", "Ume Bay", replaces="7")
    assert states([RIVER], [lake], [bay]) == [
        (1, "2", "Ume Bay", ("Lake Marn", "Lake Orn")),
        (2, "7", "Ume Bay", ("Lake Orn",)),
    ]
    assert states([RIVER], [other], [lake]) == [
        (1, "2", "Lake Marn", ()),
        (2, "2", "Lake Orn", ("the sea",)),
    ]


def test_an_edit_by_id_also_edits_the_same_question_of_an_earlier_batch():
    again = Fact("again", RIVER.question, RIVER.answer)
    new = Fact("x", "Which lake does the Sele reach?", "Lake Orn", replaces="again")
    assert [one[2] for one in states([RIVER], [again], [new])] == ["Lake Orn", "Lake Orn"]


def test_a_fact_cannot_replace_what_no_earlier_batch_has():
    new = Fact("x", "?", "Lake Orn", replaces="3")
    with pytest.raises(UserError, match=r"fact x replaces 3, but no earlier batch has"):
        follow([[LEADER], [new]])


def test_after_a_retraction_no_answer_is_right_until_one_is_taught_again():
    gone = Fact("x", LEADER.question, "Tam Okord", retract=True)
    (found,) = follow([[LEADER], [gone]])
    assert (found.holds, found.is_edited, found.is_retracted) == (False, False, True)
    assert found.outdated == ("Tam Okord", "T. Okord")
    again = Fact("y", LEADER.question, "Ivo Ler")
    for one in follow([[LEADER], [gone], [again]]):
        assert (one.is_edited, one.now.answer) == (True, "Ivo Ler")
    first, second = follow([[LEADER], [gone], [LEADER]])
    assert (first.now.answer, first.outdated) == ("Tam Okord", ())
    assert second.now.answer == "Tam Okord"


QUESTIONS, ANSWERS = st.sampled_from(["a?", "b?", "c?"]), st.sampled_from(["u", "v", "w"])
BATCHES = st.lists(st.dictionaries(QUESTIONS, ANSWERS), min_size=1, max_size=5)


@given(BATCHES)
def test_the_last_answer_to_a_question_is_right_and_all_other_ones_are_outdated(batches):
    taught = [
        [Fact(question, question, answer) for question, answer in of.items()] for of in batches
    ]
    for one in follow(taught):
        question = one.fact.question
        since = [of[question] for of in batches[one.batch - 1 :] if question in of]
        assert one.now.answer == since[-1]
        assert set(one.outdated) == set(since) - {since[-1]}


def test_a_corpus_has_the_facts_of_earlier_batches_within_their_limits(tmp_path):
    first = DataSettings(kgfact={"domains": 2, "entities": 3}, limit=2)
    path = tmp_path / "second.jsonl"
    path.write_text('{"question": "Who leads Orveline?", "answer": "Ivo Ler"}\n')
    corpus = load(DataSettings(facts=str(path)), [first])
    assert [one.batch for one in corpus.earlier] == [1, 1]
    assert [fact.answer for fact in corpus.taught][2:] == ["Ivo Ler"]
    assert load(DataSettings(facts=str(path))).earlier == ()
