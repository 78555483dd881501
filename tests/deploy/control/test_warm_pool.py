"""Idle actors that the next run takes over; Ray's part is played by a dictionary of names."""

from types import SimpleNamespace as Namespace

import pytest
import ray

from common.config.run_config import parse
from common.config.sections import ClusterSettings
from common.rundir import RunDir
from deploy.control.group import ActorGroup
from deploy.control.group_spec import GroupSpec
from deploy.control.health import Health, Report
from deploy.control.role_kind import RoleKind
from deploy.control.warm_pool import WarmActors, WarmPool, warm_key

KINDS = (RoleKind.ROLLOUT, RoleKind.EVALUATOR, RoleKind.LEARNER)


class Actor:
    """An actor that takes note of what it is told."""

    def __init__(self):
        self.told = []
        self.reassign = self
        self.fails = False

    def remote(self, *arguments):
        self.told.append(arguments)
        return self

    def answer(self):
        if self.fails:
            raise ValueError("no such method")


@pytest.fixture
def actors(monkeypatch):
    """All live actors by (namespace, name); placement groups are their ids."""
    live = {}

    def get_actor(name, namespace="mixsd-b"):
        if (namespace, name) not in live:
            raise ValueError("Failed to look up actor")
        return live[namespace, name]

    def kill(actor):
        for key in [key for key, other in live.items() if other is actor]:
            del live[key]

    monkeypatch.setattr(ray, "get_actor", get_actor)
    monkeypatch.setattr(ray, "kill", kill)
    monkeypatch.setattr(ray, "get", lambda refs, timeout: [ref.answer() for ref in refs])
    monkeypatch.setattr(ray.util, "remove_placement_group", lambda placement: None)
    monkeypatch.setattr(WarmActors, "placement_group", lambda self: self.placement)
    monkeypatch.setattr(ray, "get_runtime_context", lambda: Namespace(namespace="mixsd-b"))
    return live


@pytest.fixture
def pool(tmp_path):
    return WarmPool(tmp_path)


def _warm(name, key="key"):
    return WarmActors(key=key, names=[("mixsd-a", name)], placement=f"placement of {name}")


def test_actors_are_taken_once_and_only_for_their_kind(actors, pool):
    actors["mixsd-a", "rollout-0"] = Actor()
    pool.put(RoleKind.ROLLOUT, _warm("rollout-0"))
    assert pool.take(RoleKind.EVALUATOR, "key") is None
    assert pool.take(RoleKind.ROLLOUT, "key") == _warm("rollout-0")
    assert pool.take(RoleKind.ROLLOUT, "key") is None


def test_actors_with_other_settings_are_ended_since_they_hold_memory(actors, pool):
    for name in ("rollout-0", "rollout-1"):
        actors["mixsd-a", name] = Actor()
    pool.put(RoleKind.ROLLOUT, _warm("rollout-0", "other"))
    pool.put(RoleKind.ROLLOUT, _warm("rollout-1", "other"))
    assert pool.take(RoleKind.ROLLOUT, "key") is None
    assert actors == {}


def test_actors_that_died_are_passed_over(actors, pool):
    actors["mixsd-a", "rollout-1"] = Actor()
    pool.put(RoleKind.ROLLOUT, _warm("rollout-0"))
    pool.put(RoleKind.ROLLOUT, _warm("rollout-1"))
    assert pool.take(RoleKind.ROLLOUT, "key") == _warm("rollout-1")


def test_clearing_ends_all_kinds(actors, pool):
    for kind in KINDS:
        actors["mixsd-a", f"{kind.value}-0"] = Actor()
        pool.put(kind, _warm(f"{kind.value}-0"))
    pool.clear()
    assert actors == {}
    assert pool.take(RoleKind.LEARNER, "key") is None


SPEC = GroupSpec(
    RoleKind.ROLLOUT, "rollout-0", object, ("rollout-0",), 1, 0, ("root", "model"), "key"
)


@pytest.fixture
def run(tmp_path):
    """The folder of a run that shares idle actors with others."""
    run = RunDir(tmp_path / "b")
    run.root.mkdir()
    (tmp_path / "warm").mkdir()
    run.warm.symlink_to("../warm")
    return run


def _ended(group, state):
    health = Health(60, 600, now=0)
    health.answered(Report(state, 1, "node", ("127.0.0.1", 1)), now=1)
    group._health = {"rollout-0": health}
    group.finish()


def test_a_group_goes_on_with_idle_actors_and_leaves_them_to_the_next(actors, run):
    actor = actors["mixsd-a", "rollout-3"] = Actor()
    WarmPool(run.warm).put(RoleKind.ROLLOUT, _warm("rollout-3"))
    group = ActorGroup(SPEC, ClusterSettings(), run=run)
    group.bring_up()
    assert group.exists
    assert actor.told == [("rollout-0", "root", "model")]
    # A controller that is started again finds them by the name that they have elsewhere.
    heir = ActorGroup(SPEC, ClusterSettings(), run=run)
    assert heir.adopt()
    heir._members._placement = Namespace(id=Namespace(hex=lambda: "p"))
    _ended(heir, "done")
    assert heir.done
    assert not heir.exists
    found = WarmPool(run.warm).take(RoleKind.ROLLOUT, "key")
    assert found is not None
    assert found.names == [("mixsd-a", "rollout-3")]


def test_actors_that_failed_are_not_left_to_others(actors, run):
    actors["mixsd-a", "rollout-3"] = Actor()
    WarmPool(run.warm).put(RoleKind.ROLLOUT, _warm("rollout-3"))
    group = ActorGroup(SPEC, ClusterSettings(), run=run)
    group.bring_up()
    _ended(group, "failed")
    assert actors == {}
    assert WarmPool(run.warm).take(RoleKind.ROLLOUT, "key") is None


def test_actors_that_cannot_begin_anew_are_ended(actors, run, monkeypatch):
    actor = actors["mixsd-a", "rollout-3"] = Actor()
    actor.fails = True
    WarmPool(run.warm).put(RoleKind.ROLLOUT, _warm("rollout-3"))
    group = ActorGroup(SPEC, ClusterSettings(), run=run)
    assert not group._members._take_warm()
    assert actors == {}
    assert not group.exists


RAW = {
    "name": "run",
    "method": {"name": "mixsd"},
    "data": {"kgfact": {"domains": 5, "entities": 4}},
    "engine": {"device": "cpu", "dtype": "float32"},
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_runs_of_a_sweep_vary_does_not_part_their_actors(kind):
    keys = {
        warm_key(kind, parse({**RAW, "seed": seed, "learner": {"lr": lr, "epochs": 9}}, "t"), "m")
        for seed, lr in ((0, 1e-5), (1, 1e-4))
    }
    assert len(keys) == 1
    assert keys != {""}
    assert warm_key(kind, parse({**RAW, "seed": 0}, "t"), "another model") not in keys


def test_engines_of_a_student_and_roles_that_take_turns_stay_with_their_run():
    student = parse({**RAW, "method": {"name": "opsd"}, "replay": {"max_lag": 0}}, "t")
    assert warm_key(RoleKind.ROLLOUT, student, "m") == ""
    assert warm_key(RoleKind.LEARNER, student, "m") == ""
    assert warm_key(RoleKind.EVALUATOR, student, "m") != ""
    turns = parse({**RAW, "cluster": {"placement": "phases"}}, "t")
    assert {warm_key(kind, turns, "m") for kind in KINDS} == {""}
    assert warm_key(RoleKind.REPLAY, parse(RAW, "t"), "m") == ""
