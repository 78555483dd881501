"""A language of five letters: its tokenizer, a deterministic engine, a queue, and rolled facts."""

import random

import numpy as np

from actors.decoding.paired_decoder import open_decoder
from actors.inference.requests import EngineOutput, TopLogprobs, row_key
from actors.replay.replies import Grant
from actors.rollout.mixed import MixedRolloutActor
from common.config.sections import RolloutSettings
from common.methods import MixSD
from common.prompts import Preset, Prompts
from common.records import Fact, Work

LETTERS = ".ab c"  # token 0 stops
STOP, MAX_TOKENS, GUIDANCE = 0, 7, ":"
FACTS = {
    name: Fact(name, question="q" + name, answer=answer, statement=answer)
    for name, answer in zip("fghijklm", ("a", "ab", "b", "ba", "a b", "bb", "a", "b"), strict=True)
}


class LetterTokenizer:
    def apply_chat_template(self, conversation, **options):
        return {"input_ids": [ord(letter) for letter in conversation[0]["content"]]}

    def encode(self, text, *, add_special_tokens):
        return [LETTERS.index(letter) for letter in text]

    def __len__(self):
        return len(LETTERS)

    def decode(self, token_ids, **options):
        return "".join(LETTERS[token] for token in token_ids if token != STOP)


def prompts(mode, expert=None):
    preset = Preset(
        ask="{question}",
        canonical="{answer}",
        prefix=GUIDANCE,
        shown="{statement}",
        transition="",
        mode=mode,
    )
    return Prompts(LetterTokenizer(), preset, STOP, expert=expert)


class AnyOrderEngine:
    """The next token is a function of context and seed; segments come out in random order."""

    num_blocks, max_model_len, mixing = 10_000, 1_000, "sessions"

    def __init__(self, order):
        self._order, self._ready, self.num_drawn = random.Random(order), {}, 0

    def extend(self, key, context, num_tokens, sampling, *, last):
        drawn = []
        while len(drawn) < num_tokens and STOP not in drawn:
            drawn.append(next_token([*context, *drawn], (sampling.seed, len(drawn))))
        self._ready[key] = EngineOutput(key, drawn, [-float(token) for token in drawn], [])

    def begin_score(self, key, token_ids, top=0):
        logprobs = [-float(token) for token in token_ids[1:]]
        likeliest = None
        if top:
            ids = np.array([[token, *range(top)] for token in token_ids[1:]])
            likeliest = TopLogprobs(ids, -float(len(token_ids)) * np.ones_like(ids))
        self._ready[key] = EngineOutput(key, [0], [0.0], logprobs, likeliest)

    def release(self, key):
        self._ready.pop(key, None)

    def step(self):
        out = [key for key in self._ready if self._order.random() < 0.5]
        self._order.shuffle(out)
        segments = [self._ready.pop(key) for key in out]
        self.num_drawn += sum(len(segment.token_ids) for segment in segments)
        return segments

    def ends(self, token_id):
        return token_id == STOP

    def blocks_for(self, num_tokens):
        return 1


class PairingEngine(AnyOrderEngine):
    """Draws for both rows of a pair, whose outputs come out apart and in any order."""

    mixing, max_batched_tokens = "paired", 10_000

    def extend_pair(self, key, contexts, picks, sampling, seeds):
        drawn = []
        while len(drawn) < len(picks) and STOP not in drawn:
            context = contexts[picks[len(drawn)]]
            drawn.append(next_token([*context, *drawn], (seeds and seeds[len(drawn)], 0)))
        logprobs = [-float(token) for token in drawn]
        for naive in (True, False):
            row = row_key(key, naive)
            self._ready[row] = EngineOutput(row, drawn, logprobs, [])

    def generated(self, key):
        return [], []


def next_token(context, seed=(None, 0)):
    if seed[0] is None:
        seed = None
    return random.Random(f"{context} {seed}").choice([0, 1, 1, 2, 2, 3, 4])


class Actor(MixedRolloutActor):
    """Polls at once: a queue in this process has its answer ready."""

    idle_s = 0.0


class Queue:
    """Grants every fact once; keeps what comes back."""

    def __init__(self, facts=FACTS):
        self._work = [Work(index, name, 0) for index, name in enumerate(facts)]
        self.rollouts, self.attempts, self.exhausted = {}, {}, {}

    def lease(self, owner, count, holding, version):
        granted, self._work = self._work[:count], self._work[count:]
        return Grant(granted, over=not (self._work or granted or holding))

    def insert_many(self, items):
        for item in items:
            assert item.fact_id not in self.rollouts | self.exhausted
            self.rollouts[item.fact_id] = item.unpack()
            self.attempts[item.fact_id] = item.attempts
        return [True] * len(items)

    def exhaust(self, fact_id, draw, reason, attempts):
        assert fact_id not in self.rollouts | self.exhausted
        self.exhausted[fact_id] = (reason, attempts)
        return True


def roll(method=None, mode="contains", seed=0, order=0, engine=None, facts=FACTS, **rollout):
    method = method or MixSD(mix_rate=0.5)
    queue, engine = Queue(facts), engine or AnyOrderEngine(order)
    config = RolloutSettings(
        **{"slots": 2, "max_tokens": MAX_TOKENS, "max_retries": 5, "score_fraction": 0, **rollout}
    )
    decoder = open_decoder(engine, config.slots)
    render = prompts(mode, method.expert_template)
    actor = Actor("x", decoder, render, method, facts, queue, config, seed)
    actor.run()
    assert decoder.idle
    return queue, actor.metrics(), engine
