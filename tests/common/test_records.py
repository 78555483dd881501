import math
import struct
from dataclasses import replace

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.records import (
    MAX_COUNT,
    MAX_PAYLOAD_BYTES,
    WIRE_VERSION,
    Rollout,
    WireError,
    pack_rollout,
    unpack_rollout,
)

GOOD = Rollout(
    fact_id="f",
    draw=2,
    attempt=1,
    prompt_ids=[5, 6],
    target_ids=[7, 8],
    naive=[1, 0],
    logprobs=[-0.5, -1.5],
    base_logprobs=[-1.0, -2.0],
    canonical_logprobs=[-0.25],
    mix_rate=0.5,
    num_protected=1,
    fallback="",
    verified=True,
    policy_version=4,
)
COUNTS = st.integers(0, MAX_COUNT)
FLOATS = st.floats(-1e9, 1e9)
LOGPROBS = st.floats(-(2.0**30), 0, width=32)


@st.composite
def rollouts(draw):
    target = draw(st.lists(COUNTS, min_size=1, max_size=5))

    def all_or_none(values):
        size = draw(st.sampled_from([0, len(target)]))
        return draw(st.lists(values, min_size=size, max_size=size))

    return Rollout(
        fact_id=draw(st.text(min_size=1, max_size=8)),
        draw=draw(COUNTS),
        attempt=draw(COUNTS),
        prompt_ids=draw(st.lists(COUNTS, max_size=5)),
        target_ids=target,
        naive=all_or_none(st.integers(0, 1)),
        logprobs=all_or_none(LOGPROBS),
        base_logprobs=all_or_none(LOGPROBS),
        canonical_logprobs=draw(st.lists(LOGPROBS, max_size=5)),
        mix_rate=draw(st.none() | FLOATS),
        num_protected=draw(COUNTS),
        fallback=draw(st.text(max_size=8)),
        verified=draw(st.booleans()),
        policy_version=draw(COUNTS),
    )


@given(rollouts())
def test_a_rollout_comes_back_as_it_was_sent(rollout):
    assert unpack_rollout(pack_rollout(rollout)) == rollout


def refuses_or_reads(payload):
    """What is read is a rollout that is written as it was; all else is a wire error."""
    try:
        rollout = unpack_rollout(payload)
    except WireError:
        return
    assert unpack_rollout(pack_rollout(rollout)) == rollout


JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=5)
    | st.binary(max_size=5)
    | st.builds(msgpack.ExtType, st.integers(0, 127), st.binary(max_size=5))
    | st.builds(msgpack.Timestamp, st.integers(0, 2**33), st.integers(0, 10**9 - 1)),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=2) | st.integers(0, 9), inner, max_size=2)
    ),
    max_leaves=4,
)


@settings(max_examples=2500, deadline=None)
@given(st.binary(max_size=64))
def test_arbitrary_bytes_raise_nothing_but_a_wire_error(payload):
    with pytest.raises(WireError):
        unpack_rollout(payload)


@settings(max_examples=2000, deadline=None)
@given(st.integers(0, 11), JUNK)
def test_a_record_with_anything_for_a_field_is_read_or_refused(index, junk):
    values = msgpack.unpackb(pack_rollout(GOOD))
    values[index] = junk
    refuses_or_reads(msgpack.packb(values))


@settings(max_examples=1000, deadline=None)
@given(JUNK)
def test_any_message_that_is_no_record_is_refused(junk):
    with pytest.raises(WireError):
        unpack_rollout(msgpack.packb(junk))


@settings(max_examples=2500, deadline=None)
@given(st.data())
def test_a_record_with_flipped_or_cut_bytes_is_read_or_refused(data):
    payload = bytearray(pack_rollout(GOOD))
    for _ in range(data.draw(st.integers(1, 3))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    refuses_or_reads(bytes(payload[: data.draw(st.integers(0, len(payload)))]))
    refuses_or_reads(bytes(payload))


@pytest.mark.parametrize(
    "payload",
    [
        b"\xdd\xff\xff\xff\xff",  # an array of four billion
        b"\xc6\xff\xff\xff\xff",  # as many bytes
        b"\x91" * 100_000,  # nesting without end
        b"\xd6\xff\xff\xff\xff\xff",  # a time stamp
        b"\x81\x90\x90",  # a list as a key
    ],
)
def test_a_message_that_promises_too_much_is_refused(payload):
    with pytest.raises(WireError):
        unpack_rollout(payload)


@pytest.mark.parametrize(
    ("index", "value", "message"),
    [
        (0, 1, f"not a version-{WIRE_VERSION} record"),
        (1, "", "fact_id"),
        (1, "x" * 1025, "fact_id: a string of 1 to 1024 characters"),
        (2, 2**31, "draw: a count is expected"),
        (2, -1, "draw: a count is expected, not -1"),
        (3, True, "attempt: a count is expected, not True"),
        (4, [1.5], "prompt_ids: a list of counts"),
        (5, [], "target_ids: at least one token"),
        (6, [1], "naive: 1 entries for 2 target tokens"),
        (6, [2, 0], "naive: a list of counts"),
        (7, [-1.0, -2.0], "logprobs: bytes of float32"),
        (7, b"\0" * 7, "logprobs: bytes of float32"),
        (7, struct.pack("<2f", -1.0, -math.inf), "logprobs: finite floats"),
        (8, b"\0" * 12, "base_logprobs: 3 entries for 2 target tokens"),
        (9, None, "canonical_logprobs: bytes of float32"),
        (10, math.nan, "mix_rate: a finite float or nil"),
        (11, -1, "num_protected: a count is expected, not -1"),
        (12, None, "fallback: a string"),
        (13, 1, "verified: a boolean"),
        (14, None, "policy_version: a count"),
        (15, b"1234567", "teacher_scores: as many 8-byte pairs at every target token"),
        (15, [1.0], "teacher_scores: as many"),
    ],
)
def test_a_wrong_field_is_named(index, value, message):
    values = msgpack.unpackb(pack_rollout(GOOD))
    values[index] = value
    with pytest.raises(WireError, match=message):
        unpack_rollout(msgpack.packb(values))


def test_a_record_with_a_field_too_few_is_refused():
    values = msgpack.unpackb(pack_rollout(GOOD))
    with pytest.raises(WireError, match="record has 14 fields, not 15"):
        unpack_rollout(msgpack.packb(values[:-1]))


def test_truncated_and_trailing_bytes_are_refused():
    for payload in (pack_rollout(GOOD)[:-1], pack_rollout(GOOD) + b"\x00"):
        with pytest.raises(WireError, match="not msgpack"):
            unpack_rollout(payload)


def test_a_payload_over_the_bound_is_refused_unread():
    with pytest.raises(WireError, match="payload has 16777217 bytes; the limit is 16777216"):
        unpack_rollout(bytes(MAX_PAYLOAD_BYTES + 1))


def test_target_nll_is_the_mean_over_tokens_or_none_if_not_scored():
    assert math.isclose(GOOD.target_nll, 1.5)
    assert replace(GOOD, base_logprobs=[]).target_nll is None
    assert GOOD.canonical_nll == 0.25
