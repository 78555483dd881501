"""GPUs of a run, and the placement that they allow."""

import pytest

from common.config.auto import placement, settle
from common.config.run_config import parse
from common.errors import UserError
from common.hardware import Hardware


def config(**sections):
    raw = {"name": "run", "method": {"name": "mixsd", "mix_rate": 0.3}, "data": {"kgfact": {}}}
    return parse({**raw, **sections}, "test")


OPSD = {"method": {"name": "opsd"}, "replay": {"max_lag": 0}}
EARLY = {"learner": {"early_stop": True}, "evaluator": {"suites": ["recall"]}}


def test_at_once_roles_need_the_sum_of_their_gpus_and_in_phases_the_most():
    mine = config(
        rollout={"actors": 3},
        engine={"tensor_parallel_size": 2},
        learner={"ranks": 4},
        evaluator={"actors": 2},
    )
    # Three engines of two, four ranks, two engines of two.
    assert (mine.num_gpus("exclusive"), mine.num_gpus("phases")) == (14, 6)
    without = config(train=False, evaluator={"actors": 0})
    assert (without.num_gpus("exclusive"), without.num_gpus("phases")) == (1, 1)


@pytest.mark.parametrize(
    ("gpus", "sections", "chosen"),
    [
        # A CPU, or GPUs that a cluster adds as they are asked for.
        (0, {}, "exclusive"),
        (3, {}, "exclusive"),
        (2, {}, "phases"),
        (1, {}, "phases"),
        # The two ranks need two.
        (1, {"learner": {"ranks": 2}}, "exclusive"),
        (2, {"learner": {"ranks": 2}}, "phases"),
        # Drawing and training alternate, or training and measuring.
        (1, OPSD, "shared"),
        (1, EARLY, "shared"),
        (3, OPSD, "exclusive"),
        (1, {**OPSD, "publish": {"transport": "nccl"}}, "exclusive"),
        (8, {**OPSD, "publish": {"transport": "ipc"}}, "shared"),
        (2, {**OPSD, "learner": {"ranks": 2}}, "exclusive"),
        (2, {**OPSD, "engine": {"tensor_parallel_size": 2}}, "exclusive"),
    ],
)
def test_fewer_gpus_than_processes_are_used_in_turns_or_shared(gpus, sections, chosen):
    assert placement(config(**sections), gpus) == chosen


@pytest.mark.parametrize(
    ("sections", "reason"),
    [(OPSD, "method opsd draws with the weights that it trains"), (EARLY, "learner.early_stop")],
)
def test_what_cannot_take_place_in_phases_is_refused(sections, reason):
    with pytest.raises(UserError, match=f"cluster.placement is phases, but {reason}.*; use shar"):
        config(**sections, cluster={"placement": "phases"})


@pytest.mark.parametrize(
    ("sections", "reason"),
    [
        ({"engine": {"tensor_parallel_size": 2}}, "engine.tensor_parallel_size is 2"),
        ({"learner": {"ranks": 2}}, "learner.ranks is 2"),
        ({**OPSD, "publish": {"transport": "nccl"}}, "publish.transport is nccl"),
    ],
)
def test_what_needs_several_gpus_cannot_share_one(sections, reason):
    with pytest.raises(UserError, match=f"cluster.placement is shared, but {reason}.*; use excl"):
        config(**sections, cluster={"placement": "shared"})


def test_the_learner_may_use_what_the_engines_leave():
    shared = config(
        rollout={"actors": 2},
        engine={"gpu_memory_utilization": 0.2},
        cluster={"placement": "shared"},
    )
    assert shared.num_gpus() == 1
    # Two rollout actors and an evaluator.
    assert shared.learner_share == pytest.approx(0.4)
    assert config().learner_share == 1


def test_a_run_records_its_placement_and_keeps_it():
    one = Hardware("cuda", "float32", gpus=1)
    recorded = settle(config(), one)
    assert recorded.cluster.placement == "phases"
    assert settle(config(), Hardware("cuda", "float32", gpus=8), recorded) == recorded
    assert settle(config(), Hardware("cpu", "float32")).cluster.placement == "exclusive"
    mixed = config(learner={"device": "cpu"})
    assert settle(mixed, one).cluster.placement == "exclusive"
