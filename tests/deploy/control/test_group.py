import math
import time

from common.config.sections import ClusterSettings
from deploy.control.group import ActorGroup
from deploy.control.group_spec import GroupSpec
from deploy.control.health import DeadlockDetector, Health, Report
from deploy.control.role_kind import RoleKind

LAST = {"mixsd_attempts_total": 13.0}


def _done_group(monkeypatch):
    """A group of one member that reported its last counts; without Ray."""
    spec = GroupSpec(RoleKind.ROLLOUT, "rollout-0", object, ("rollout-0",), 1, 0, ())
    group = ActorGroup(spec, ClusterSettings())
    health = Health(60, 600, now=0)
    health.answered(Report("done", 1, "node", ("127.0.0.1", 1), metrics=LAST), now=1)
    group._health = {"rollout-0": health}
    return group


def test_last_counts_are_shown_until_a_scrape_has_seen_them(monkeypatch):
    group = _done_group(monkeypatch)
    now = time.monotonic()
    monkeypatch.setattr("deploy.control.group.time.monotonic", lambda: now)
    group.finish()
    assert group.state == "done"
    assert group.reports == {}
    assert group.metrics == {"rollout-0": LAST}
    now += 16
    assert group.metrics == {}


def test_counts_of_a_group_that_died_are_gone_at_once(monkeypatch):
    group = _done_group(monkeypatch)
    group.end()
    assert group.metrics == {}


def _steps(group, *milestones):
    """The group's member answers with these milestones, one after the other."""
    for milestone in milestones:
        group.budget.reached(group._offset + milestone)


def test_a_learner_gets_on_by_its_step_and_an_actor_by_what_it_adds():
    settings = ClusterSettings(max_restarts=9)
    for kind, failures in ((RoleKind.LEARNER, 1), (RoleKind.ROLLOUT, 0)):
        spec = GroupSpec(kind, kind.group_name(), object, ("member",), 1, 0, ())
        group = ActorGroup(spec, settings)
        group._watch({"member": object()})
        _steps(group, 1, 5)
        group.budget.next_pause()
        # The learner takes steps again; three rollouts are three more.
        group._watch({"member": object()})
        _steps(group, 3)
        assert group.budget.failures == failures


def test_a_group_that_waits_for_resources_says_for_which_and_can_be_part_of_a_deadlock():
    spec = GroupSpec(RoleKind.LEARNER, "learner", object, ("learner-0", "learner-1"), 1, 1, ())
    group = ActorGroup(spec, ClusterSettings())
    assert group.waiting == ""
    group._members._placement = object()
    assert group.waiting == "resources (2 x 1 CPU and 1 GPU)"
    detector = DeadlockDetector(stall_s=10, now=0)
    waits = {"learner": group.waiting, "replay": "requests"}
    assert detector.stall_reason(waits, 0, now=1) == ""
    assert "learner waits for resources (2 x 1 CPU and 1 GPU)" in (
        detector.stall_reason(waits, 0, now=12)
    )


def test_reports_are_as_of_the_moment_that_the_slower_member_was_asked():
    spec = GroupSpec(RoleKind.LEARNER, "learner", object, ("learner-0", "learner-1"), 1, 1, ())
    group = ActorGroup(spec, ClusterSettings())
    group._watch({"learner-0": object(), "learner-1": object()})
    report = Report("working", 1, "node", ("127.0.0.1", 1))
    group.take("learner-0", report, asked=5.0, now=5.1)
    assert group.as_of == -math.inf
    # Asked at 3 and not before 9 with an answer: what happened at 4 may not be in it.
    group.take("learner-1", report, asked=3.0, now=9.0)
    assert group.as_of == 3.0
