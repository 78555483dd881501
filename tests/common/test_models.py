"""Reading a model's folder: its tokenizer and its stop tokens."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from common import models
from common.errors import UserError
from common.models import _stop_tokens, resolve


def test_code_in_a_models_folder_is_not_run_whatever_the_terminal_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = tmp_path / "ran"
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "own.py").write_text(f"open({str(ran)!r}, 'w')\nclass Own: pass\n")
    config = {"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": ["own.Own", None]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "config.json").write_text(json.dumps({"model_type": "own"}))
    monkeypatch.setattr("builtins.input", lambda text: "y")
    with pytest.raises(UserError, match="its tokenizer cannot be read"):
        models.load(folder)
    assert not ran.exists()


@pytest.mark.parametrize(
    ("content", "stops"),
    [("{}", (2,)), ('{"eos_token_id": 5}', (2, 5)), ('{"eos_token_id": [5, 2, 7]}', (2, 5, 7))],
)
def test_stop_tokens_are_the_tokenizers_and_the_configured_ones(tmp_path, content, stops):
    (tmp_path / "generation_config.json").write_text(content)
    assert _stop_tokens(tmp_path, 2) == stops


@pytest.mark.parametrize(
    "content", ["[]", '{"eos_token_id": "</s>"}', '{"eos_token_id": [-1]}', "{"]
)
def test_a_damaged_generation_config_is_named(tmp_path, content):
    (tmp_path / "generation_config.json").write_text(content)
    with pytest.raises(UserError, match=r"generation_config\.json: "):
        _stop_tokens(tmp_path, 2)


def test_the_home_of_nobody_is_no_folder_of_a_model():
    with pytest.raises(UserError, match="no such folder"):
        resolve("~nobody_of_that_name/model")


@pytest.mark.parametrize(
    ("config", "is_llama"),
    [
        ({"model_type": "llama"}, True),
        ({"model_type": "mllama", "architectures": ["MllamaForConditionalGeneration"]}, True),
        ({"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"]}, False),
        ({}, False),
    ],
)
def test_a_llama_is_known_by_its_type_or_architecture(tmp_path, config, is_llama):
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert models.is_llama(tmp_path) is is_llama


@pytest.mark.parametrize("content", ["[]", '{"architectures": "Llama"}', "{"])
def test_a_damaged_config_is_named(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(UserError, match=r"config\.json: "):
        models.is_llama(tmp_path)
