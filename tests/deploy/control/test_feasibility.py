"""What cannot run on this machine is refused before anything starts."""

import pytest

from common.config.auto import settle
from common.config.run_config import parse
from common.errors import UserError
from common.hardware import Hardware
from deploy.control import feasibility
from deploy.control.feasibility import check_fit, with_patience
from deploy.planning import devices
from tests.tiny import make_model


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
    planned = check_fit(config(learner={"epochs": 3, "batch_size": 2}), said.append)
    # 4 facts, 3 times, 2 at a time.
    assert said == [f"plan: 6 steps, about {planned.total_s:.0f} s"]


def test_an_engine_over_more_devices_than_divide_its_heads_is_refused(config):
    with pytest.raises(UserError) as error:
        check_fit(config(engine={"tensor_parallel_size": 3}), print)
    assert str(error.value).splitlines() == [
        "engine.tensor_parallel_size=3 does not divide 2 heads",
        "nearest that fits: engine.tensor_parallel_size=1",
    ]


def test_more_memory_than_there_is_is_refused_with_the_nearest_that_fits(config, monkeypatch):
    # 1 GiB of KV cache an engine, nine engines, and 8 GiB.
    monkeypatch.setattr(devices, "memory_bytes", lambda: 8 * 2**30)
    with pytest.raises(UserError, match=r"machine: needs .* has 8.0 [\s\S]*that fits: rollout.act"):
        check_fit(config(rollout={"actors": 8}), print)


def test_few_kv_blocks_are_slow_and_no_reason_to_refuse(config):
    said = []
    assert check_fit(config(engine={"num_blocks": 4}), said.append) is not None
    assert "KV cache" in said[0]


def test_a_gpu_that_is_not_there_is_refused(config, monkeypatch):
    monkeypatch.setattr(feasibility, "detect", lambda: Hardware("cpu", "float32"))
    with pytest.raises(UserError, match=r"^engine.device is cuda, but this machine has no GPU"):
        check_fit(config("cuda"), print)
    mine = config(learner={"device": "cuda"})
    with pytest.raises(UserError, match=r"^learner.device is cuda, but this machine has no GPU"):
        check_fit(mine, print)


def machine_with(monkeypatch, gpus, name="NVIDIA L4", gib=22):
    here = Hardware("cuda", "float32", gpus=gpus, gpu=name, gpu_bytes=gib * 2**30)
    monkeypatch.setattr(feasibility, "detect", lambda: here)


def test_more_gpus_than_there_are_are_refused_with_the_nearest_that_fits(config, monkeypatch):
    machine_with(monkeypatch, 2)
    with pytest.raises(UserError) as error:
        check_fit(config("cuda", rollout={"actors": 2}), print)
    assert str(error.value).splitlines() == [
        "the roles need 4 GPUs, the machine has 2",
        "nearest that fits: cluster.placement=phases",
    ]
    machine_with(monkeypatch, 4)
    assert check_fit(config("cuda", rollout={"actors": 2}), print) is not None


def test_on_one_gpu_roles_take_turns(config, monkeypatch):
    machine_with(monkeypatch, 1)
    turns = config("cuda", cluster={"placement": "phases"})
    assert check_fit(turns, print) is not None
    with pytest.raises(UserError, match=r"that fits: cluster.placement=phases$"):
        check_fit(config("cuda", cluster={"placement": "exclusive"}), print)


def test_a_gpu_without_figures_is_counted_all_the_same(config, monkeypatch):
    machine_with(monkeypatch, 1, "NVIDIA Unheard Of")
    with pytest.raises(UserError, match="the roles need 3 GPUs, the machine has 1"):
        check_fit(config("cuda"), print)
    machine_with(monkeypatch, 3, "NVIDIA Unheard Of")
    said = []
    assert check_fit(config("cuda"), said.append) is None
    assert said == ["note: not planned: no figures of a NVIDIA Unheard Of"]


def test_roles_on_different_devices_are_not_planned(config, monkeypatch):
    machine_with(monkeypatch, 2)
    said = []
    assert check_fit(config("cuda", learner={"device": "cpu"}), said.append) is None
    assert "different devices" in said[0]


def test_a_model_that_cannot_be_planned_is_let_through_with_a_remark(config, tmp_path):
    unknown = config()
    path = tmp_path / "model" / "config.json"
    path.write_text(path.read_text().replace("intermediate_size", "another_size"))
    said = []
    assert check_fit(unknown, said.append) is None
    assert said[0].startswith("note: not planned: ")


def test_another_machines_run_is_not_judged_here(config):
    assert check_fit(config(cluster={"address": "10.0.0.1:6379"}), print) is None


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
