"""A random model small enough that everything around it is what takes time."""

from __future__ import annotations

from pathlib import Path


def make_model(
    folder: Path,
    *,
    vocabulary: int,
    hidden: int = 64,
    layers: int = 2,
    heads: int = 2,
    scale: float = 0.02,
    seed: int = 0,
) -> Path:
    """Save a Llama of random weights; ``scale`` is their deviation: larger, more peaked.

    It has no tokenizer: the engine needs none.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=2048,
        initializer_range=scale,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )
    LlamaForCausalLM(config).to(torch.float32).save_pretrained(folder)
    return folder
