"""Records exchanged between processes: facts, work items, rollouts, and their msgpack form.

The wire format is a msgpack array that starts with a version number. Log-probabilities are
little-endian float32, as engines return them. The reader rejects other versions, wrong types,
numbers out of range and payloads over ``MAX_PAYLOAD_BYTES``, and raises only
:class:`WireError`.
"""

from __future__ import annotations

import math
import reprlib
import struct
from dataclasses import dataclass, fields
from typing import Any, NamedTuple, Self

import msgpack
import numpy as np

WIRE_VERSION = 5
MAX_PAYLOAD_BYTES = 16 * 2**20
MAX_FACT_ID = 1024
# Bound of token ids and counts: they fit an int32 tensor and an SQLite column.
MAX_COUNT = 2**31 - 1


class WireError(ValueError):
    """A payload that is not a record of this version."""


@dataclass(frozen=True, slots=True)
class TokenIds:
    """A target and the naive prompt x before it, as ids of one tokenizer.

    ``tokenizer`` is its fingerprint (``common.models.fingerprint``): with any
    other the ids mean nothing.
    """

    tokenizer: str
    prompt_ids: tuple[int, ...]
    target_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Fact:
    """One piece of knowledge to learn.

    ``answer`` is the short string that a verifier looks for, and ``aliases`` are further
    spellings that count as it. ``statement`` is
    the fact as a sentence. ``target`` is the canonical answer y* if the
    corpus has one (a worked solution, an assistant turn); otherwise
    the prompt preset writes it from ``answer`` and ``statement``. ``tokens``
    are ``target`` and its prompt as they were drawn, if known. ``replaces`` is
    the id of a fact of an earlier batch that this one edits
    (``common.corpora.batches``). ``retract``: the answer is to be given no
    more, and a refusal is the canonical answer.
    """

    id: str
    question: str
    answer: str
    statement: str = ""
    target: str = ""
    subject: str = ""
    tokens: TokenIds | None = None
    aliases: tuple[str, ...] = ()
    replaces: str = ""
    retract: bool = False

    @property
    def spellings(self) -> tuple[str, ...]:
        """The answer and its aliases."""
        return (self.answer, *self.aliases)

    @property
    def is_generic(self) -> bool:
        """Whether it is a prompt about no fact: it has no answer, and whatever is said is right."""
        return not self.answer


@dataclass(frozen=True, slots=True)
class EvalItem:
    """A question of a split that is evaluated, never trained.

    ``id`` of an item about facts is their ids, joined by ``+``; ``#1`` and so
    on tell several items about the same facts apart.
    ``context`` holds statements to show before the question, in order;
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


def draw_name(fact_id: str, draw: int) -> str:
    """The name of a (fact, draw) in files and reports: the fact's, unless it is a further draw."""
    return fact_id if draw == 0 else f"{fact_id}#draw-{draw}"


@dataclass(frozen=True, slots=True)
class Rollout:
    """A target for one (fact, draw).

    T = number of target tokens, stop token included; C = that of y*.

    ``prompt_ids``   naive prompt x, as trained
    ``target_ids``   [T] exact ids as drawn; never re-tokenized
    ``naive``        [T] 1 where the naive conditional drew the token; empty
                     for targets that no model drew
    ``logprobs``     [T] log-probability (nats) under the side that drew it
    ``base_logprobs``[T] log-probability under the naive conditional of the
                     reference at every position; empty where not scored
    ``canonical_logprobs`` [C] those of y*; empty where not scored
    ``attempt``      the attempt that gave the target, counted from 0
    ``mix_rate``     λ of that attempt; None for targets that no model drew
    ``num_protected``tokens of the expert that were picked for the naive side
    ``fallback``     the ``on_exhausted`` policy that chose the target; empty if
                     an ordinary attempt did
    ``verified``     whether the verifier accepted the target
    ``policy_version`` optimizer steps of the weights that drew it; 0: the base
    ``teacher_scores`` the reference's likeliest N tokens given x+ at each target position:
                     T · N ids, little-endian int32, then as many log-probabilities (nats),
                     float32; empty where no engine is the teacher
    """

    fact_id: str
    draw: int
    attempt: int
    prompt_ids: list[int]
    target_ids: list[int]
    naive: list[int]
    logprobs: list[float]
    base_logprobs: list[float]
    canonical_logprobs: list[float]
    mix_rate: float | None
    num_protected: int
    fallback: str
    verified: bool
    policy_version: int = 0
    teacher_scores: bytes = b""

    @property
    def num_scored(self) -> int:
        """N of ``teacher_scores``."""
        return len(self.teacher_scores) // (8 * len(self.target_ids))

    @property
    def target_nll(self) -> float | None:
        """Mean over target tokens of −log p_θ*(y_t | x, y_<t), nats; None if not scored."""
        return _mean_nll(self.base_logprobs)

    @property
    def canonical_nll(self) -> float | None:
        """The same of y*."""
        return _mean_nll(self.canonical_logprobs)


def _mean_nll(logprobs: list[float]) -> float | None:
    return -sum(logprobs) / len(logprobs) if logprobs else None


