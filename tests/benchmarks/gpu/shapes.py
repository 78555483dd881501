"""Models of Qwen3's shapes with random weights, made where they are measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from common import hardware
from common.hardware import Device

# The last one only lets the code run.
SHAPES: dict[str, dict[str, Any]] = {
    "8b": {
        **{"hidden_size": 4096, "intermediate_size": 12288, "num_hidden_layers": 36},
        **{"num_attention_heads": 32, "tie_word_embeddings": False},
    },
    "1.7b": {
        **{"hidden_size": 2048, "intermediate_size": 6144, "num_hidden_layers": 28},
        **{"num_attention_heads": 16, "tie_word_embeddings": True},
    },
    "0.6b": {
        **{"hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28},
        **{"num_attention_heads": 16, "tie_word_embeddings": True},
    },
    "tiny": {
        **{"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2},
        **{"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 32},
        **{"tie_word_embeddings": True, "vocab_size": 512},
    },
}
_COMMON = {"num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151_936}


def vocabulary(shape: str) -> int:
    """Number of token ids."""
    return int((_COMMON | SHAPES[shape])["vocab_size"])


def num_parameters(shape: str) -> int:
    """Parameters; a matrix that is embedding and head counts once."""
    import torch

    with torch.device("meta"):
        return sum(parameter.numel() for parameter in _new(shape).parameters())


def config_folder(folder: Path, shape: str) -> Path:
    """A folder with the configuration alone, for an engine that makes up the weights."""
    path = folder / f"{shape}-config"
    _config(shape).save_pretrained(path)
    return path


def model_folder(folder: Path, shape: str, device: Device) -> Path:
    """A folder with random weights in the device's own dtype; made on the device, and once."""
    import torch

    path = folder / shape
    if not path.exists():
        partial = folder / f"{shape}-partial"
        with torch.device(device):
            _new(shape, getattr(torch, hardware.detect().dtype(device))).save_pretrained(partial)
        if device == "cuda":
            torch.cuda.empty_cache()
        partial.rename(path)
    return path


def _config(shape: str) -> Any:
    from transformers import Qwen3Config

    return Qwen3Config(
        **(_COMMON | SHAPES[shape]),
        architectures=["Qwen3ForCausalLM"],
        max_position_embeddings=40_960,
        # Without stop tokens every target has the same length.
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )


def _new(shape: str, dtype: Any = None) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_config(_config(shape), dtype=dtype)
