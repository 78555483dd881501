from itertools import pairwise

from deploy.control.journal import metrics_pause


def _lines(seconds: float, gathering: float = 0.5) -> int:
    age, lines = gathering, 0
    while age < seconds:
        age += max(gathering, metrics_pause(age))
        lines += 1
    return lines


def test_a_short_run_keeps_every_gathering_of_its_metrics():
    assert _lines(600) == 1199


def test_each_tenfold_age_adds_the_same_number_of_lines():
    # ln 10 times 1,500 is 3,454.
    hours = [_lines(3600.0 * 10**power) for power in (0, 1, 2, 3)]
    added = [later - earlier for earlier, later in pairwise(hours)]
    assert all(abs(lines - 3454) < 10 for lines in added)
