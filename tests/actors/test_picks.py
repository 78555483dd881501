import itertools

from hypothesis import given
from hypothesis import strategies as st

from actors.picks import Run, draw_picks, runs_of, sampling_seed, token_seed


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


def test_equal_neighbours_form_a_run():
    assert runs_of([True, True, False, True]) == [Run(True, 2), Run(False, 1), Run(True, 1)]
    assert runs_of([]) == []


@given(st.lists(st.booleans()))
def test_runs_alternate_and_spell_the_picks(picks):
    runs = runs_of(picks)
    assert [run.naive for run in runs for _ in range(run.length)] == picks
    assert all(before.naive != after.naive for before, after in itertools.pairwise(runs))


def test_a_runs_tokens_have_the_seeds_of_splitmix64():
    # Its published first outputs for seed 0, without the last bit.
    assert [token_seed(0, index) for index in range(2)] == [
        0xE220A8397B1DCDAF >> 1,
        0x6E789E6AA1B965F4 >> 1,
    ]
