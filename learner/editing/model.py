"""The passes of an edit: through the layers up to the last edited one, and through the rest.

The model is plain ``transformers`` in float32. A batch is padded on the right; attention is
causal, so padding changes no earlier position.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from torch import nn
from transformers import AutoModelForCausalLM

_SAMPLES, _SAMPLE_TOKENS = 64, 256


class EditedModel:
    """A causal LM whose MLP down-projections in ``layers`` are edited.

    Args:
        model_dir: Hugging Face folder.
        layers: the edited layers.
        device: where it computes.
    """

    def __init__(self, model_dir: Path, layers: range, device: torch.device) -> None:
        loaded = AutoModelForCausalLM.from_pretrained(
            model_dir, dtype=torch.float32, attn_implementation="sdpa", trust_remote_code=False
        )
        self.model = loaded.to(device).eval().requires_grad_(False)
        self.layers, self.device = layers, device
        self._base = self.model.base_model
        self._all: nn.ModuleList = self._base.layers
        self._projections = [self._all[layer].mlp.down_proj for layer in layers]

    @property
    def weights(self) -> list[torch.Tensor]:
        """The edited matrices [D, F], by layer; changes in place are edits."""
        return [projection.weight for projection in self._projections]

    def lower(self, ids_NT: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor]:
        """The inputs of each edited matrix [N, T, F], and the output of the last layer [N, T, D].

        Layers after the last edited one do not run.
        """
        keys: list[torch.Tensor] = []
        outputs: list[torch.Tensor] = []
        hooks = [
            projection.register_forward_pre_hook(lambda _, inputs: keys.append(inputs[0]))
            for projection in self._projections
        ]
        last = self._all[self.layers[-1]]
        hooks.append(last.register_forward_hook(lambda *call: outputs.append(call[-1])))
        try:
            with torch.no_grad(), self._only(self._all[: self.layers.stop]):
                self._base(input_ids=ids_NT, use_cache=False)
        finally:
            for hook in hooks:
                hook.remove()
        return keys, outputs[0]

    def upper(self, hidden_NTD: torch.Tensor) -> torch.Tensor:
        """The last hidden states [N, T, D] that follow from the output of the last edited layer."""
        with self._only(self._all[self.layers.stop :]):
            states_NTD: torch.Tensor = self._base(
                inputs_embeds=hidden_NTD, use_cache=False
            ).last_hidden_state
        return states_NTD

    def log_probs(self, states: torch.Tensor) -> torch.Tensor:
        """Log-probabilities (nats) of the next token at last hidden states [·, D]."""
        logits: torch.Tensor = self.model.get_output_embeddings()(states)
        return logits.log_softmax(-1)

    def padded(self, sequences: Sequence[Sequence[int]]) -> torch.Tensor:
        """Token ids [N, T] of sequences of any length."""
        rows = [torch.as_tensor(list(ids), device=self.device) for ids in sequences]
        return nn.utils.rnn.pad_sequence(rows, batch_first=True)

    def samples(
        self, tokens: int, seed: int, progress: Callable[[], None]
    ) -> Iterator[torch.Tensor]:
        """At least ``tokens`` tokens of the model's own text at T = 1, in [N, T] batches.

        ``progress`` is called after each token of a batch.

        Each sequence starts with a random token, as in data-free calibration (Liu et al. 2023,
        arXiv 2305.17888).
        """
        generator = torch.Generator(self.device).manual_seed(seed)
        while tokens > 0:
            count = min(_SAMPLES, -(-tokens // _SAMPLE_TOKENS))
            tokens -= count * _SAMPLE_TOKENS
            yield self._sampled(count, generator, progress)

    def _sampled(
        self, count: int, generator: torch.Generator, progress: Callable[[], None]
    ) -> torch.Tensor:
        """``count`` sequences [N, T]."""
        vocabulary = self.model.config.vocab_size
        first = torch.randint(vocabulary, (count, 1), generator=generator, device=self.device)
        drawn, cache = [first], None
        for _ in range(_SAMPLE_TOKENS - 1):
            with torch.no_grad():
                out = self.model(drawn[-1], past_key_values=cache, use_cache=True)
            cache = out.past_key_values
            probabilities_NV = out.logits[:, -1].softmax(-1)
            drawn.append(torch.multinomial(probabilities_NV, 1, generator=generator))
            progress()
        return torch.cat(drawn, dim=1)

    def passages(self, ids: Sequence[int]) -> Iterator[torch.Tensor]:
        """A text in [N, T] batches; the end that fills no sequence is left out."""
        size = min(_SAMPLE_TOKENS, len(ids))
        whole = torch.as_tensor(list(ids), device=self.device)
        whole = whole[: len(ids) // size * size].reshape(-1, size)
        yield from whole.split(_SAMPLES)

    @contextlib.contextmanager
    def _only(self, layers: nn.ModuleList) -> Iterator[None]:
        """The base model runs these layers alone."""
        self._base.layers = layers
        try:
            yield
        finally:
            self._base.layers = self._all
