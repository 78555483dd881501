"""Where facts are edited, and in which layers."""

from __future__ import annotations

import pytest

from common.methods import MEMIT
from common.prompts import Prompts, preset
from common.records import Fact
from learner.editing.sites import last_token_of, sites_of
from learner.editing.support import edited_layers


class Letters:
    """One token for each character; the chat template puts '<' before and '>' after the turn."""

    def apply_chat_template(self, conversation, **options):
        return {"input_ids": self.encode(f"<{conversation[0]['content']}>")}

    def encode(self, text, *, add_special_tokens=False):
        return [ord(letter) for letter in text]

    def decode(self, token_ids, **options):
        return "".join(map(chr, token_ids))


class Pairs(Letters):
    """One token for each two characters."""

    def encode(self, text, *, add_special_tokens=False):
        return [ord(a) * 256 + ord(b) for a, b in zip(text[::2], text[1::2], strict=True)]

    def decode(self, token_ids, **options):
        return "".join(chr(token // 256) + chr(token % 256) for token in token_ids)


def prompts_of(tokenizer) -> Prompts:
    return Prompts(tokenizer, preset("short-sentence"), 0)


def test_the_last_occurrence_of_a_subject_ends_at_its_last_token():
    prompts = prompts_of(Letters())
    ids = Letters().encode("Ada met Ada today")
    assert last_token_of(prompts, ids, "Ada") == 10
    assert last_token_of(prompts, ids, "Bob") is None
    assert last_token_of(prompts, ids, "") is None
    # "is", " A", "da", " s" and "o!": the subject begins inside a token.
    assert last_token_of(prompts_of(Pairs()), Pairs().encode("is Ada so!"), "Ada") == 2


def test_facts_are_found_by_their_prompt_and_have_a_neutral_prompt_about_their_subject():
    prompts = prompts_of(Letters())
    fact = Fact("1", "Who leads Orveline?", "Tam Okord", subject="Orveline")
    (found,) = sites_of(prompts, [fact]).items()
    ids, site = found
    assert list(ids) == prompts.naive(fact)
    assert prompts.text(ids[: site.position + 1]).endswith("Who leads Orveline")
    assert prompts.text(site.essence.ids) == "Orveline is a"
    assert site.essence.position == len("Orveline") - 1


def test_a_fact_whose_prompt_lacks_its_subject_has_no_site():
    facts = [Fact("1", "Who leads it?", "Tam", subject="Orveline"), Fact("2", "Who?", "Tam")]
    assert sites_of(prompts_of(Letters()), facts) == {}


@pytest.mark.parametrize(
    ("depth", "layers"),
    # GPT-J's 28 layers (the paper edits 3 to 8), SmolLM2-135M, Qwen3-8B and a toy.
    [(28, range(4, 9)), (30, range(4, 9)), (36, range(6, 11)), (2, range(1))],
)
def test_by_default_the_span_ends_at_two_sevenths_of_the_depth(depth, layers):
    config = {"model_type": "llama", "num_hidden_layers": depth, "intermediate_size": 64}
    assert edited_layers(config, MEMIT().edit) == layers
    assert edited_layers(config, MEMIT(layers=(0, 1)).edit) == range(2)
