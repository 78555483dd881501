"""What a teacher has to say at the target positions of a row, aligned token by token.

Either what it must read, the same targets after its own prompts x+, packed like the
student's rows; or what it was asked before, its likeliest tokens at each position.
Pure, but for numpy; knows no models.

Shape suffixes: K target tokens of the student's row, N tokens scored at each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from common.config.sections import LearnerSettings
from common.records import Rollout
from learner.packing import Row, pack, single


@dataclass(frozen=True, slots=True)
class TeacherForward:
    """The teacher's rows for one row of the student; ``order_K`` says which of their target
    positions, counted over all of them, belongs to each of the student's."""

    rows: tuple[Row, ...]
    order_K: np.ndarray


@dataclass(frozen=True, slots=True)
class TeacherTopK:
    """The teacher's top N at each target position of one row of the student."""

    ids_KN: np.ndarray
    logprobs_KN: np.ndarray


TeacherInputs = TeacherForward | TeacherTopK
# A row of the student, and all rollouts of the batch that it was packed from.
TeacherInputBuilder = Callable[[Row, Sequence[Rollout]], TeacherInputs]


def forward_inputs(
    expert: Callable[[str], Sequence[int]], settings: LearnerSettings
) -> TeacherInputBuilder:
    """Lessons for a teacher in this process; ``expert`` gives a fact's x+ by its id."""

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


def top_k_inputs(top_k: int) -> TeacherInputBuilder:
    """Lessons from the scores that came with the rollouts."""

    def teacher_input(row: Row, rollouts: Sequence[Rollout]) -> TeacherTopK:
        ids, logprobs = zip(
            *(_scores(rollouts[member], top_k) for member in row.members), strict=True
        )
        found = TeacherTopK(np.concatenate(ids), np.concatenate(logprobs))
        _check(len(found.ids_KN), len(row.targets_K))
        return found

    return teacher_input


def _order(row: Row, rows: Sequence[Row], lengths: Sequence[int]) -> np.ndarray:
    starts = np.zeros(len(lengths), dtype=np.int64)
    at = 0
    for read in rows:
        for member in read.members:
            starts[member] = at
            at += lengths[member]
    order_K: np.ndarray = np.concatenate(
        [start + np.arange(length) for start, length in zip(starts, lengths, strict=True)]
    )
    targets = np.concatenate([read.targets_K for read in rows])
    _check(len(order_K), len(row.targets_K))
    if not np.array_equal(targets[order_K], row.targets_K):
        raise ValueError("the teacher's targets are not the student's")
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
