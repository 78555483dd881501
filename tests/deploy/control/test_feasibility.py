"""What cannot run on this machine is refused before anything starts."""

import pytest

from common.config.auto import settle
from common.config.run_config import parse
from common.errors import UserError
from common.hardware import Hardware
from deploy.control import feasibility
from deploy.control.feasibility import device_of, with_patience
from deploy.planning import devices
from tests.tiny import make_model

CPU = Hardware("cpu", "float32")


def check_fit(config, hardware, say):
    device = device_of(config, hardware, say)
    return feasibility.check_fit(config, hardware, device, say)


@pytest.fixture
def config(tmp_path):
    make_model(tmp_path / "model", vocabulary=64, heads=2)

    def build(device="cpu", **sections):
        raw = {"name": "run", "model": str(tmp_path / "model"), "method": {"name": "sft"}}
        raw |= {"data": {"kgfact": {"domains": 2, "entities": 4}}, **sections}
        return settle(parse(raw, "test"), Hardware(device, "float32"))

    return build


def test_what_fits_has_its_steps_and_time_told(config):
    said = []
    _, planned = check_fit(config(learner={"epochs": 3, "batch_size": 2}), CPU, said.append)
    # 4 facts, 3 times, 2 at a time.
    assert said == [f"plan: 6 steps, about {planned.total_s:.0f} s"]


def test_an_engine_over_more_devices_than_divide_its_heads_is_refused(config):
    with pytest.raises(UserError) as error:
        check_fit(config(engine={"tensor_parallel_size": 3}), CPU, print)
    assert str(error.value).splitlines() == [
        "engine.tensor_parallel_size=3 does not divide 2 heads",
        "nearest that fits: engine.tensor_parallel_size=1",
    ]


def test_more_memory_than_there_is_is_refused_with_the_nearest_that_fits(config, monkeypatch):
    # 1 GiB of KV cache an engine, nine engines, and 8 GiB.
    monkeypatch.setattr(devices, "memory_bytes", lambda: 8 * 2**30)
    with pytest.raises(UserError, match=r"machine: needs .* has 8.0 [\s\S]*that fits: rollout.act"):
        check_fit(config(rollout={"actors": 8}), CPU, print)


def test_few_kv_blocks_are_slow_and_no_reason_to_refuse(config):
    said = []
    assert check_fit(config(engine={"num_blocks": 4}), CPU, said.append)[1] is not None
    assert "KV cache" in said[0]


def test_a_gpu_that_is_not_there_is_refused(config):
    with pytest.raises(UserError, match=r"^engine.device is cuda, but this machine has no GPU"):
        check_fit(config("cuda"), CPU, print)
    mine = config(learner={"device": "cuda"})
    with pytest.raises(UserError, match=r"^learner.device is cuda, but this machine has no GPU"):
        check_fit(mine, CPU, print)
    with pytest.raises(UserError, match=r"^engine.device is cuda, but the cluster has no GPU"):
        check_fit(config("cuda", cluster={"address": "10.0.0.1:6379"}), CPU, print)


def gpus(count, name="NVIDIA L4", gib=22):
    return Hardware("cuda", "float32", gpus=count, gpu=name, gpu_bytes=gib * 2**30)


def test_more_gpus_than_there_are_are_refused_with_the_nearest_that_fits(config):
    two = config("cuda", rollout={"actors": 2})
    with pytest.raises(UserError) as error:
        check_fit(two, gpus(2), print)
    assert str(error.value).splitlines() == [
        "the roles need 4 GPUs, there are 2",
        "nearest that fits: cluster.placement=phases",
    ]
    assert check_fit(two, gpus(4), print)[1] is not None


def test_a_joined_cluster_is_judged_by_its_gpus_unless_it_grows(config):
    joined = config("cuda", cluster={"address": "10.0.0.1:6379"})
    with pytest.raises(UserError, match=r"^the roles need 3 GPUs, there are 2\n"):
        check_fit(joined, gpus(2), print)
    grows = config("cuda", cluster={"address": "10.0.0.1:6379", "autoscales": True})
    assert check_fit(grows, gpus(2), print)[1] is not None
    said = []
    assert check_fit(grows, CPU, said.append) == (grows, None)
    assert said == ["note: not planned: the cluster has no GPU yet"]


