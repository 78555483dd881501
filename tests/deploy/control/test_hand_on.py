"""Rollout actors that are done give their GPUs to evaluators."""

import time

import pytest

from actors.replay.status import QueueStatus
from common.config import run_config
from common.rundir import RunDir
from deploy.control import desired_state
from deploy.control.group import ActorGroup
from deploy.control.group_spec import group_specs
from deploy.control.hand_on import num_evaluators
from deploy.control.health import Report
from deploy.control.out_of_memory import OutOfMemory
from deploy.control.supervisor import Supervisor
from deploy.observability.run_status import RoleStatus


def config_of(**sections):
    raw = {
        "name": "x",
        "method": {"name": "sft"},
        "data": {"kgfact": {}},
        "engine": {"device": "cuda"},
        "learner": {"device": "cuda"},
        "rollout": {"actors": 2},
        "evaluator": {"suites": ["recall"]},
        "cluster": {"placement": "exclusive"},
    }
    for section, values in sections.items():
        raw[section] = {**raw[section], **values} if isinstance(values, dict) else values
    return run_config.parse(raw, "test")


class Group(ActorGroup):
    """Starts at once if there are GPUs, and reports what the test decides."""

    def __init__(self, run, spec, restarts):
        super().__init__(spec, run.config.cluster, restarts)
        self.run = run

    def adopt(self):
        if self.name in self.run.alive:
            self._watch({name: self.name for name in self.spec.members})
        return self.name in self.run.alive

    def bring_up(self):
        if self.name not in self.run.no_room and not self._actors:
            self.run.alive.add(self.name)
            self._watch({name: self.name for name in self.spec.members})

    def end(self):
        self.run.alive.discard(self.name)
        self._actors, self._health, self._asked = {}, {}, {}

    def call(self, method):
        pass


class Run:
    """A supervisor without Ray, and what it is told.

    ``states``: of groups; others work. ``no_room``: groups that find no GPU.
    """

    began = 0.0

    def __init__(self, path, **sections):
        self.config = config_of(**sections)
        self.folder = RunDir(path)
        self.states, self.no_room, self.alive = {}, set(), set()
        self.settled, self.events = False, []
        # Ahead of the clock by which groups judge reports.
        self.now = time.monotonic()
        self.supervisor = self.controller({})

    def controller(self, before):
        return Supervisor(
            *(self.folder, self.config, "model", self, before),
            lambda spec, restarts: Group(self, spec, restarts),
            poll=self.poll,
            queue=self,
            memory=OutOfMemory(count=lambda: 0),
            clock=lambda: self.now,
        )

    def poll(self, groups):
        queue = QueueStatus(settled=self.settled, settings=self.config.replay.model_dump())
        for group in groups:
            for name in group._actors:
                state = self.states.get(group.name, "working")
                of_queue = queue if name == "replay" else None
                report = Report(state, 1, "n", ("", 0), progress=self.now, queue=of_queue)
                group.take(name, report, self.now, self.now)
        return {}

    def tick(self, times=2):
        for _ in range(times):
            self.now += 0.5
            state = self.supervisor.tick()
        return state

    def draw_all(self):
        """All targets are drawn, so the rollout actors are done."""
        self.settled = True
        self.states |= {"rollout-0": "done", "rollout-1": "done"}
        return self.tick()

    @property
    def evaluators(self):
        return sorted(name for name in self.alive if name.startswith("evaluator"))

    def event(self, text):
        self.events.append(text)

    note = event

    def configure(self, settings):
        pass

    def release(self, owner, died):
        pass


EVENT = "2 rollout actors are done; GPUs go to 2 more evaluators"


def test_two_done_actors_make_room_for_two_evaluators_while_the_learner_trains(tmp_path):
    run = Run(tmp_path)
    run.tick()
    assert run.evaluators == ["evaluator-0"]
    run.draw_all()
    assert run.evaluators == ["evaluator-0", "evaluator-1", "evaluator-2"]
    run.tick(5)
    assert run.events.count(EVENT) == 1