_ROLLOUT_FIELDS = tuple(field.name for field in fields(Rollout))
_LOGPROBS = ("logprobs", "base_logprobs", "canonical_logprobs")


def pack_rollout(rollout: Rollout) -> bytes:
    """Serialize; the inverse of :func:`unpack_rollout`, but for the bits below float32."""
    named = {name: getattr(rollout, name) for name in _ROLLOUT_FIELDS}
    named |= {name: struct.pack(f"<{len(named[name])}f", *named[name]) for name in _LOGPROBS}
    payload: bytes = msgpack.packb([WIRE_VERSION, *named.values()])
    return payload


class PackedRollout(NamedTuple):
    """A rollout on its way to the queue, which knows whose it is even if it cannot be read.

    ``attempts`` is the number of attempts it took.
    """

    fact_id: str
    draw: int
    payload: bytes
    attempts: int

    @classmethod
    def of(cls, rollout: Rollout, attempts: int) -> Self:
        """Pack a rollout."""
        return cls(rollout.fact_id, rollout.draw, pack_rollout(rollout), attempts)

    def unpack(self) -> Rollout:
        """The rollout.

        Raises:
            WireError: see :func:`unpack_rollout`; or it is another work item's.
        """
        rollout = unpack_rollout(self.payload)
        if (rollout.fact_id, rollout.draw) != (self.fact_id, self.draw):
            raise WireError(
                f"a rollout of fact {rollout.fact_id!r}, draw {rollout.draw}, came for fact "
                f"{self.fact_id!r}, draw {self.draw}"
            )
        return rollout


def unpack_rollout(payload: bytes) -> Rollout:
    """Parse and check one rollout.

    Raises:
        WireError: not msgpack, too large, another version, or a field of the
            wrong type or length.
    """
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise WireError(f"payload has {len(payload)} bytes; the limit is {MAX_PAYLOAD_BYTES}")
    try:
        values = msgpack.unpackb(payload, strict_map_key=True)
    except (ValueError, TypeError, OverflowError, msgpack.UnpackException) as error:
        raise WireError(f"payload is not msgpack: {error}") from error
    if not isinstance(values, list) or not values or not _is_count(values[0]):
        raise WireError("payload is not a record")
    if values[0] != WIRE_VERSION:
        raise WireError(f"payload is not a version-{WIRE_VERSION} record")
    if len(values) != 1 + len(_ROLLOUT_FIELDS):
        raise WireError(f"record has {len(values) - 1} fields, not {len(_ROLLOUT_FIELDS)}")
    named = dict(zip(_ROLLOUT_FIELDS, values[1:], strict=True))
    named |= {name: _floats(name, named[name]) for name in _LOGPROBS}
    _check_rollout(named)
    return Rollout(**named)


def _check_rollout(named: dict[str, Any]) -> None:
    fact_id = named["fact_id"]
    if not isinstance(fact_id, str) or not 0 < len(fact_id) <= MAX_FACT_ID:
        raise WireError(f"fact_id: a string of 1 to {MAX_FACT_ID} characters is expected")
    for name in ("draw", "attempt", "num_protected", "policy_version"):
        if not _is_count(named[name]):
            raise WireError(f"{name}: a count is expected, not {reprlib.repr(named[name])}")
    for name in ("prompt_ids", "target_ids", "naive"):
        if not _are_counts(named[name], 1 if name == "naive" else MAX_COUNT):
            raise WireError(f"{name}: a list of counts is expected")
    if not named["target_ids"]:
        raise WireError("target_ids: at least one token is expected")
    for name in ("naive", "logprobs", "base_logprobs"):
        if len(named[name]) not in (0, len(named["target_ids"])):
            raise WireError(
                f"{name}: {len(named[name])} entries for {len(named['target_ids'])} target tokens"
            )
    mix_rate = named["mix_rate"]
    if not (mix_rate is None or (isinstance(mix_rate, float) and math.isfinite(mix_rate))):
        raise WireError("mix_rate: a finite float or nil is expected")
    if not isinstance(named["fallback"], str):
        raise WireError("fallback: a string is expected")
    if not isinstance(named["verified"], bool):
        raise WireError("verified: a boolean is expected")
    scores = named["teacher_scores"]
    if not isinstance(scores, bytes) or len(scores) % (8 * len(named["target_ids"])):
        raise WireError("teacher_scores: as many 8-byte pairs at every target token are expected")
    if not np.isfinite(np.frombuffer(scores[len(scores) // 2 :], "<f4")).all():
        raise WireError("teacher_scores: finite log-probabilities are expected")


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value <= MAX_COUNT


# A loop in Python over each token would cost more than the rest of the queue.
def _are_counts(values: object, most: int) -> bool:
    if not isinstance(values, list) or not set(map(type, values)) <= {int}:
        return False
    return not values or (min(values) >= 0 and max(values) <= most)


def _floats(name: str, content: object) -> list[float]:
    if not isinstance(content, bytes) or len(content) % 4:
        raise WireError(f"{name}: bytes of float32 are expected")
    values = list(struct.unpack(f"<{len(content) // 4}f", content))
    # One that is not finite makes the sum so.
    if not math.isfinite(sum(values)):
        raise WireError(f"{name}: finite floats are expected")
    return values
