"""Publishes of adapters, as an engine of the base model takes them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from actors.inference.engine import Engine
from common.weights import BitSum


class AdapterTaker:
    """Loads the adapter that a learner published in place of weights.

    Args:
        engine: of the base model, opened for an adapter.
        rank: of the adapter.
    """

    def __init__(self, engine: Engine, rank: int) -> None:
        self._engine = engine
        # The factors include the scale, so it is 1: alpha over rank.
        self._config = {"r": rank, "lora_alpha": rank, "target_modules": [], "peft_type": "LORA"}
        self._version = 0

    def load_weights(self, model_dir: Path) -> None:
        """Load the factors in ``model_dir``, a folder of this engine's own."""
        (model_dir / "adapter_config.json").write_text(json.dumps(self._config))
        link = model_dir / "adapter_model.safetensors"
        link.unlink(missing_ok=True)
        link.symlink_to(model_dir / "model.safetensors")
        self._version += 1
        self._engine.load_adapter(model_dir, self._version)

    def sum_weights(self, names: Sequence[str]) -> list[Mapping[str, BitSum]]:
        """What each device holds of these factors."""
        return self._engine.call_workers("sum_adapter", names)
