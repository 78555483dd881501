"""Parameters, FLOPs and cache bytes against published and hand-worked numbers."""

import json

import pytest

from common.errors import UserError
from deploy.planning.architecture import from_config, resolve

TINY = {
    "model_type": "llama",
    "hidden_size": 4,
    "intermediate_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
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
    assert model.layer_matrices == 144
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
        ({"model_type": "mixtral"}, "model_type 'mixtral' cannot be planned"),
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
        ("[]", "model_type None cannot be planned"),
        ('{"model_type": ["llama"]}', "model_type .* cannot be planned"),
        ("[" * 100_000, "config.json: not JSON: recursion limit"),
        (json.dumps({**TINY, "hidden_size": "wide"}), "config.json: hidden_size: input should be"),
        (json.dumps({**TINY, "num_attention_heads": 0}), "num_attention_heads: .* greater than"),
    ],
)
def test_a_damaged_configuration_is_named(tmp_path, content, message):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(UserError, match=message):
        resolve(str(tmp_path))
