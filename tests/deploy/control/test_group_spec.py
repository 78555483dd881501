import pytest

from common.config import run_config
from deploy.control.desired_state import Desired
from deploy.control.group_spec import group_specs
from deploy.control.role_kind import RoleKind


def _config(**changes):
    raw = {"name": "x", "method": {"name": "sft"}, "data": {"kgfact": {}}, **changes}
    return run_config.parse(raw, "test")


def _specs(config, rollout=1, evaluator=1):
    desired = Desired(rollout=rollout, evaluator=evaluator, replay=config.replay)
    return group_specs(config, desired, "runs/x", "model")


def test_a_run_has_a_queue_a_learner_and_as_many_actors_as_desired():
    specs = _specs(_config(learner={"ranks": 2}), rollout=2)
    names = ["replay", "rollout-0", "rollout-1", "learner", "evaluator-0"]
    assert [spec.name for spec in specs] == names
    assert [spec.members for spec in specs if spec.kind is not RoleKind.LEARNER] == [
        (name,) for name in names if name != "learner"
    ]
    assert next(s for s in specs if s.kind is RoleKind.LEARNER).members == (
        "learner-0",
        "learner-1",
    )
    assert all(spec.arguments == ("runs/x", "model") for spec in specs)


def test_a_run_without_training_has_no_learner():
    assert RoleKind.LEARNER not in {spec.kind for spec in _specs(_config(train=False))}


@pytest.mark.parametrize(("device", "gpus"), [("cpu", [0, 0, 0, 0]), ("cuda", [0, 2, 1, 2])])
def test_engines_take_a_gpu_per_tensor_parallel_rank_and_learners_one(device, gpus):
    engine = {"device": device, "tensor_parallel_size": 2 if device == "cuda" else 1}
    specs = _specs(_config(engine=engine, learner={"device": device}))
    assert [spec.gpus for spec in specs] == gpus


def test_roles_that_share_a_gpu_have_equal_parts_of_it_and_more_do_not_fit():
    shared = {"engine": {"device": "cuda"}, "learner": {"device": "cuda"}}
    config = _config(**shared, rollout={"actors": 4}, cluster={"placement": "shared"})
    parts = [spec.gpus for spec in _specs(config, rollout=4)]
    # Four rollout actors, a learner and an evaluator, and a queue without.
    assert parts == [0, *[0.1666] * 6]
    assert sum(parts) <= 1 < sum(parts) + parts[-1]
