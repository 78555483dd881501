"""The teacher's inputs for a row of the student, aligned target token by target token.

Either rows for its forward pass (the same targets after the expert prompts x+, packed
like the student's rows; or the student's row itself), or the top-k tokens that an engine
scored with the rollouts. Pure functions on numpy arrays; no models.

Shape suffixes: K target tokens of the student's row, N tokens scored at each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from common.config.learner import LearnerSettings
from common.records import Rollout
from learner.packing import Row, pack, single


@dataclass(frozen=True, slots=True)
class TeacherForward:
    """The teacher's rows for one row of the student.

    ``order_K`` maps each target position of the student to one of the teacher's, counted
    over all its rows.
    """

    rows: tuple[Row, ...]
    order_K: np.ndarray


@dataclass(frozen=True, slots=True)
class TeacherTopK:
    """The teacher's top N tokens and log-probabilities (nats) at each target position."""

    ids_KN: np.ndarray
    logprobs_KN: np.ndarray


TeacherInputs = TeacherForward | TeacherTopK
# Args: a row of the student, and all rollouts of the batch that it was packed from.
TeacherInputBuilder = Callable[[Row, Sequence[Rollout]], TeacherInputs]


def forward_inputs(
    expert: Callable[[str], Sequence[int]], settings: LearnerSettings
) -> TeacherInputBuilder:
    """Inputs for a teacher in this process; ``expert`` returns a fact's x+ by its id."""

    def teacher_input(row: Row, rollouts: Sequence[Rollout]) -> TeacherForward:
        targets = [rollouts[member].target_ids for member in row.members]
        prompts = [expert(rollouts[member].fact_id) for member in row.members]
        examples = list(zip(prompts, targets, strict=True))
        rows = (
            pack(examples, settings.row_tokens, share_prompts=settings.share_prompts)
            if settings.pack
            else single(examples)
        )
        return TeacherForward(tuple(rows), _order(row, rows, list(map(len, targets))))

    return teacher_input


def same_inputs(row: Row, rollouts: Sequence[Rollout]) -> TeacherForward:
    """Inputs for a teacher in this process that sees the student's prompts x."""
    return TeacherForward((row,), np.arange(len(row.targets_K)))


def top_k_inputs(top_k: int) -> TeacherInputBuilder:
    """Inputs from the teacher scores of the rollouts."""

    def teacher_input(row: Row, rollouts: Sequence[Rollout]) -> TeacherTopK:
        ids, logprobs = zip(
            *(_scores(rollouts[member], top_k) for member in row.members), strict=True
        )
        found = TeacherTopK(np.concatenate(ids), np.concatenate(logprobs))
        _check(len(found.ids_KN), len(row.targets_K))
        return found

    return teacher_input


def _order(row: Row, rows: Sequence[Row], lengths: Sequence[int]) -> np.ndarray:
    """The teacher's position of each target token, in the student's order."""
    starts = np.zeros(len(lengths), dtype=np.int64)
    at = 0
    for teacher_row in rows:
        for member in teacher_row.members:
            starts[member] = at
            at += lengths[member]
    order_K: np.ndarray = np.concatenate(
        [start + np.arange(length) for start, length in zip(starts, lengths, strict=True)]
    )
    targets = np.concatenate([teacher_row.targets_K for teacher_row in rows])
    _check(len(order_K), len(row.targets_K))
    if not np.array_equal(targets[order_K], row.targets_K):
        raise ValueError("the teacher's targets differ from the student's")
    return order_K


def _scores(rollout: Rollout, top_k: int) -> tuple[np.ndarray, np.ndarray]:
    name = f"fact {rollout.fact_id}, draw {rollout.draw}"
    if not rollout.teacher_scores:
        raise ValueError(f"{name}: method.teacher is engine, but no engine scored its target")
    size = 4 * len(rollout.target_ids) * rollout.num_scored
    shape = (len(rollout.target_ids), rollout.num_scored)
    ids = np.frombuffer(rollout.teacher_scores[:size], "<i4").reshape(shape)
    logprobs = np.frombuffer(rollout.teacher_scores[size:], "<f4").reshape(shape)
    if rollout.num_scored != top_k:
        raise ValueError(
            f"{name}: {rollout.num_scored} tokens are scored at each position, not {top_k}"
        )
    return ids.astype(np.int64), logprobs.astype(np.float32)


def _check(found: int, expected: int) -> None:
    if found != expected:
        raise ValueError(f"the teacher has {found} target positions, the student {expected}")
