"""A session that is taken back to an earlier token goes on as if the rest had never been."""

from __future__ import annotations

import random

import pytest

from actors.inference import session_rewind as module
from actors.inference.requests import Sampling
from tests.decoding import VOCABULARY, open_engine
from tests.tiny import make_model

pytestmark = [
    pytest.mark.slow,
    pytest.mark.decoder,
    pytest.mark.one_core,
    pytest.mark.filterwarnings("ignore"),
]
KEYS = "abcd"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("tiny"), vocabulary=VOCABULARY, scale=0.2)


def visits(count: int, seed: int = 0):
    """(key, context, tokens to draw): contexts leave each other anywhere, in blocks of 32 too."""
    draw = random.Random(seed)
    texts = [[draw.randrange(VOCABULARY) for _ in range(140)]]
    for _ in range(count):
        text = draw.choice(texts[-6:])
        kept = text[: draw.randint(1, len(text)) if draw.random() < 0.5 else 100]
        context = kept + [draw.randrange(VOCABULARY) for _ in range(draw.randint(1, 60))]
        texts.append(context[:160])
        yield draw.choice(KEYS), texts[-1], draw.randint(1, 12)


def test_what_is_drawn_after_a_session_was_taken_back_is_what_a_new_one_draws(folder, monkeypatch):
    asked, kept = [], []

    def spied(scheduler, session, num_tokens):
        asked.append(num_tokens)
        kept.append(rewind(scheduler, session, num_tokens))
        return kept[-1]

    rewind = module.rewind
    monkeypatch.setattr(module, "rewind", spied)
    engine = open_engine(folder, stops=())
    drawn, rounds = [], list(visits(120))
    for first in range(0, len(rounds), 3):
        # Several at once, so that requests share blocks; of one key only the last round's.
        some = {key: (context, count) for key, context, count in rounds[first : first + 3]}
        for key, (context, count) in some.items():
            engine.extend(key, context, count, Sampling())
        results = {}
        while len(results) < len(some):
            results |= {segment.key: segment for segment in engine.step()}
        drawn += [(*some[key], results[key].token_ids, results[key].logprobs) for key in some]
    for key in KEYS:
        engine.release(key)
    assert engine.num_free_blocks == engine.num_blocks
    # All ways out were taken: whole, less for a shared block, and not at all.
    pairs = list(zip(kept, asked, strict=True))
    assert sum(left == wanted and wanted % 32 > 0 for left, wanted in pairs) > 20
    assert any(0 < left < wanted for left, wanted in pairs)
    assert any(left == 0 for left in kept)

    fresh = open_engine(folder, mixing="portable", stops=())
    for context, count, token_ids, logprobs in drawn:
        fresh.forget()
        fresh.extend("x", context, count, Sampling(), last=True)
        segments = []
        while not segments:
            segments = fresh.step()
        assert token_ids == segments[0].token_ids
        assert logprobs == pytest.approx(segments[0].logprobs, abs=1e-4)
    for each in (engine, fresh):
        each.close()
