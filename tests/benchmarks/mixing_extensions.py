"""What MixSD's two extensions do: acceptance, tokens an accepted rollout, target NLL.

Runs the rollout actor on the packaged model over 24 KGFact facts, at temperature
0, for three mixing rates with and without each extension, and prints a table and
one line of JSON. Nothing here is a timing. Target NLLs of two rows are over
different facts, since each row has its own accepted ones; the last two columns are
over the facts that plain mixing at the same rate accepted too, and for plain over them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from actors.decoding.mixed_decoder import MixedDecoder
from actors.inference.engine import Engine
from actors.replay.replies import Grant
from actors.rollout.mixed import MixedRolloutActor
from common import models
from common.config.sections import EngineSettings, RolloutSettings
from common.corpora.kgfact import KGFactSpec, build
from common.estimates import Score, mean_nll
from common.methods import MixSD
from common.prompts import PRESETS, Prompts
from common.records import PackedRollout, Rollout, Work

RATES = (0.1, 0.3, 0.5)
NUM_FACTS = 24
EXTENSIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "lambda_backoff": {"lambda_backoff": {"after": 3, "factor": 0.5}},
    "protect_answer": {"protect_answer": True},
}
SETTINGS = RolloutSettings(
    slots=NUM_FACTS, max_tokens=40, max_retries=8, on_exhausted="drop", score_fraction=1.0
)


class Queue:
    """Grants every fact once; keeps the rollouts."""

    def __init__(self, fact_ids: list[str]) -> None:
        self._work = [Work(index, fact_id, 0) for index, fact_id in enumerate(fact_ids)]
        self.rollouts: dict[str, Rollout] = {}

    def lease(self, owner: str, count: int, holding: object, version: int | None) -> Grant:
        granted, self._work = self._work[:count], self._work[count:]
        return Grant(granted, over=not granted and not holding)

    def insert_many(self, items: Sequence[PackedRollout]) -> list[bool]:
        rollouts = [item.unpack() for item in items]
        self.rollouts |= {rollout.fact_id: rollout for rollout in rollouts}
        return [True] * len(items)

    def exhaust(self, fact_id: str, draw: int, reason: str, attempts: int) -> bool:
        return True


def measure() -> list[dict[str, Any]]:
    """One row a rate and extension."""
    model = models.load(models.resolve("packaged"))
    corpus = build(KGFactSpec(domains=5, entities=4, seed=0))
    facts = {fact.id: fact for fact in corpus.facts[:NUM_FACTS]}
    engine = Engine(
        model.folder,
        EngineSettings(max_model_len=256),
        max_requests=2 * SETTINGS.slots,
        stop_token_ids=model.stop_token_ids,
    )
    prompts = Prompts(model.tokenizer, PRESETS["short-sentence"], model.stop_token_ids[0])
    rows = []
    for rate in RATES:
        plain: dict[str, Rollout] = {}
        for name, extension in EXTENSIONS.items():
            queue = Queue(list(facts))
            actor = MixedRolloutActor(
                "bench",
                MixedDecoder(engine, SETTINGS.slots),
                prompts,
                MixSD(mix_rate=rate, **extension),
                facts,
                queue,
                SETTINGS,
                seed=0,
            )
            actor.run()
            plain = plain or queue.rollouts
            rows.append(row(rate, name, queue.rollouts, plain, actor.metrics()))
            print(line(rows[-1]), flush=True)
    engine.close()
    return rows


def row(
    rate: float, name: str, rollouts: dict[str, Rollout], plain: dict[str, Rollout], metrics: Any
) -> dict[str, Any]:
    """The figures of one run."""
    drawn = metrics["mixsd_rollout_tokens_total"]
    walked = metrics["mixsd_rollout_walked_tokens_total"]
    accepted = list(rollouts.values())
    shared = sorted(rollouts.keys() & plain.keys())
    return {
        "mix_rate": rate,
        "extension": name,
        "facts": NUM_FACTS,
        "accepted": len(accepted),
        "accepted_first": sum(rollout.attempt == 0 for rollout in accepted),
        "attempts": int(metrics["mixsd_attempts_total"]),
        "drawn_per_accepted": drawn / max(1, len(accepted)),
        "naive_share": share(accepted),
        "changed": sum(r.num_protected > 0 or (r.mix_rate or 0.0) < rate for r in accepted),
        "tree_hit_rate": walked / max(1.0, walked + drawn),
        "target_nll": nll(accepted),
        "target_nll_shared": nll([rollouts[fact_id] for fact_id in shared]),
        "plain_nll_shared": nll([plain[fact_id] for fact_id in shared]),
    }


def share(rollouts: list[Rollout]) -> float:
    """Naive tokens of all tokens."""
    tokens = sum(len(rollout.naive) for rollout in rollouts)
    return sum(sum(rollout.naive) for rollout in rollouts) / max(1, tokens)


def nll(rollouts: list[Rollout]) -> list[float] | None:
    """Mean target NLL under the base, nats a token, with its 95 % interval."""
    if not rollouts:
        return None
    score: Score = mean_nll([rollout.base_logprobs for rollout in rollouts])
    return [score.value, score.low, score.high]


HEADING = (
    "| λ | extension | accepted | at first | attempts | drawn per accepted | naive share | changed "
    "| tree hits | target NLL | on facts shared with plain | plain on them |"
)


def line(row: dict[str, Any]) -> str:
    """One line of the table."""

    def interval(score: list[float] | None) -> str:
        return "–" if score is None else f"{score[0]:.2f} [{score[1]:.2f}, {score[2]:.2f}]"

    return (
        f"| {row['mix_rate']} | {row['extension']} | {row['accepted']}/{row['facts']} "
        f"| {row['accepted_first']} | {row['attempts']} | {row['drawn_per_accepted']:.1f} "
        f"| {row['naive_share']:.2f} | {row['changed']} | {row['tree_hit_rate']:.2f} "
        f"| {interval(row['target_nll'])} | {interval(row['target_nll_shared'])} "
        f"| {interval(row['plain_nll_shared'])} |"
    )


if __name__ == "__main__":
    print(HEADING)
    print("|" + " --- |" * (HEADING.count("|") - 1))
    print(json.dumps({"rows": measure()}))