def test_on_one_gpu_roles_take_turns(config):
    turns = config("cuda", cluster={"placement": "phases"})
    said = []
    assert check_fit(turns, gpus(1), said.append)[1] is not None
    assert [line.split(":")[0] for line in said[:-1]] == ["  rollout", "  evaluator", "  learner"]
    with pytest.raises(UserError, match=r"that fits: cluster.placement=phases$"):
        check_fit(config("cuda", cluster={"placement": "exclusive"}), gpus(1), print)


def test_roles_that_share_a_gpu_divide_its_memory_and_say_how(config):
    together = config("cuda", cluster={"placement": "shared"})
    said = []
    divided, planned = check_fit(together, gpus(1), said.append)
    assert planned is not None
    share = divided.engine.gpu_memory_utilization
    # 1 GiB of CUDA context, and little else, of 22.
    assert 1 / 22 < share < 0.1
    measuring = divided.evaluator_engine.gpu_memory_utilization
    assert divided.learner_share == pytest.approx(1 - share - measuring)
    assert said[-2].startswith(
        f"  an engine that draws may use {22 * share:.1f} GiB, one that measures "
        f"{22 * measuring:.1f}, the learner "
    )
    longer = config(
        "cuda", evaluator={"engine": {"max_model_len": 65536}}, cluster={"placement": "shared"}
    )
    larger = check_fit(longer, gpus(1), print)[0]
    assert larger.evaluator.engine.kv_cache_gib > divided.evaluator.engine.kv_cache_gib
    assert larger.engine == divided.engine
    # What is set by hand stays.
    by_hand = config(
        "cuda",
        engine={"gpu_memory_utilization": 0.3, "kv_cache_gib": 2},
        cluster={"placement": "shared"},
    )
    assert check_fit(by_hand, gpus(1), print)[0] == by_hand


def test_roles_that_are_too_large_for_one_gpu_are_refused_with_the_nearest_that_fits(config):
    crowd = config("cuda", rollout={"actors": 25}, cluster={"placement": "shared"})
    with pytest.raises(UserError) as error:
        check_fit(crowd, gpus(1), print)
    problem, remedy = str(error.value).splitlines()
    assert problem.startswith("GPU: needs 2")
    assert "95 % of the GPU that the roles share" in problem
    assert remedy.startswith("nearest that fits: rollout.actors=1")


def test_a_gpu_without_figures_is_counted_all_the_same(config):
    unknown = "NVIDIA Unheard Of"
    with pytest.raises(UserError, match="the roles need 3 GPUs, there are 1"):
        check_fit(config("cuda"), gpus(1, unknown), print)
    said = []
    assert check_fit(config("cuda"), gpus(3, unknown), said.append)[1] is None
    assert said == ["note: not planned: no figures of a NVIDIA Unheard Of"]
    shared = config("cuda", cluster={"placement": "shared"})
    with pytest.raises(UserError, match=r"set engine.gpu_memory_utilization and engine.kv_cache_g"):
        check_fit(shared, gpus(1, unknown), print)


def test_roles_on_different_devices_are_not_planned(config):
    said = []
    assert check_fit(config("cuda", learner={"device": "cpu"}), gpus(2), said.append)[1] is None
    assert "different devices" in said[0]


def test_a_model_that_cannot_be_planned_is_let_through_with_a_remark(config, tmp_path):
    unknown = config()
    path = tmp_path / "model" / "config.json"
    path.write_text(path.read_text().replace("intermediate_size", "another_size"))
    said = []
    assert check_fit(unknown, CPU, said.append) == (unknown, None)
    assert said[0].startswith("note: not planned: ")


def test_the_cpus_of_other_machines_are_not_judged(config):
    joined = config(cluster={"address": "10.0.0.1:6379"})
    assert check_fit(joined, CPU, print) == (joined, None)


@pytest.mark.parametrize(
    ("device", "sections", "seconds"),
    [
        ("cpu", {}, 120 + 5),
        ("cuda", {}, 120 + 5),
        ("cuda", {"engine": {"enforce_eager": False}}, 120 + 5 + 240),
        ("cuda", {"learner": {"zero_stage": 2, "offload": "optimizer"}}, 120 + 5 + 180),
        ("cuda", {"engine": {"enforce_eager": False}, "cluster": {"start_timeout_s": 7}}, 7),
    ],
)
def test_a_start_may_take_as_long_as_size_and_mode_need(
    config, tmp_path, device, sections, seconds
):
    (tmp_path / "weights").mkdir()
    with (tmp_path / "weights" / "model.safetensors").open("wb") as file:
        file.truncate(5 * 10**8)
    patient = with_patience(config(device, **sections), tmp_path / "weights")
    assert patient.cluster.start_timeout_s == seconds
