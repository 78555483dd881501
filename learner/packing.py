"""Several examples a row, none seeing another. Pure, but for numpy.

Shape suffixes: T tokens of a row, K target tokens of a row.

An example is (prompt ids, target ids). Its input is the prompt and all of the
target but the last token; the positions from the prompt's last token on each
predict one target token. Examples of one prompt may share it: then the prompt
stands in the row once, and each continuation sees it and itself.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import NamedTuple

import numpy as np

from common.sections import LearnerSettings

Example = tuple[Sequence[int], Sequence[int]]


class Block(NamedTuple):
    """Row positions ``start``…``stop`` see themselves causally and a whole prefix before them."""

    start: int
    stop: int
    prefix_start: int
    prefix_stop: int


@dataclass(frozen=True, slots=True)
class Row:
    """One packed row.

    ``predict_K`` are the positions in the row whose next token is ``targets_K``;
    a shared prompt's last position stands there once for each continuation.
    ``blocks`` cover the row in order and say what attention may see. ``members`` are
    the examples, by number, in the order of their targets.
    """

    inputs_T: np.ndarray
    positions_T: np.ndarray
    predict_K: np.ndarray
    targets_K: np.ndarray
    blocks: tuple[Block, ...]
    members: tuple[int, ...]

    def mask_TT(self) -> np.ndarray:
        """Block-causal mask, True where the query (first axis) may see the key."""
        mask_TT = np.zeros((len(self.inputs_T),) * 2, dtype=bool)
        for start, stop, prefix_start, prefix_stop in self.blocks:
            mask_TT[start:stop, prefix_start:prefix_stop] = True
            mask_TT[start:stop, start:stop] = np.tri(stop - start, dtype=bool)
        return mask_TT


def input_length(example: Example) -> int:
    """Tokens an example takes in a row when it shares nothing."""
    prompt, target = example
    return len(prompt) + len(target) - 1


def single(examples: Sequence[Example]) -> list[Row]:
    """Each example in a row of its own."""
    return [_row(examples, [[index]]) for index in range(len(examples))]


def pack(examples: Sequence[Example], row_tokens: int, *, share_prompts: bool = False) -> list[Row]:
    """Fill rows of up to ``row_tokens``: longest first, each where it leaves least room (BFD).

    What is longer than ``row_tokens`` has a row of its own. Rows have no padding.

    Args:
        share_prompts: examples of equal prompts stand together and pay for it once,
            as many to a row as fit.
    """
    units = (
        _families(examples, row_tokens) if share_prompts else [[i] for i in range(len(examples))]
    )
    bins: list[list[list[int]]] = []
    # (free tokens, bin), sorted: the first entry not below a length is the best fit.
    room: list[tuple[int, int]] = []
    lengths = [(_family_length(examples, unit), unit) for unit in units]
    for length, unit in sorted(lengths, key=itemgetter(0), reverse=True):
        at = bisect_left(room, (length, -1))
        if at < len(room):
            free, index = room.pop(at)
        else:
            free, index = row_tokens, len(bins)
            bins.append([])
        bins[index].append(unit)
        insort(room, (free - length, index))
    return [_row(examples, families) for families in bins]


def share(rows: Sequence[Row], num_ranks: int) -> list[list[Row | None]]:
    """Deal rows to ranks so that token counts are near equal.

    Every rank gets the same number of entries, since collective operations
    inside a backward pass must match; None stands for "a row that counts nothing".
    """
    dealt: list[list[Row | None]] = [[] for _ in range(num_ranks)]
    load = [0] * num_ranks
    for row in sorted(rows, key=lambda row: len(row.inputs_T), reverse=True):
        rank = load.index(min(load))
        dealt[rank].append(row)
        load[rank] += len(row.inputs_T)
    longest = max(map(len, dealt))
    for entries in dealt:
        entries.extend([None] * (longest - len(entries)))
    return dealt


def micro_batches(entries: Sequence[Row | None], size: int) -> list[Row | None]:
    """Join every ``size`` entries into the row of one forward pass.

    Rows are laid end to end, not side by side: attention knows their blocks, so
    a micro-batch needs no padding either.
    """
    return [_join(entries[at : at + size]) for at in range(0, len(entries), size)]


def rows_of_rank(
    examples: Sequence[Example], settings: LearnerSettings, rank: int
) -> list[Row | None]:
    """The forward passes of one rank for a global batch; as many on every rank."""
    if settings.pack:
        rows = pack(examples, settings.row_tokens, share_prompts=settings.share_prompts)
    else:
        rows = single(examples)
    return micro_batches(share(rows, settings.ranks)[rank], settings.micro_batch)


def _families(examples: Sequence[Example], row_tokens: int) -> list[list[int]]:
    """Numbers of examples by prompt, split where a row would overflow."""
    families: dict[tuple[int, ...], list[list[int]]] = {}
    for index, (prompt, _) in enumerate(examples):
        parts = families.setdefault(tuple(prompt), [[]])
        if parts[-1] and _family_length(examples, [*parts[-1], index]) > row_tokens:
            parts.append([])
        parts[-1].append(index)
    return [part for parts in families.values() for part in parts]


def _family_length(examples: Sequence[Example], family: Sequence[int]) -> int:
    return len(examples[family[0]][0]) + sum(len(examples[index][1]) - 1 for index in family)


def _row(examples: Sequence[Example], families: Sequence[Sequence[int]]) -> Row:
    """Lay out families; all examples of a family have the same prompt."""
    inputs: list[int] = []
    positions: list[int] = []
    predict: list[int] = []
    targets: list[int] = []
    blocks: list[Block] = []
    for family in families:
        prompt = examples[family[0]][0]
        base = len(inputs)
        stem = base + len(prompt)
        inputs += prompt
        positions += range(len(prompt))
        if len(family) > 1:
            blocks.append(Block(base, stem, base, base))
        for index in family:
            target = examples[index][1]
            start = len(inputs)
            inputs += target[:-1]
            positions += range(len(prompt), len(prompt) + len(target) - 1)
            predict += [stem - 1, *range(start, len(inputs))]
            targets += target
            if len(family) == 1:
                blocks.append(Block(base, len(inputs), base, base))
            elif start < len(inputs):
                blocks.append(Block(start, len(inputs), base, stem))
    inputs_T, positions_T, predict_K, targets_K = (
        np.asarray(part, dtype=np.int64) for part in (inputs, positions, predict, targets)
    )
    members = tuple(index for family in families for index in family)
    return Row(inputs_T, positions_T, predict_K, targets_K, tuple(blocks), members)


def _join(entries: Sequence[Row | None]) -> Row | None:
    rows = [row for row in entries if row is not None]
    if len(rows) <= 1:
        return rows[0] if rows else None
    starts = np.cumsum([0, *(len(row.inputs_T) for row in rows)])
    return Row(
        np.concatenate([row.inputs_T for row in rows]),
        np.concatenate([row.positions_T for row in rows]),
        np.concatenate([row.predict_K + at for row, at in zip(rows, starts, strict=False)]),
        np.concatenate([row.targets_K for row in rows]),
        tuple(
            Block(*(edge + int(at) for edge in block))
            for row, at in zip(rows, starts, strict=False)
            for block in row.blocks
        ),
        tuple(member for row in rows for member in row.members),
    )
