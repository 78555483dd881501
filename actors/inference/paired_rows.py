"""Two rows of an engine's batch that draw the same tokens: vLLM's logits processor for pairs.

The rows are the two sides of one text. Before a token is drawn, the logits of the side whose turn
it is replace those of the other, so both draw it: by argmax at temperature 0, else with the same
seed. The raw log-probabilities, which vLLM takes before, remain each side's own. Rows that vLLM has
parted, by preempting one, draw each from its own logits.

Only the number of a row's tokens counts, which vLLM knows ahead of the tokens themselves where it
schedules asynchronously. Nothing here waits for the device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from vllm.v1.sample.logits_processor import LogitsProcessor, MoveDirectionality

from actors.inference.requests import NAIVE, PAIR, PICKS

if TYPE_CHECKING:
    from vllm.v1.sample.logits_processor import BatchUpdate


@dataclass(frozen=True, slots=True)
class _Row:
    pair: str
    naive: bool
    picks: Sequence[bool]
    # vLLM's own list, which grows.
    token_ids: list[int]


class PairedRows(LogitsProcessor):
    """Copies logits within pairs; other rows keep theirs."""

    def __init__(self, vllm_config: Any, device: torch.device, is_pin_memory: bool) -> None:
        self._device = device
        self._rows: dict[int, _Row] = {}
        self._pin_memory = is_pin_memory
        # The places of a pair's naive and expert row.
        self._pairs: list[tuple[int, int]] = []

    def is_argmax_invariant(self) -> bool:
        """No: that is what it is for."""
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        """Follow the rows through vLLM's batch."""
        if batch_update is None:
            return
        for index in batch_update.removed:
            self._rows.pop(index, None)
        for index, params, _, token_ids in batch_update.added:
            self._rows.pop(index, None)
            told = params.extra_args or {}
            if PAIR in told:
                self._rows[index] = _Row(told[PAIR], told[NAIVE], told[PICKS], token_ids)
        for source, target, direction in batch_update.moved:
            moved, other = self._rows.pop(source, None), self._rows.pop(target, None)
            if moved is not None:
                self._rows[target] = moved
            if other is not None and direction is MoveDirectionality.SWAP:
                self._rows[source] = other
        sides: dict[str, dict[bool, int]] = {}
        for index, row in self._rows.items():
            sides.setdefault(row.pair, {})[row.naive] = index
        self._pairs = [
            (places[True], places[False]) for places in sides.values() if len(places) == 2
        ]

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        """Give each pair the logits of the side that draws its next token; shape (rows, V)."""
        winners, losers = [], []
        for naive, expert in self._pairs:
            row, position = self._rows[naive], len(self._rows[naive].token_ids)
            together = position == len(self._rows[expert].token_ids)
            if together and position < len(row.picks):
                picked = row.picks[position]
                winners.append(naive if picked else expert)
                losers.append(expert if picked else naive)
        if winners:
            places = torch.tensor([winners, losers], pin_memory=self._pin_memory)
            source, target = places.to(self._device, non_blocking=True)
            logits[target] = logits[source]
        return logits
