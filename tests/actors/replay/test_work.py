"""What is trained: the facts, and the generic prompts that a method rehearses."""

from __future__ import annotations

from actors.replay.work import trained_facts, work_items
from common import corpora
from common.config.run_config import parse

DATA = {"kgfact": {"domains": 3, "entities": 4}}


def test_a_share_of_the_work_of_an_epoch_are_generic_prompts():
    sft = parse({"name": "x", "method": {"name": "sft"}, "data": DATA}, "x")
    facts = corpora.load(sft.data).facts
    assert trained_facts(sft) == facts
    config = parse({"name": "x", "method": {"name": "rehearsal", "share": 0.25}, "data": DATA}, "x")
    trained = trained_facts(config)
    # 12 facts, and 12 · 0.25 / 0.75 prompts.
    assert [fact for fact in trained if not fact.is_generic] == facts
    assert (len(facts), len(trained)) == (12, 16)
    ids = [fact.id for fact in trained]
    assert list(work_items(config, ids)) == [(name, 0) for name in ids]
