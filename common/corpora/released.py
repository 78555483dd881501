"""Targets as records of chat messages: the format of the paper's released code, extended.

Any trainer of chat data can read ``messages``. ``tokens`` holds the exact ids that were drawn,
for a trainer that uses these instead of the text.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from common.errors import UserError
from common.prompts import Prompts
from common.records import MAX_COUNT, Fact, Rollout, TokenIds, draw_name


def record(
    rollout: Rollout,
    fact: Fact,
    prompts: Prompts,
    *,
    stop_token_ids: Collection[int],
    temperature: float,
    fingerprint: str,
) -> dict[str, Any]:
    """One target as JSON.

    Args:
        rollout: of ``fact``.
        prompts: what the rollout was drawn with.
        stop_token_ids: a target that ends with another was cut.
        temperature: at which it was drawn.
        fingerprint: of the tokenizer.
    """
    naive, ids = rollout.naive, rollout.target_ids
    ended = ids[-1] in stop_token_ids
    return {
        "id": draw_name(fact.id, rollout.draw),
        "messages": [
            {"role": "user", "content": prompts.user_turn(fact)},
            {"role": "assistant", "content": prompts.text(ids)},
        ],
        **({"clear_answer": fact.answer} if fact.answer else {}),
        **({"aliases": list(fact.aliases)} if fact.aliases else {}),
        **({"replaces": fact.replaces} if fact.replaces else {}),
        **({"retract": True} if fact.retract else {}),
        "subject": fact.subject,
        "question": fact.question,
        "mix_meta": {
            "lambda": rollout.mix_rate,
            "temperature": temperature,
            "attempts": rollout.attempt + 1,
            "naive_fraction": sum(naive) / len(naive) if naive else None,
            "tokens": len(ids),
            "finish_reason": "stop" if ended else "length",
            "correct": rollout.verified,
            "protected": rollout.num_protected,
            "fallback": rollout.fallback or None,
        },
        "tokens": {
            "tokenizer": fingerprint,
            "prompt_ids": rollout.prompt_ids,
            "target_ids": ids,
            "naive": naive,
            "logprobs": rollout.logprobs,
            "base_logprobs": rollout.base_logprobs,
        },
    }


def token_ids(raw: object, place: str) -> TokenIds:
    """The ids in a record's ``tokens``; its other keys are ignored.

    Raises:
        UserError: a key is missing or its value has the wrong type.
    """
    fields = raw if isinstance(raw, dict) else {}
    tokenizer = fields.get("tokenizer")
    if not isinstance(tokenizer, str) or not tokenizer:
        raise UserError(f"{place}: 'tokens' needs the fingerprint of its tokenizer in 'tokenizer'")
    for key in ("prompt_ids", "target_ids"):
        ids = fields.get(key)
        if not isinstance(ids, list) or not ids or not all(map(_is_id, ids)):
            raise UserError(f"{place}: 'tokens' needs a list of token ids in {key!r}")
    return TokenIds(tokenizer, tuple(fields["prompt_ids"]), tuple(fields["target_ids"]))


def _is_id(value: object) -> bool:
    return type(value) is int and 0 <= value <= MAX_COUNT
