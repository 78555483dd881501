"""Random models that are too small to take time."""

from __future__ import annotations

from pathlib import Path


def make_model(
    folder: Path,
    *,
    vocabulary: int,
    hidden: int = 64,
    layers: int = 2,
    heads: int = 2,
    kv_heads: int | None = None,
    tied: bool = False,
    end_token_id: int | None = None,
    scale: float = 0.02,
    seed: int = 0,
) -> Path:
    """Save a Llama with random weights, without a tokenizer.

    Args:
        folder: where to save it.
        vocabulary: number of token ids.
        hidden: width.
        layers: number of layers.
        heads: number of query heads.
        kv_heads: number of key heads; None: as many.
        tied: whether input and output embeddings are one matrix.
        end_token_id: the stop token, if any.
        scale: standard deviation of the weights; larger gives more peaked distributions.
        seed: of the weights.
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
        num_key_value_heads=kv_heads or heads,
        max_position_embeddings=2048,
        initializer_range=scale,
        tie_word_embeddings=tied,
        bos_token_id=None,
        eos_token_id=end_token_id,
        pad_token_id=None,
    )
    LlamaForCausalLM(config).to(torch.float32).save_pretrained(folder)
    return folder


def make_student(folder: Path, *, scale: float = 0.02) -> Path:
    """A model for the learner alone: grouped key heads, tied embeddings, vocabulary 64."""
    return make_model(folder, vocabulary=64, hidden=32, heads=4, kv_heads=2, tied=True, scale=scale)


def make_chat_model(folder: Path, *, scale: float = 0.02, heads: int = 1) -> Path:
    """A model with the packaged tokenizer, for whole runs in seconds."""
    from common import models

    tokenizer = models.load(models.resolve("packaged")).tokenizer
    make_model(
        folder,
        vocabulary=len(tokenizer),
        # vLLM's attention on CPU needs heads of 32.
        hidden=32 * heads,
        heads=heads,
        tied=True,
        end_token_id=tokenizer.eos_token_id,
        scale=scale,
    )
    tokenizer.save_pretrained(folder)
    return folder
