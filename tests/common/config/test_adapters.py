"""Adapters: which layers have them, and which engines apply them."""

import pytest

from common.config.learner import LoraSettings
from common.config.run_config import parse

OPSD_LORA = {
    "method": {"name": "opsd"},
    "replay": {"max_lag": 0},
    "learner": {"lora": {"rank": 8}},
}


@pytest.mark.parametrize(
    ("changes", "rank"),
    [
        ({}, 8),
        ({"learner": {}}, None),
        ({"publish": {"adapters": False}}, None),
        # vLLM's own transfer knows weights only, and its LoRA ranks up to 512.
        ({"publish": {"transport": "nccl"}}, None),
        ({"learner": {"lora": {"rank": 513}}}, None),
        # Engines of the base have no use for the student.
        ({"method": {"name": "sft"}, "replay": {}}, None),
    ],
)
def test_engines_apply_adapters_where_the_student_draws_and_vllm_can(changes, rank):
    raw = {"name": "run", "data": {"kgfact": {}}, **OPSD_LORA, **changes}
    adapter = parse(raw, "test").student_adapter
    assert (adapter and adapter.rank) == rank


def test_adapted_layers_have_names_for_each_family():
    assert LoraSettings().modules == "all-linear"
    # Llama's, the fused ones of Phi-3, and those of Phi.
    attention, mlp = LoraSettings(targets="attention").modules, LoraSettings(targets="mlp").modules
    assert {"q_proj", "o_proj", "qkv_proj", "dense"} < set(attention)
    assert {"up_proj", "down_proj", "gate_up_proj", "fc1", "fc2"} < set(mlp)
    assert LoraSettings(targets=("q_proj",)).modules == ("q_proj",)
