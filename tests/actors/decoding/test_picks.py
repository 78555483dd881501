import itertools

from hypothesis import given
from hypothesis import strategies as st

from actors.decoding.picks import (
    Segment,
    SegmentSchedule,
    draw_picks,
    is_scored,
    sampling_seed,
    segments_of,
)
from actors.inference.requests import token_seed


def test_picks_of_an_attempt_are_the_same_on_every_machine():
    assert [int(pick) for pick in draw_picks(0, "f", 0, 0, 0.5, 8)] == [0, 0, 0, 0, 1, 1, 1, 0]
    assert sampling_seed(0, "f", 0, 0, 0) == 4009929271171798656


def test_rate_zero_picks_only_the_expert_and_rate_one_only_the_naive_side():
    assert draw_picks(0, "f", 0, 0, 0.0, 100) == [False] * 100
    assert draw_picks(0, "f", 0, 0, 1.0, 100) == [True] * 100


def test_a_rate_of_three_tenths_picks_about_three_of_ten():
    # 10,000 draws: standard deviation of the mean 0.0046; four of them are 0.018.
    assert abs(sum(draw_picks(0, "f", 0, 0, 0.3, 10_000)) / 10_000 - 0.3) < 0.018


def test_a_longer_attempt_begins_with_the_same_picks():
    assert draw_picks(0, "f", 0, 0, 0.5, 64)[:20] == draw_picks(0, "f", 0, 0, 0.5, 20)


def test_each_part_of_an_attempts_name_changes_its_picks_and_seed():
    names = [(0, "f", 0, 0), (1, "f", 0, 0), (0, "g", 0, 0), (0, "f", 1, 0), (0, "f", 0, 1)]
    assert len({tuple(draw_picks(*name, 0.5, 64)) for name in names}) == 5
    assert len({sampling_seed(*name, at) for name in names for at in (0, 1)}) == 10


def test_equal_neighbors_form_a_segment():
    assert segments_of([True, True, False, True]) == [
        Segment(True, 2),
        Segment(False, 1),
        Segment(True, 1),
    ]
    assert segments_of([]) == []


@given(st.lists(st.booleans()))
def test_segments_alternate_and_spell_the_picks(picks):
    segments = segments_of(picks)
    assert [segment.naive for segment in segments for _ in range(segment.length)] == picks
    assert all(before.naive != after.naive for before, after in itertools.pairwise(segments))


def test_a_quarter_of_the_targets_is_scored_and_a_larger_fraction_holds_the_smaller():
    def scored(fraction):
        return {fact for fact in range(4000) if is_scored(0, f"f{fact}", 0, fraction)}

    # Standard deviation of the count 27; four of them are 110.
    assert abs(len(scored(0.25)) - 1000) < 110
    assert scored(0.25) < scored(0.5)
    assert (len(scored(0.0)), len(scored(1.0))) == (0, 4000)


def test_a_schedule_continues_inside_a_segment_where_known_tokens_end():
    schedule = SegmentSchedule([True, False, False, False, True])
    segments = [schedule.next_segment([7] * position) for position in range(6)]
    assert segments == [
        Segment(True, 1),
        Segment(False, 3),
        Segment(False, 2),
        Segment(False, 1),
        Segment(True, 1),
        None,
    ]


def test_a_protected_token_is_the_experts_and_cuts_naive_segments_to_one_token():
    schedule = SegmentSchedule(
        [True, True, True, False, False], protects=lambda ids: ids[-1:] == [7]
    )
    assert schedule.next_segment([]) == Segment(True, 1)
    assert schedule.next_segment([7]) == Segment(False, 1)
    assert schedule.next_segment([7, 8]) == Segment(True, 1)
    assert schedule.next_segment([7, 8, 9]) == Segment(False, 2)


def test_a_segment_ends_where_the_text_is_examined_and_the_side_may_go_on():
    schedule = SegmentSchedule([False, False, False, True], check_at=2)
    assert schedule.next_segment([7]) == Segment(False, 1)
    assert schedule.next_segment([7, 8]) == Segment(False, 1)
    assert schedule.next_segment([7, 8, 9]) == Segment(True, 1)
    assert not SegmentSchedule([False, False], check_at=1).may_draw(True, 0)


@given(st.lists(st.booleans(), min_size=1, max_size=10), st.integers(0, 10))
def test_a_side_may_draw_exactly_while_picks_of_it_are_left(picks, position):
    schedule = SegmentSchedule(picks)
    for naive in (True, False):
        assert schedule.may_draw(naive, position) is (naive in picks[position:])


def test_under_protection_the_expert_may_always_draw_until_the_end():
    schedule = SegmentSchedule([True, True], protects=lambda ids: False)
    assert [schedule.may_draw(False, position) for position in range(3)] == [True, True, False]


def test_a_segments_tokens_have_the_seeds_of_splitmix64():
    # Its published first outputs for seed 0, without the last bit.
    assert [token_seed(0, index) for index in range(2)] == [
        0xE220A8397B1DCDAF >> 1,
        0x6E789E6AA1B965F4 >> 1,
    ]
