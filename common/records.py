"""What crosses a process: facts, work items and rollouts, and their msgpack form.

The wire form is a msgpack array that starts with a version number; the reader
refuses other versions, wrong types and payloads over ``MAX_PAYLOAD_BYTES``.
Nothing here knows who sends or stores a record.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import msgpack

WIRE_VERSION = 1
MAX_PAYLOAD_BYTES = 16 * 2**20


class WireError(ValueError):
    """A payload that is not a record of this version."""


@dataclass(frozen=True, slots=True)
class Fact:
    """One piece of knowledge to learn.

    ``answer`` is the short string that a verdict looks for. ``statement`` is
    the fact as a sentence. ``target`` is the canonical answer y* where the
    corpus brings its own (a worked solution, an assistant turn); otherwise
    the prompt preset writes it from ``answer`` and ``statement``.
    """

    id: str
    question: str
    answer: str
    statement: str = ""
    target: str = ""
    subject: str = ""


@dataclass(frozen=True, slots=True)
class EvalItem:
    """A question of a split that is only measured, never trained.

    ``id`` of an item about facts is their ids, joined by ``+``; ``#1`` and so
    on tell several items about the same facts apart.
    ``context`` holds statements that stand before the question, in order;
    ``aliases`` are further spellings of ``answer`` that a grader may accept.
    """

    id: str
    question: str
    answer: str
    context: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Work:
    """One (fact, draw) to roll out; ``id`` is the ledger's."""

    id: int
    fact_id: str
    draw: int


@dataclass(frozen=True, slots=True)
class Rollout:
    """An accepted target for one (fact, draw).

    T = number of target tokens, stop token included.

    ``prompt_ids``   naive prompt x, as trained
    ``target_ids``   [T] exact ids as drawn; never re-tokenised
    ``naive``        [T] 1 where the naive conditional drew the token; empty
                     for targets that no model drew
    ``logprobs``     [T] log-probability (nats) under the side that drew it
    ``base_logprobs``[T] log-probability under the naive conditional of the
                     reference at every position; empty where not scored
    ``canonical_nll``mean NLL (nats/token) of y* under the reference, or None
    ``attempt``      the accepted attempt, counted from 0
    ``verified``     whether the verdict accepted the answer
    """

    fact_id: str
    draw: int
    attempt: int
    prompt_ids: list[int]
    target_ids: list[int]
    naive: list[int]
    logprobs: list[float]
    base_logprobs: list[float]
    canonical_nll: float | None
    verified: bool

    @property
    def target_nll(self) -> float | None:
        """Mean over target tokens of −log p_θ*(y_t | x, y_<t), nats; None if not scored."""
        if not self.base_logprobs:
            return None
        return -sum(self.base_logprobs) / len(self.base_logprobs)


_ROLLOUT_FIELDS = tuple(field.name for field in fields(Rollout))


def pack_rollout(rollout: Rollout) -> bytes:
    """Serialise; the inverse of :func:`unpack_rollout`."""
    values = [getattr(rollout, name) for name in _ROLLOUT_FIELDS]
    payload: bytes = msgpack.packb([WIRE_VERSION, *values], use_single_float=False)
    return payload


def unpack_rollout(payload: bytes) -> Rollout:
    """Parse and check one rollout.

    Raises:
        WireError: not msgpack, too large, another version, or a field of the
            wrong type or length.
    """
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise WireError(f"payload has {len(payload)} bytes; the bound is {MAX_PAYLOAD_BYTES}")
    try:
        values = msgpack.unpackb(payload, strict_map_key=True)
    except (ValueError, msgpack.UnpackException) as error:
        raise WireError(f"payload is not msgpack: {error}") from error
    if not isinstance(values, list) or not values or not _is_count(values[0]):
        raise WireError("payload is not a record")
    if values[0] != WIRE_VERSION:
        raise WireError(f"payload is not a version-{WIRE_VERSION} record")
    if len(values) != 1 + len(_ROLLOUT_FIELDS):
        raise WireError(f"record has {len(values) - 1} fields, not {len(_ROLLOUT_FIELDS)}")
    named = dict(zip(_ROLLOUT_FIELDS, values[1:], strict=True))
    _check_rollout(named)
    return Rollout(**named)


def _check_rollout(named: dict[str, Any]) -> None:
    if not isinstance(named["fact_id"], str) or not named["fact_id"]:
        raise WireError("fact_id: a non-empty string is expected")
    for name in ("draw", "attempt"):
        if not _is_count(named[name]):
            raise WireError(f"{name}: a count is expected, not {named[name]!r}")
    for name in ("prompt_ids", "target_ids", "naive"):
        if not isinstance(named[name], list) or not all(map(_is_count, named[name])):
            raise WireError(f"{name}: a list of counts is expected")
    for name in ("logprobs", "base_logprobs"):
        if not isinstance(named[name], list) or not all(
            isinstance(value, float) for value in named[name]
        ):
            raise WireError(f"{name}: a list of floats is expected")
    if not named["target_ids"]:
        raise WireError("target_ids: at least one token is expected")
    for name in ("naive", "logprobs", "base_logprobs"):
        if len(named[name]) not in (0, len(named["target_ids"])):
            raise WireError(
                f"{name}: {len(named[name])} entries for {len(named['target_ids'])} target tokens"
            )
    if not (named["canonical_nll"] is None or isinstance(named["canonical_nll"], float)):
        raise WireError("canonical_nll: a float or nil is expected")
    if not isinstance(named["verified"], bool):
        raise WireError("verified: a boolean is expected")


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
