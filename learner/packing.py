"""Several examples a row, none seeing another. Pure, but for numpy.

Shape suffixes: T tokens of a row, K target tokens of a row.

An example is (prompt ids, target ids). Its input is the prompt and all of the
target but the last token; the positions from the prompt's last token on each
predict one target token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Example = tuple[Sequence[int], Sequence[int]]


@dataclass(frozen=True, slots=True)
class Row:
    """One packed row.

    ``predict_K`` are the positions in the row whose next token is ``targets_K``.
    ``segments_T`` numbers the examples of the row; attention stays within one.
    """

    inputs_T: np.ndarray
    positions_T: np.ndarray
    segments_T: np.ndarray
    predict_K: np.ndarray
    targets_K: np.ndarray

    def mask_TT(self) -> np.ndarray:
        """Block-causal mask, True where the query (first axis) may see the key."""
        same = self.segments_T[:, None] == self.segments_T[None, :]
        return np.tril(same)


def input_length(example: Example) -> int:
    """Tokens an example takes in a row."""
    prompt, target = example
    return len(prompt) + len(target) - 1


def pack(examples: Sequence[Example], row_tokens: int) -> list[Row]:
    """Fill rows of up to ``row_tokens``, longest first, each into the first row with room.

    An example longer than ``row_tokens`` has a row of its own. Rows have no padding.
    """
    bins: list[list[Example]] = []
    room: list[int] = []
    for example in sorted(examples, key=input_length, reverse=True):
        length = input_length(example)
        index = next((i for i, free in enumerate(room) if free >= length), None)
        if index is None:
            bins.append([])
            room.append(row_tokens)
            index = len(bins) - 1
        bins[index].append(example)
        room[index] -= length
    return [_row(members) for members in bins]


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


def _row(examples: Sequence[Example]) -> Row:
    inputs: list[int] = []
    positions: list[int] = []
    segments: list[int] = []
    predict: list[int] = []
    targets: list[int] = []
    for index, (prompt, target) in enumerate(examples):
        first = len(inputs) + len(prompt) - 1
        predict.extend(range(first, first + len(target)))
        targets.extend(target)
        inputs += [*prompt, *target[:-1]]
        length = input_length((prompt, target))
        positions.extend(range(length))
        segments += [index] * length
    return Row(*(np.asarray(part) for part in (inputs, positions, segments, predict, targets)))
