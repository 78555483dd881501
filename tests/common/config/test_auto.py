"""``auto`` becomes a device and a dtype once, when a run starts."""

import pytest

from common.config.auto import is_settled, settle
from common.config.run_config import parse
from common.errors import UserError
from common.hardware import Hardware

GPU = Hardware("cuda", cpu_dtype="float32")
CPU = Hardware("cpu", cpu_dtype="float32")


def config(**sections):
    return parse(
        {"name": "run", "method": {"name": "sft"}, "data": {"kgfact": {}}, **sections}, "test"
    )


def chosen(config):
    engine, learner = config.engine, config.learner
    return (engine.device, engine.dtype, learner.device, learner.dtype)


def test_auto_is_what_the_machine_is_fast_at():
    assert chosen(settle(config(), GPU)) == ("cuda", "bfloat16", "cuda", "bfloat16")
    assert chosen(settle(config(), CPU)) == ("cpu", "float32", "cpu", "float32")
    fast = Hardware("cpu", cpu_dtype="bfloat16")
    assert chosen(settle(config(), fast)) == ("cpu", "bfloat16", "cpu", "bfloat16")


def test_a_dtype_follows_the_device_that_was_chosen_for_it():
    mine = config(learner={"device": "cpu"})
    assert chosen(settle(mine, GPU)) == ("cuda", "bfloat16", "cpu", "float32")


def test_nothing_but_what_was_auto_is_set():
    settled = settle(config(), CPU)
    assert settled.engine.model_fields_set == {"device", "dtype"}
    assert settled.model_fields_set == {*("name", "method", "data", "engine", "learner", "cluster")}
    assert settled.cluster.model_fields_set == {"placement"}


def test_what_was_chosen_by_hand_stays():
    mine = config(engine={"device": "cpu", "dtype": "bfloat16"}, learner={"dtype": "float32"})
    assert chosen(settle(mine, GPU)) == ("cpu", "bfloat16", "cuda", "float32")


def test_a_run_keeps_what_it_was_started_with_on_another_machine():
    recorded = settle(config(), CPU)
    assert settle(config(), GPU, recorded) == recorded
    # What is asked for by name is not.
    assert settle(config(engine={"device": "cuda"}), GPU, recorded).engine.device == "cuda"


def test_a_run_keeps_its_time_for_a_start_unless_another_is_asked_for():
    recorded = settle(config(cluster={"start_timeout_s": 300}), CPU)
    assert settle(config(), CPU, recorded) == recorded
    mine = config(cluster={"start_timeout_s": 200})
    assert settle(mine, CPU, recorded).cluster.start_timeout_s == 200


def test_the_fisher_is_computed_where_the_evaluators_engine_is():
    mine = config(engine={"device": "cpu"}, evaluator={"fisher": {}})
    assert settle(mine, GPU).evaluator.fisher.device == "cpu"
    assert not is_settled(mine)
    assert is_settled(settle(mine, GPU))


def test_a_setting_that_needs_a_gpu_is_refused_where_there_is_none():
    mine = config(learner={"zero_stage": 1, "offload": "optimizer"})
    assert settle(mine, GPU).learner.offload == "optimizer"
    with pytest.raises(UserError, match=r"run run: learner.offload is optimizer, but"):
        settle(mine, CPU)
