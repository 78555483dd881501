"""Parameters, FLOPs and cache bytes against published and hand-worked numbers."""

import json

import pytest

from common.config.learner import LearnerSettings, LoraSettings
from common.errors import UserError
from deploy.planning import architecture, parameters
from deploy.planning.architecture import from_config, resolve
from tests.tiny import make_model

TINY = {
    "model_type": "llama",
    "hidden_size": 4,
    "intermediate_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 2,
    "vocab_size": 10,
    "tie_word_embeddings": False,
}


@pytest.mark.parametrize(
    ("spec", "parameters"),
    [
        ("packaged", 134_515_008),
        ("Qwen/Qwen3-1.7B", 1_720_574_976),
        ("Qwen/Qwen3-4B-Instruct-2507", 4_022_468_096),
        ("Qwen/Qwen3-8B", 8_190_735_360),
    ],
)
def test_bundled_models_have_their_published_size(spec, parameters):
    assert resolve(spec).parameters == parameters


def test_a_tiny_model_is_counted_by_hand():
    model = from_config("tiny", TINY)
    # q 4x4, k and v 4x2 each, o 4x4, three MLP matrices 4x8: 16 + 16 + 16 + 96.
    assert model.matrices == 2 * 144
    # Two layers with two norms of 4, the final norm, embedding and head of 10x4.
    assert model.parameters == 2 * (144 + 8) + 4 + 2 * 40


def test_flops_are_two_a_multiply_add():
    model = from_config("tiny", TINY)
    # 3 tokens through 2 layers of 144, one through the head of 40.
    assert model.forward_flops(3, 1, 0) == 2 * (3 * 2 * 144 + 40)
    # Each attends to 5 positions: scores and mix, q_dim 4, 2 layers, 2 FLOPs each.
    assert model.forward_flops(3, 1, 5) - model.forward_flops(3, 1, 0) == 2 * 2 * 2 * 4 * 5 * 3


def test_keys_and_values_of_qwen3_8b_take_144_kib_a_token():
    # 2 x 36 layers x 8 heads x 128 numbers x 2 bytes.
    assert resolve("Qwen/Qwen3-8B").kv_bytes(2) == 144 * 1024


def test_biases_and_head_norms_are_counted():
    plain = from_config("tiny", TINY).parameters
    # q 4, k 2, v 2 a layer.
    assert from_config("tiny", {**TINY, "model_type": "qwen2"}).parameters == plain + 2 * 8
    # One norm of head_dim 2 for q, one for k, a layer.
    assert from_config("tiny", {**TINY, "model_type": "qwen3"}).parameters == plain + 2 * 4


def test_a_local_folder_is_read(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(TINY))
    assert resolve(str(tmp_path)).parameters == from_config("tiny", TINY).parameters


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "unheard_of"}, "model tiny: cannot be planned: Unrecognized model"),
        ({"model_type": None}, "config.json has no model_type"),
        ({"hidden_size": None}, "'hidden_size' is missing"),
    ],
)
def test_an_unknown_architecture_is_refused(change, message):
    config = {key: value for key, value in {**TINY, **change}.items() if value is not None}
    with pytest.raises(UserError, match=message):
        from_config("tiny", config)


def test_the_error_for_a_folder_without_a_configuration_names_it(tmp_path):
    with pytest.raises(UserError, match=r"no config\.json"):
        resolve(str(tmp_path))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "config.json has no model_type"),
        ('{"model_type": ["llama"]}', "config.json has no model_type"),
        ("[" * 100_000, "config.json: not JSON: recursion limit"),
        (json.dumps({**TINY, "hidden_size": "wide"}), "config.json: hidden_size: input should be"),
        (json.dumps({**TINY, "num_attention_heads": 0}), "num_attention_heads: .* greater than"),
    ],
)
def test_a_damaged_configuration_is_named(tmp_path, content, message):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(UserError, match=message):
        resolve(str(tmp_path))


@pytest.mark.parametrize("spec", ["packaged", "Qwen/Qwen3-1.7B"])
def test_bundled_counts_are_those_of_the_model_on_the_meta_device(spec):
    bundled = resolve(spec)
    numbers = architecture._bundled()[spec]
    config = {k: v for k, v in numbers.items() if k not in ("body", "matrices")}
    counted = from_config(spec, config)
    assert (counted.body, counted.matrices) == (bundled.body, bundled.matrices)
    assert counted.tied == bundled.tied


def test_of_many_experts_only_the_chosen_ones_multiply_a_token():
    moe = {
        **{"model_type": "mixtral", "num_local_experts": 4, "num_experts_per_tok": 1},
        **{key: value for key, value in TINY.items() if key != "model_type"},
    }
    dense, sparse = from_config("tiny", TINY), from_config("tiny", moe)
    # A layer has three more experts of 96, and a router of 4 x 4.
    assert sparse.body - dense.body == 2 * (3 * 96 + 16)
    assert sparse.matrices - dense.matrices == 2 * 16


def test_an_adapter_is_its_two_factors():
    model = from_config("tiny", TINY)
    # Two layers, rank 3: q 4 -> 4 and down 8 -> 4.
    lora = LoraSettings(rank=3, targets=("q_proj", "down_proj", "not_there"))
    assert model.adapter(lora) == 2 * 3 * ((4 + 4) + (8 + 4))
    # q 8, k and v 6 each, o 8, three of 12.
    assert model.adapter(LoraSettings(rank=1, targets="all-linear")) == 2 * (8 + 6 + 6 + 8 + 36)
    assert model.trained(LearnerSettings(lora=lora)) == model.adapter(lora)
    assert model.trained(LearnerSettings()) == model.parameters


@pytest.mark.parametrize("tied", [False, True])
def test_a_folder_with_weights_is_counted_by_their_names_and_shapes(tmp_path, tied):
    make_model(tmp_path, vocabulary=64, tied=tied)
    config = json.loads((tmp_path / "config.json").read_text())
    assert parameters.count("tiny", config, tmp_path) == parameters.count("tiny", config)
    assert parameters.count("tiny", config, tmp_path).tied == tied
