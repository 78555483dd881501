"""Mixed decoding in plain transformers: two KV caches, a row an attempt, no engine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM


class Oracle:
    """A float32 model and the tokens that mixed decoding must draw from it."""

    def __init__(self, folder: Path) -> None:
        self.network = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    @torch.inference_mode()
    def decode(
        self,
        prompts: Sequence[tuple[Sequence[int], Sequence[int]]],
        picks: Sequence[Sequence[bool]],
        stops: Sequence[int],
    ) -> list[list[int]]:
        """Greedy tokens of each (naive, expert) prompt pair under its picks; T = 0.

        Both sides of every row see every token. Prompts are padded on the left.
        """
        sides = [_Side(self.network, [pair[side] for pair in prompts]) for side in (1, 0)]
        drawn: list[list[int]] = [[] for _ in prompts]
        for step in range(max(map(len, picks))):
            logits_SBV = torch.stack([side.logits_BV for side in sides])
            naive_B = torch.tensor([int(row[step]) for row in picks])
            token_B = logits_SBV[naive_B, torch.arange(len(prompts))].argmax(-1)
            for row, token in zip(drawn, token_B.tolist(), strict=True):
                if not row or row[-1] not in stops:
                    row.append(token)
            if all(row[-1] in stops for row in drawn):
                break
            for side in sides:
                side.append(token_B)
        return drawn

    @torch.inference_mode()
    def logprobs(self, prompt: Sequence[int], target: Sequence[int]) -> torch.Tensor:
        """log p of every token where each target token stands, nats, float64; shape (T, V)."""
        ids_1T = torch.tensor([[*prompt, *target]])
        logits_TV = self.network(ids_1T, logits_to_keep=len(target) + 1).logits[0, :-1]
        return logits_TV.double().log_softmax(-1)

    @torch.inference_mode()
    def probabilities(self, context: Sequence[int], top_k: int, top_p: float) -> torch.Tensor:
        """p(next token) at T = 1 after top-k, then top-p; shape (V,)."""
        p_V = self.network(torch.tensor([list(context)])).logits[0, -1].double().softmax(-1)
        sorted_V, order_V = p_V.sort(descending=True)
        if top_k:
            sorted_V[top_k:] = 0
            sorted_V = sorted_V / sorted_V.sum()
        # A token stays if those above it do not reach top_p.
        sorted_V[sorted_V.cumsum(-1) - sorted_V >= top_p] = 0
        return torch.zeros_like(p_V).scatter(-1, order_V, sorted_V / sorted_V.sum())


class _Side:
    def __init__(self, network: torch.nn.Module, prompts: Sequence[Sequence[int]]) -> None:
        self._network, self._cache = network, None
        longest = max(map(len, prompts))
        ids_BT = torch.zeros(len(prompts), longest, dtype=torch.long)
        self._mask_BT = torch.zeros_like(ids_BT)
        for row, prompt in enumerate(prompts):
            ids_BT[row, longest - len(prompt) :] = torch.tensor(list(prompt))
            self._mask_BT[row, longest - len(prompt) :] = 1
        position_BT = (self._mask_BT.cumsum(-1) - 1).clamp(min=0)
        self._length_B = position_BT[:, -1:]
        self._forward(ids_BT, position_BT)

    def append(self, token_B: torch.Tensor) -> None:
        self._mask_BT = torch.nn.functional.pad(self._mask_BT, (0, 1), value=1)
        self._length_B = self._length_B + 1
        self._forward(token_B[:, None], self._length_B)

    def _forward(self, ids_BT: torch.Tensor, position_BT: torch.Tensor) -> None:
        output = self._network(
            ids_BT,
            attention_mask=self._mask_BT,
            position_ids=position_BT,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        )
        self._cache, self.logits_BV = output.past_key_values, output.logits[:, -1]
