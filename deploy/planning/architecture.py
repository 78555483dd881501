"""A model's shape, from its Hugging Face configuration alone: parameters, FLOPs, cache bytes.

Independent of devices and workloads.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, Field, ValidationError

from common import files
from common.config.learner import LearnerSettings, LoraSettings
from common.errors import UserError, invalid_value
from deploy.planning.parameters import Counts, count

# Assumed for a model that is not in models.yaml.
_TURN_TOKENS, _ACCEPTANCE, _UNVERIFIABLE = 16, 0.9, 0.0


_Size = Annotated[int, Field(ge=1, le=10**9)]
_Share = Annotated[float, Field(ge=0, le=1)]


class _Sizes(BaseModel):
    """What is used of a ``config.json``."""

    hidden_size: _Size
    intermediate_size: _Size
    num_hidden_layers: _Size
    num_attention_heads: _Size
    num_key_value_heads: _Size | None = None
    head_dim: _Size | None = None
    vocab_size: _Size
    tie_word_embeddings: bool | None = None
    body: Annotated[int, Field(ge=1)] | None = None
    matrices: Annotated[int, Field(ge=1)] | None = None
    turn_tokens: _Size = _TURN_TOKENS
    acceptance: Annotated[_Share, Field(gt=0)] = _ACCEPTANCE
    unverifiable: _Share = _UNVERIFIABLE


@dataclass(frozen=True, slots=True)
class Architecture:
    """Sizes of a decoder.

    ``body``: parameters of all layers and the final norm. ``matrices``: those of them that
    multiply every token.
    ``turn_tokens``: tokens that the chat template adds to one user turn.
    ``unverifiable``: share of facts of which no attempt ever verifies.
    ``acceptance``: share of attempts that verify, in (0, 1], on the other facts.
    """

    name: str
    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    tied: bool
    body: int
    matrices: int
    turn_tokens: int = _TURN_TOKENS
    acceptance: float = _ACCEPTANCE
    unverifiable: float = _UNVERIFIABLE

    @property
    def q_dim(self) -> int:
        """Width of all query heads."""
        return self.heads * self.head_dim

    @property
    def kv_dim(self) -> int:
        """Width of all key heads; the value heads are as wide."""
        return self.kv_heads * self.head_dim

    @property
    def head(self) -> int:
        """Parameters of the output head."""
        return self.vocabulary * self.hidden

    @property
    def parameters(self) -> int:
        """All parameters; a tied head is counted once."""
        return self.body + self.head * (1 if self.tied else 2)

    def adapter(self, lora: LoraSettings) -> int:
        """Parameters of LoRA's factors: rank · (in + out) for each adapted matrix."""
        ends = {
            "q_proj": (self.hidden, self.q_dim),
            "k_proj": (self.hidden, self.kv_dim),
            "v_proj": (self.hidden, self.kv_dim),
            "o_proj": (self.q_dim, self.hidden),
            "gate_proj": (self.hidden, self.intermediate),
            "up_proj": (self.hidden, self.intermediate),
            "down_proj": (self.intermediate, self.hidden),
        }
        targets = ends if lora.modules == "all-linear" else lora.modules
        return self.layers * lora.rank * sum(sum(ends.get(name, (0, 0))) for name in targets)

    def trained(self, settings: LearnerSettings) -> int:
        """Parameters that the learner updates."""
        return self.parameters if settings.lora is None else self.adapter(settings.lora)

    def forward_flops(self, tokens: float, head_tokens: float, context: float) -> float:
        """FLOPs of a forward pass, 2 per multiply-add.

        ``tokens`` go through the layers and attend to ``context`` positions each
        (QKᵀ and PV, 2 · 2 · q_dim per position); ``head_tokens`` go through the head.
        """
        matrices = self.matrices * tokens + self.head * head_tokens
        return 2 * matrices + 4 * self.layers * self.q_dim * context * tokens

    def kv_bytes(self, bytes_each: int) -> int:
        """Bytes of keys and values of one token in all layers."""
        return 2 * self.layers * self.kv_dim * bytes_each


def from_config(name: str, config: Mapping[str, Any], folder: Path | None = None) -> Architecture:
    """Read a ``config.json`` mapping; with the ``folder`` of its weights, if they are there.

    Raises:
        UserError: a size is missing, or ``transformers`` does not know the family.
    """
    family = config.get("model_type") if isinstance(config, Mapping) else None
    if not isinstance(family, str):
        raise UserError(f"model {name}: config.json has no model_type")
    try:
        sizes = _Sizes.model_validate(config)
    except ValidationError as error:
        raise UserError(f"model {name}: config.json: {invalid_value(error.errors()[0])}") from error
    heads = sizes.num_attention_heads
    if sizes.body is not None and sizes.matrices is not None:
        counts = Counts(sizes.body, sizes.matrices, bool(sizes.tie_word_embeddings))
    else:
        counts = count(name, config, folder)
    return Architecture(
        name=name,
        hidden=sizes.hidden_size,
        intermediate=sizes.intermediate_size,
        layers=sizes.num_hidden_layers,
        heads=heads,
        kv_heads=sizes.num_key_value_heads or heads,
        head_dim=sizes.head_dim or max(1, sizes.hidden_size // heads),
        vocabulary=sizes.vocab_size,
        tied=counts.tied,
        body=counts.body,
        matrices=counts.matrices,
        turn_tokens=sizes.turn_tokens,
        acceptance=sizes.acceptance,
        unverifiable=sizes.unverifiable,
    )


def resolve(spec: str) -> Architecture:
    """The architecture of a model spec: bundled, a local folder's, or the Hub's.

    Raises:
        UserError: no such folder, or the Hub gave no configuration.
    """
    bundled = _bundled()
    if spec in bundled:
        return from_config(spec, bundled[spec])
    folder = Path(os.path.expanduser(spec))
    path = folder / "config.json"
    if not os.path.isfile(path):
        if os.path.isdir(folder) or spec.startswith((".", "/", "~")):
            raise UserError(f"model {spec}: no config.json there")
        path = _from_hub(spec)
    return from_config(spec, files.read_json(path), path.parent)


@cache
def _bundled() -> dict[str, dict[str, Any]]:
    path = Path(__file__).parent / "models.yaml"
    table: dict[str, dict[str, Any]] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return table


def _from_hub(spec: str) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HFValidationError

    try:
        return Path(hf_hub_download(spec, "config.json"))
    except (OSError, HFValidationError) as error:
        raise UserError(
            f"model {spec!r}: no such folder, and the Hub gave no config.json ({error}); "
            f"planned without a download: {', '.join(_bundled())}"
        ) from error
