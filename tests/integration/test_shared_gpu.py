"""One GPU for every role: what Ray makes of their parts of it. The GPU is one in name only."""

from __future__ import annotations

import os
import time
from dataclasses import replace

import pytest

from common.config.run_config import parse
from deploy.control.desired_state import Desired
from deploy.control.group import ActorGroup
from deploy.control.group_spec import group_specs
from deploy.control.health import Report

pytestmark = pytest.mark.slow


class Idle:
    """An actor in the place of a role."""

    def __init__(self, name, root, model):
        self._name = name

    def poll(self):
        return Report("working", os.getpid(), self._name, ("127.0.0.1", 0))

    def visible(self):
        return os.environ.get("CUDA_VISIBLE_DEVICES")


@pytest.fixture(scope="module")
def ray():
    import ray

    ray.init(num_cpus=8, num_gpus=1, include_dashboard=False, log_to_driver=False)
    yield ray
    ray.shutdown()


def bring_up(groups, seconds):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and not all(group.state == "starting" for group in groups):
        for group in groups:
            group.bring_up()
        time.sleep(0.1)


def test_every_role_of_opsd_is_placed_on_the_one_gpu_and_a_further_actor_waits(ray):
    config = parse(
        {
            "name": "one-gpu",
            "method": {"name": "opsd"},
            "data": {"kgfact": {}},
            "engine": {"device": "cuda"},
            "learner": {"device": "cuda"},
            "replay": {"max_lag": 0},
            "cluster": {"placement": "shared"},
        },
        "test",
    )
    desired = Desired(rollout=2, evaluator=1, replay=config.replay)
    specs = [
        replace(spec, actor=Idle)
        for spec in group_specs(config, desired, "runs/x", "model")
        if spec.gpus
    ]
    groups = {spec.name: ActorGroup(spec, config.cluster) for spec in specs}
    further = groups.pop("rollout-1")
    try:
        bring_up(groups.values(), 60)
        assert {name: group.state for name, group in groups.items()} == dict.fromkeys(
            ("rollout-0", "learner", "evaluator-0"), "starting"
        )
        actors = [ray.get_actor(name) for name in ("rollout-0", "learner-0", "evaluator-0")]
        assert ray.get([actor.visible.remote() for actor in actors]) == ["0"] * 3
        # The configuration counts on one rollout actor, so nothing is left for a second.
        bring_up([further], 3)
        assert further.state == "waiting for resources"
        assert further.waiting == "resources (1 x 1 CPU and 0.3333 GPU)"
    finally:
        for group in (*groups.values(), further):
            group.end()
