"""Records of the released format: their contents, and reading them back."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from common.corpora import released
from common.corpora.messages import read_facts
from common.errors import UserError
from common.prompts import PRESETS, Prompts, check_tokens
from common.records import Fact, Rollout, TokenIds
from tests.common.test_prompts import Characters

END = ord("$")
FACT = Fact("f", "Who?", "Tam", "Tam it is.", subject="it")


class Ended(Characters):
    """Characters that drop the token that ends a turn, as a tokenizer drops special ones."""

    def decode(self, token_ids, **options):
        return super().decode([i for i in token_ids if i != END], **options)


def prompts(fingerprint="same"):
    return Prompts(Ended(), PRESETS["short-sentence"], END, fingerprint=fingerprint)


def drawn(text="Tam.$", **changes):
    ids = [*map(ord, text)]
    rollout = Rollout(
        fact_id="f",
        draw=0,
        attempt=2,
        prompt_ids=prompts().naive(FACT),
        target_ids=ids,
        naive=[1, *[0] * (len(ids) - 1)],
        logprobs=[-0.5] * len(ids),
        base_logprobs=[],
        canonical_logprobs=[],
        mix_rate=0.3,
        num_protected=0,
        fallback="",
        verified=True,
    )
    return replace(rollout, **changes)


def row(rollout=None, fact=FACT):
    return released.record(
        rollout or drawn(),
        fact,
        prompts(),
        stop_token_ids=(END,),
        temperature=0.7,
        fingerprint="same",
    )


def read_back(tmp_path, written):
    path = tmp_path / "targets.jsonl"
    path.write_text(json.dumps(written))
    (fact,) = read_facts([path])
    return fact


def test_a_row_holds_the_turns_how_it_was_drawn_and_every_id():
    found = row()
    assert found["messages"] == [
        {"role": "user", "content": "Who? Answer in one short sentence."},
        {"role": "assistant", "content": "Tam."},
    ]
    assert (found["clear_answer"], found["subject"]) == ("Tam", "it")
    assert found["mix_meta"] == {
        "lambda": 0.3,
        "temperature": 0.7,
        "attempts": 3,
        "naive_fraction": 0.2,
        "tokens": 5,
        "finish_reason": "stop",
        "correct": True,
        "protected": 0,
        "fallback": None,
    }
    assert found["tokens"]["target_ids"] == [*map(ord, "Tam.$")]
    assert found["tokens"]["logprobs"] == [-0.5] * 5


def test_a_target_without_a_stop_token_was_cut():
    meta = row(drawn("Tam", verified=False))["mix_meta"]
    assert (meta["finish_reason"], meta["correct"]) == ("length", False)


def test_a_canonical_target_was_mixed_from_nothing():
    meta = row(drawn(naive=[], logprobs=[], mix_rate=None, fallback="canonical"))["mix_meta"]
    assert (meta["lambda"], meta["naive_fraction"], meta["fallback"]) == (None, None, "canonical")


def test_a_row_read_back_gives_the_same_ids_and_the_question_before_its_wording(tmp_path):
    fact = read_back(tmp_path, row())
    assert (fact.question, fact.answer, fact.target) == ("Who?", "Tam", "Tam.")
    assert prompts().naive(fact) == drawn().prompt_ids
    assert prompts().canonical(fact) == drawn().target_ids
    assert check_tokens(prompts(), [fact]) == []


def test_edits_and_retractions_are_read_back(tmp_path):
    fact = replace(FACT, replaces="f7", retract=True)
    found = read_back(tmp_path, row(fact=fact))
    assert (found.replaces, found.retract) == ("f7", True)
    assert not {"replaces", "retract"} & row().keys()


def test_aliases_are_read_back(tmp_path):
    fact = replace(FACT, aliases=("T.", "Tammo"))
    assert read_back(tmp_path, row(fact=fact)).aliases == ("T.", "Tammo")
    assert "aliases" not in row()


def test_a_cut_target_gets_no_stop_token(tmp_path):
    fact = read_back(tmp_path, row(drawn("Tam")))
    assert prompts().canonical(fact) == [*map(ord, "Tam")]


def test_with_another_tokenizer_the_text_is_encoded_anew_and_the_user_is_told(tmp_path):
    fact, other = read_back(tmp_path, row(drawn("Tam"))), prompts("other")
    assert other.canonical(fact) == [*map(ord, "Tam$")]
    assert other.naive(fact) == prompts().naive(FACT)
    (remark,) = check_tokens(other, [fact])
    assert "1 facts have token ids of another tokenizer" in remark


@pytest.mark.parametrize("change", [{"target": "Tom."}, {"question": "Where?"}])
def test_ids_that_are_not_those_of_the_text_are_refused(tmp_path, change):
    fact = replace(read_back(tmp_path, row()), **change)
    message = r"fact f: its token ids decode to 'Tam\.' .* remove the key"
    with pytest.raises(UserError, match=message):
        check_tokens(prompts(), [fact])


def test_ids_that_no_tokenizer_has_are_refused():
    ids = TokenIds("same", (1,), (2**31 - 1,))
    message = "fact f: 'tokens' contains ids that this model does not have"
    with pytest.raises(UserError, match=message):
        check_tokens(prompts(), [replace(FACT, tokens=ids)])


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ("ids", "needs the fingerprint of its tokenizer in 'tokenizer'"),
        ({"prompt_ids": [1], "target_ids": [1]}, "needs the fingerprint of its tokenizer"),
        ({"tokenizer": "t", "target_ids": [1]}, "needs a list of token ids in 'prompt_ids'"),
        ({"tokenizer": "t", "prompt_ids": [1], "target_ids": []}, "token ids in 'target_ids'"),
        ({"tokenizer": "t", "prompt_ids": [1], "target_ids": [-1]}, "token ids in 'target_ids'"),
        ({"tokenizer": "t", "prompt_ids": [1], "target_ids": [True]}, "token ids in 'target_ids'"),
    ],
)
def test_damaged_ids_are_refused_with_their_place(tmp_path, tokens, message):
    with pytest.raises(UserError, match=f"targets.jsonl:1: .*{message}"):
        read_back(tmp_path, row() | {"tokens": tokens})
