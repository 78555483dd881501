"""How the student's weights reach its engines, and how old they may be."""

import pytest

from common.errors import UserError
from tests.common.config.test_run_config import MINIMAL, read


def test_the_students_rollouts_need_a_bound_on_their_age_that_publishing_can_keep(tmp_path):
    opsd = ("method.name=opsd", "learner.epochs=3")
    with pytest.raises(UserError, match=r"replay.max_lag must bound their age"):
        read(tmp_path, MINIMAL, *opsd)
    with pytest.raises(UserError, match=r"publish.every is 3, so .* up to 2 steps old, more than"):
        read(tmp_path, MINIMAL, *opsd, "replay.max_lag=1", "publish.every=3")
    config = read(tmp_path, MINIMAL, *opsd, "replay.max_lag=2", "publish.every=3")
    assert (config.exposures_per_rollout, config.student.samples) == (1, 8)
    assert read(tmp_path).student is None


@pytest.mark.parametrize("transfer", ["nccl", "ipc"])
def test_weights_go_from_gpu_to_gpu_only_where_there_are_gpus(tmp_path, transfer):
    opsd = ("method.name=opsd", "replay.max_lag=0", f"publish.transport={transfer}")
    gpus = ("engine.device=cuda", "learner.device=cuda")
    assert read(tmp_path, MINIMAL, *opsd, *gpus).publish.transfer == transfer
    for cpu in ("engine.device=cpu", "learner.device=cpu"):
        message = f"publish.transport is {transfer}, between processes on GPUs, .* use memory"
        with pytest.raises(UserError, match=message):
            read(tmp_path, MINIMAL, *opsd, *gpus, cpu)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ("cluster.placement=exclusive", "cluster.placement is exclusive; set it to shared"),
        ("cluster.address=node:6379", "cluster.address is node:6379, .*; remove it"),
        ("learner.ranks=2", "learner.ranks is 2, .*; set it to 1"),
        ("engine.tensor_parallel_size=2", "engine.tensor_parallel_size is 2, .*; set it to 1"),
        ("rollout.actors=2", "rollout.actors, .* is 2; set it to 1"),
        ("rollout.autoscale={max: 3}", ".* autoscale.max is 3; set it to 1"),
        ("rollout.schedule=[{after_s: 9, actors: 4}]", ".* its schedule .* is 4; set it to 1"),
        ("learner.lora={}", "learner.lora sends adapters alone; set publish.adapters to false"),
    ],
)
def test_ipc_is_for_whole_weights_of_one_rank_and_one_engine_on_one_gpu(tmp_path, change, problem):
    opsd = ("method.name=opsd", "replay.max_lag=0", "publish.transport=ipc")
    assert read(tmp_path, MINIMAL, *opsd, "cluster.placement=shared").needs_one_gpu
    with pytest.raises(UserError, match=f"publish.transport is ipc, .*, but {problem}, or use mem"):
        read(tmp_path, MINIMAL, *opsd, change)


def test_merged_adapters_go_by_ipc_like_any_weights(tmp_path):
    merged = ("learner.lora={}", "publish.adapters=false", "publish.transport=ipc")
    config = read(tmp_path, MINIMAL, "method.name=opsd", "replay.max_lag=0", *merged)
    assert config.student_adapter is None


def test_a_method_without_a_student_has_no_transport_to_check(tmp_path):
    sft = ("method.name=sft", "publish.transport=ipc", "rollout.actors=2")
    assert read(tmp_path, MINIMAL, *sft).needs_one_gpu == ""
