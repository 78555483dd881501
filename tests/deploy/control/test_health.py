from dataclasses import replace

from deploy.control.health import Budget, DeadlockDetector, Health, Report


def _report(state="working", progress=0.0, waiting=""):
    return Report(state, 1, "node", ("127.0.0.1", 1), progress=progress, waiting=waiting)


def test_a_role_that_never_gets_ready_is_stuck():
    health = Health(start_s=60, stall_s=600, now=0)
    health.answered(_report("starting"), now=59)
    assert health.stall_reason(now=60) == ""
    assert "not ready after 60 s" in health.stall_reason(now=61)


def test_a_role_that_has_not_answered_yet_has_the_time_of_a_start():
    health = Health(start_s=60, stall_s=10, now=0)
    assert health.stall_reason(now=60) == ""
    assert "not ready after 60 s" in health.stall_reason(now=61)


def test_a_role_that_is_done_is_never_late():
    health = Health(start_s=60, stall_s=600, now=0)
    health.answered(_report("done"), now=100)
    assert health.stall_reason(now=500) == ""


def test_a_role_that_does_not_answer_is_stuck():
    health = Health(start_s=60, stall_s=10, now=0)
    health.answered(_report(progress=1, waiting="work"), now=5)
    assert health.stall_reason(now=15) == ""
    assert "no answer for 10 s" in health.stall_reason(now=16)


def test_work_without_progress_is_stuck_and_waiting_is_not():
    busy, idle = Health(60, 10, now=0), Health(60, 10, now=0)
    for now in range(1, 13):
        busy.answered(_report(progress=7), now)
        idle.answered(_report(progress=7, waiting="a checkpoint"), now)
    # It began to work at 1; 12 is the first moment past 10 s of that.
    assert "without progress" in busy.stall_reason(now=12)
    assert idle.stall_reason(now=12) == ""


def test_a_role_that_was_paused_while_it_waited_does_not_count_as_waiting():
    health = Health(60, 60, now=0)
    health.answered(_report(waiting="a batch"), now=5)
    assert (health.waiting(now=15), health.waiting(now=16)) == ("a batch", "")


def test_each_note_is_told_once_and_the_newest_where_many_came_at_once():
    health = Health(60, 10, now=0)
    told = []
    for notes, noted in (((), 0), (("a",), 1), (("a",), 1), (("d", "e"), 5)):
        health.answered(replace(_report(), notes=notes, noted=noted), now=1)
        told.append(list(health.new_notes()))
    assert told == [[], ["a"], [], ["d", "e"]]


def test_a_role_that_has_worked_for_long_enough_is_well():
    health = Health(60, 10, now=0)
    health.answered(_report("starting"), now=5)
    reports = [health.answered(_report(waiting="a checkpoint"), now) for now in (6, 15, 16)]
    assert reports == [False, False, True]


def test_restarts_pause_longer_each_time_and_end():
    budget = Budget(most=3)
    assert [budget.next_pause() for _ in range(4)] == [1.0, 2.0, 4.0, None]
    assert budget.restarts == 3


def test_tries_for_room_on_the_disk_are_not_counted_and_become_rare():
    budget = Budget(most=1)
    assert [budget.room_pause() for _ in range(6)] == [5.0, 10.0, 20.0, 40.0, 60.0, 60.0]
    assert budget.restarts == 0
    budget.reached(1)
    assert budget.room_pause() == 5.0


def test_a_new_milestone_forgives_failures_but_restarts_are_still_counted():
    budget = Budget(most=1)
    assert budget.next_pause() == 1.0
    budget.reached(1)
    assert budget.next_pause() == 1.0
    assert budget.next_pause() is None
    assert budget.restarts == 2


def test_a_learner_that_always_dies_at_the_same_step_is_not_restarted_for_ever():
    """It takes steps 4 and 5 again each time: movement, but no progress."""
    budget, lives = Budget(most=3), 0
    while True:
        lives += 1
        for step in (3, 4, 5):
            budget.reached(step)
        if budget.next_pause() is None:
            break
    assert lives == 4


def test_a_death_that_narrows_a_search_does_not_count():
    budget = Budget(most=1)
    assert [budget.next_pause(counts=False) for _ in range(3)] == [1.0, 1.0, 1.0]
    assert (budget.failures, budget.restarts) == (0, 3)


def test_a_deadlock_names_what_each_role_waits_for():
    detector = DeadlockDetector(stall_s=10, now=0)
    waits = {"rollout-0": "space", "learner": "a batch"}
    assert detector.stall_reason(waits, 5.0, now=1) == ""
    assert detector.stall_reason(waits, 5.0, now=11) == ""
    assert detector.stall_reason(waits, 5.0, now=12).endswith(
        "rollout-0 waits for space; learner waits for a batch"
    )


def test_work_or_progress_of_one_role_ends_a_deadlock():
    detector = DeadlockDetector(stall_s=10, now=0)
    waits = {"rollout-0": "space", "learner": "a batch"}
    detector.stall_reason(waits, 5.0, now=1)
    assert detector.stall_reason({**waits, "learner": ""}, 5.0, now=12) == ""
    assert detector.stall_reason(waits, 5.0, now=20) == ""
    assert detector.stall_reason(waits, 6.0, now=29) == ""
    assert detector.stall_reason(waits, 6.0, now=39) == ""
    assert detector.stall_reason(waits, 6.0, now=40) != ""
