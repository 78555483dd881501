"""A packed row of each supported family has the loss of its examples alone in ``transformers``."""

from __future__ import annotations

import json

import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from transformers import AutoConfig, AutoModelForCausalLM

from common.config.learner import LearnerSettings
from common.errors import UserError
from common.methods import NLL
from learner import families
from learner.layout import Layout
from learner.model import StudentModel
from learner.packing import Example, pack

VOCABULARY = 64
# Longer than the window, with prompts that are shared.
PROMPT = [5, 6, 7, 8, 9, 10, 11, 12, 13]
EXAMPLES: list[Example] = [
    (PROMPT, [3, 4, 5]),
    (PROMPT, [8, 2]),
    ([30, 31], [4, 4, 4, 9]),
    (list(range(20, 34)), [1, 2, 3]),
]
SMALL = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 16}
WINDOWS = {"layer_types": ["sliding_attention", "full_attention", "sliding_attention"]}
# What makes a family itself: windows, norms, biases, experts, sinks.
FAMILIES = {
    "gemma": {},
    "gemma2": {
        **{"sliding_window": 6, "attn_logit_softcapping": 2.0, "final_logit_softcapping": 1.0},
        **WINDOWS,
    },
    "gemma3_text": {"sliding_window": 6, "final_logit_softcapping": 1.0, **WINDOWS},
    "gpt_oss": {**EXPERTS, "num_local_experts": 4, "sliding_window": 6, **WINDOWS},
    "llama": {},
    "mistral": {"sliding_window": 6},
    "olmo": {},
    "olmo2": {},
    "olmo3": {"sliding_window": 6, **WINDOWS},
    "phi": {"num_key_value_heads": 4},
    "phi3": {"sliding_window": 6},
    "qwen2": {"use_sliding_window": True, "sliding_window": 6, **WINDOWS},
    "qwen3": {},
    "smollm3": {},
}


def make(folder, family, **settings):
    torch.manual_seed(1)
    config = AutoConfig.for_model(family, **{**SMALL, **FAMILIES.get(family, {}), **settings})
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").float()
    for parameter in model.parameters():
        # Sinks and biases start at zero, where they would not be missed.
        torch.nn.init.normal_(parameter, std=0.3 if parameter.ndim < 2 else 0.1)
    model.save_pretrained(folder)
    return model.eval()


def test_every_supported_family_is_compared():
    assert FAMILIES.keys() == families.SUPPORTED


@pytest.mark.parametrize("share", [False, True], ids=["packed", "prompts shared"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_packed_row_has_the_loss_and_gradient_of_its_examples_alone(tmp_path, family, share):
    plain = make(tmp_path, family)
    losses = []
    for prompt, target in EXAMPLES:
        logits = plain(torch.tensor([[*prompt, *target]])).logits[0, len(prompt) - 1 : -1]
        losses.append(F.cross_entropy(logits.float(), torch.tensor(target), reduction="sum"))
    expected = torch.stack(losses).sum()
    expected.backward()
    settings = LearnerSettings(device="cpu", dtype="float32")
    student = StudentModel(tmp_path, settings, NLL())
    (row,) = pack(EXAMPLES, 128, share_prompts=share)
    found = student(
        torch.as_tensor(row.inputs_T)[None],
        torch.as_tensor(row.positions_T)[None],
        Layout(row.blocks, len(row.inputs_T), "cpu"),
        torch.as_tensor(row.predict_K),
        torch.as_tensor(row.targets_K),
    )
    found.backward()
    assert float(found.detach()) == pytest.approx(float(expected), rel=1e-5)
    gradients = {name: p.grad for name, p in plain.named_parameters()}
    ours = dict(student.model.named_parameters())
    compared = 0
    for name, gradient in gradients.items():
        if gradient is not None and name in ours:
            torch.testing.assert_close(ours[name].grad, gradient, rtol=1e-3, atol=1e-4)
            compared += 1
    assert compared >= 10


@pytest.mark.parametrize("family", FAMILIES)
def test_its_weights_are_named_as_in_the_files_that_other_tools_read(tmp_path, family):
    model = make(tmp_path, family)
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        stored = set(file.keys())
    # A tied head is stored once.
    assert {name for name, _ in model.named_parameters()} - stored <= {"lm_head.weight"}
    assert stored <= {name for name, _ in model.named_parameters()}


@pytest.mark.parametrize("family", ["qwen3_next", "qwen3_moe", "mamba", None])
def test_another_family_is_refused_with_those_that_are_not(family):
    with pytest.raises(
        UserError, match=r"model_type .* is not supported: .*gpt_oss, llama, mistral"
    ):
        families.check({"model_type": family})


def test_logits_that_are_scaled_are_refused():
    with pytest.raises(UserError, match=r"llama: logits_scaling is 8.0, a factor of the logits"):
        families.check({"model_type": "llama", "logits_scaling": 8.0})
    families.check({"model_type": "llama", "logit_scale": None, "logits_scaling": 1.0})


def test_a_model_of_another_family_is_not_loaded(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "mamba"}))
    with pytest.raises(UserError, match="model_type 'mamba' is not supported"):
        StudentModel(tmp_path, LearnerSettings(device="cpu"), NLL())
