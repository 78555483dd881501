"""The event loop, by hand and by laws that hold for any processes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.planning.events import Call, Compute, Loop, Server, Sleep


def finish_times(loop, *starts):
    """Run (at, waits) processes; when each ended."""
    ended = {}

    def process(name, waits):
        yield from waits
        ended[name] = loop.now

    for name, (at, waits) in enumerate(starts):
        loop.start(process(name, waits), at)
    loop.run()
    return [ended[name] for name in range(len(starts))]


def test_two_processes_share_one_core():
    assert finish_times(Loop(cores=1), (0, [Compute(1)]), (0, [Compute(1)])) == [2, 2]


def test_they_do_not_slow_each_other_on_two():
    assert finish_times(Loop(cores=2), (0, [Compute(1)]), (0, [Compute(3)])) == [1, 3]


def test_cores_that_share_caches_add_less_than_one_each():
    # Both at 0.7 until 1/0.7 s, then the second's other 2 s alone at full speed.
    loop = Loop(cores=2, core_gain=0.4)
    assert finish_times(loop, (0, [Compute(1)]), (0, [Compute(3)])) == [1 / 0.7, 1 / 0.7 + 2]


def test_processes_with_threads_for_every_core_leave_none_idle():
    # Two cores do 1.4: the first ends at 2/1.4 s, half the speed each; the second's other 2 s
    # take 2/1.4 s.
    loop = Loop(cores=2, core_gain=0.4, elastic=True)
    ends = finish_times(loop, (0, [Compute(1)]), (0, [Compute(3)]))
    assert ends == pytest.approx([2 / 1.4, 4 / 1.4])


def test_a_later_process_slows_the_rest_of_the_first():
    # At 1 s one second is left of the first; both then need two seconds for one.
    assert finish_times(Loop(cores=1), (0, [Compute(2)]), (1, [Compute(1)])) == [3, 3]


def test_a_group_of_two_takes_two_cores():
    assert finish_times(Loop(cores=2), (0, [Compute(1, 2)]), (0, [Compute(1)])) == [1.5, 1.5]


def test_sleep_takes_no_core():
    assert finish_times(Loop(cores=1), (0, [Sleep(1)]), (0, [Compute(1)])) == [1, 1]


def test_a_server_serves_one_after_another():
    server = Server(latency_s=0.5)
    # Both arrive at 0.5; served until 1.5 and 2.5; the replies take 0.5.
    assert finish_times(Loop(), (0, [Call(server, 1)]), (0, [Call(server, 1)])) == [2, 3]
    assert server.busy_s == 2


work = st.lists(
    st.tuples(st.floats(0, 10), st.lists(st.floats(0.01, 5), min_size=1, max_size=4)),
    min_size=1,
    max_size=8,
)


@given(work, st.integers(1, 4))
def test_nothing_ends_before_the_cores_could_do_it(starts, cores):
    loop = Loop(cores=cores)
    ends = finish_times(loop, *((at, [Compute(s) for s in waits]) for at, waits in starts))
    for (at, waits), end in zip(starts, ends, strict=True):
        assert end >= at + sum(waits) - 1e-6
    total = sum(sum(waits) for _, waits in starts)
    assert max(ends) >= total / cores - 1e-6
    # And no core idles while work waits.
    assert max(ends) <= max(at for at, _ in starts) + total + 1e-6


@given(work)
def test_with_enough_cores_no_process_waits(starts):
    ends = finish_times(Loop(cores=8), *((at, [Compute(s) for s in waits]) for at, waits in starts))
    for (at, waits), end in zip(starts, ends, strict=True):
        assert end == pytest.approx(at + sum(waits))