def test_a_new_controller_keeps_them(tmp_path):
    run = Run(tmp_path)
    run.tick()
    run.draw_all()
    roles = {
        name: RoleStatus(state="done" if group.done else "up")
        for name, group in run.supervisor.groups.items()
    }
    for is_trained in (False, True):
        if is_trained:
            roles["learner"] = RoleStatus(state="done")
        run.supervisor = run.controller(roles)
        run.supervisor.adopt()
        run.tick()
        assert run.evaluators == ["evaluator-0", "evaluator-1", "evaluator-2"]
    assert run.events.count(EVENT) == 1


def test_a_number_that_the_user_sets_is_the_number(tmp_path):
    run = Run(tmp_path, cluster={"drain_s": 1})
    run.tick()
    run.draw_all()
    desired_state.change(run.folder, run.config, {"evaluator": 2})
    run.tick(6)
    assert run.evaluators == ["evaluator-0", "evaluator-1"]
    desired_state.change(run.folder, run.config, {"hand_on": True})
    run.tick()
    assert len(run.evaluators) == 4


def test_a_user_who_scales_rollout_actors_keeps_the_hand_over(tmp_path):
    run = Run(tmp_path)
    run.tick()
    desired_state.change(run.folder, run.config, {"rollout": 1})
    run.now += 100
    run.tick(3)
    run.draw_all()
    assert run.evaluators == ["evaluator-0", "evaluator-1"]
    assert "1 rollout actor is done; GPUs go to 1 more evaluator" in run.events


def test_work_that_comes_back_takes_the_gpus_back(tmp_path):
    run = Run(tmp_path, cluster={"drain_s": 1})
    run.tick()
    run.draw_all()
    run.settled = False
    run.states.clear()
    run.tick(6)
    assert run.evaluators == ["evaluator-0"]
    assert {"rollout-0", "rollout-1"} <= run.alive
    assert "evaluator-2 is drained" in run.events


def test_an_evaluator_that_is_not_up_when_all_is_measured_holds_nothing_up(tmp_path):
    run = Run(tmp_path)
    run.no_room.add("evaluator-2")
    run.states["evaluator-1"] = "starting"
    run.tick()
    run.draw_all()
    assert run.evaluators == ["evaluator-0", "evaluator-1"]
    run.states["learner"] = "done"
    assert run.tick().name == "evaluating"
    run.states["evaluator-0"] = "done"
    assert run.tick(3).has_ended


def test_the_run_waits_for_those_that_measure(tmp_path):
    run = Run(tmp_path)
    run.tick()
    run.draw_all()
    run.states |= {"learner": "done", "evaluator-0": "done", "evaluator-1": "done"}
    assert run.tick(4).name == "evaluating"
    run.states["evaluator-2"] = "done"
    assert run.tick(3).has_ended


def test_none_is_started_after_training(tmp_path):
    run = Run(tmp_path)
    run.tick()
    run.states["learner"] = "done"
    run.tick()
    run.draw_all()
    assert run.evaluators == ["evaluator-0"]


@pytest.mark.parametrize(
    "sections",
    [
        {"cluster": {"hand_on": False}},
        {"cluster": {"dedicated": True}},
        {"cluster": {"placement": "shared"}},
        {"engine": {"device": "cpu"}},
        {"evaluator": {"actors": 0}},
        {"evaluator": {"suites": []}},
    ],
)
def test_where_gpus_cannot_be_handed_on_nothing_changes(tmp_path, sections):
    run = Run(tmp_path, **sections)
    run.tick()
    before = run.evaluators
    run.draw_all()
    assert run.evaluators == before


@pytest.mark.parametrize(("done", "evaluators"), [(0, 0), (1, 0), (2, 1), (3, 1), (4, 2)])
def test_an_evaluator_of_two_gpus_needs_two_actors_of_one(done, evaluators):
    config = config_of(rollout={"actors": 4})
    desired = desired_state.Desired(rollout=4, evaluator=1, hand_on=True, replay=config.replay)
    groups = {}
    for spec in group_specs(config, desired, "runs/x", "model"):
        groups[spec.name] = group = ActorGroup(spec, config.cluster)
        if spec.name == "evaluator-0":
            object.__setattr__(spec, "gpus", 2)
        if spec.name in [f"rollout-{index}" for index in range(done)]:
            group.done_at = 0.0
    assert num_evaluators(config, desired, groups) == evaluators
