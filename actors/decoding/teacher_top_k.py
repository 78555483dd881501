"""The reference engine as a teacher: its top-k tokens at each position of a target, given x+.

Pure: packs the result of a scoring pass into the bytes that a rollout carries, after
checking that both hold the same tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

from actors.decoding.attempt import ScoredTarget
from common.methods import Method


def scored_top(method: Method) -> int:
    """How many tokens an engine must score at each position; 0 if no engine is the teacher."""
    divergence = method.loss.divergence
    return divergence.top_k if divergence and divergence.teacher == "engine" else 0


def teacher_scores(scored: ScoredTarget, target_ids: Sequence[int]) -> bytes:
    """Pack a scoring pass for ``Rollout.teacher_scores``.

    Raises:
        RuntimeError: the pass scored other tokens, or not all of them.
    """
    assert scored.top is not None, "no top-k was requested"
    found = scored.top.ids_TN[:, 0].tolist()
    if found != list(target_ids):
        raise RuntimeError(
            f"{scored.key}: the teacher scored {len(found)} tokens that are not the "
            f"{len(target_ids)} which were drawn"
        )
    ids, logprobs = scored.top.ids_TN[:, 1:], scored.top.logprobs_TN[:, 1:]
    packed: bytes = ids.astype("<i4").tobytes() + logprobs.astype("<f4").tobytes()
    return packed
