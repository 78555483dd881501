"""Packs several examples into a row, without attention between them. Uses numpy only.

Shape suffixes: T tokens of a row, K target tokens of a row.

An example is (prompt ids, target ids). Its input is the prompt and the target without its last
token; each position from the prompt's last token on predicts one target token.

With shared-prefix packing, a row holds a shared prefix of prompts once: a system prompt,
few-shot examples, or a whole prompt with several continuations. Attention is causal, so a
token's state depends only on earlier tokens, and the sum of gradients is the same.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from common.config.learner import LearnerSettings
from learner.shared_prefix import Path, Piece, shared_paths

Example = tuple[Sequence[int], Sequence[int]]
Span = tuple[int, int]


class Block(NamedTuple):
    """Row positions ``start``…``stop`` attend causally to themselves, and to all of ``context``.

    ``context``: spans of the row that precede the block in its text.
    """

    start: int
    stop: int
    context: tuple[Span, ...] = ()

    @property
    def context_tokens(self) -> int:
        """Tokens of the context."""
        return sum(stop - start for start, stop in self.context)

    def moved(self, by: int) -> Block:
        """The same block, ``by`` positions further in the row."""
        context = tuple((start + by, stop + by) for start, stop in self.context)
        return Block(self.start + by, self.stop + by, context)


@dataclass(frozen=True, slots=True)
class Row:
    """One packed row.

    ``predict_K`` are the positions in the row whose next token is ``targets_K``;
    the last position of a shared prompt occurs once per continuation. ``blocks`` cover
    the row in order and define the attention mask. ``members`` are the indices of the
    examples, in the order of their targets.
    """

    inputs_T: np.ndarray
    positions_T: np.ndarray
    predict_K: np.ndarray
    targets_K: np.ndarray
    blocks: tuple[Block, ...]
    members: tuple[int, ...]

    def mask_TT(self) -> np.ndarray:
        """Block-causal [T, T] mask, True where the query (first axis) attends to the key."""
        mask_TT = np.zeros((len(self.inputs_T),) * 2, dtype=bool)
        for start, stop, context in self.blocks:
            for first, last in context:
                mask_TT[start:stop, first:last] = True
            mask_TT[start:stop, start:stop] = np.tri(stop - start, dtype=bool)
        return mask_TT


def input_length(example: Example) -> int:
    """Tokens of an example in a row without a shared prefix."""
    prompt, target = example
    return len(prompt) + len(target) - 1


def single(examples: Sequence[Example]) -> list[Row]:
    """Each example in a row of its own."""
    return [_row(examples, [index], [()]) for index in range(len(examples))]


@dataclass(slots=True)
class _Open:
    """A row that is being filled."""

    free: int
    members: list[int] = field(default_factory=list)
    pieces: set[Piece] = field(default_factory=set)


def pack(examples: Sequence[Example], row_tokens: int, *, share_prompts: bool = False) -> list[Row]:
    """Fill rows of up to ``row_tokens``: longest first, each where it adds least (BFD).

    An example longer than ``row_tokens`` has its own row. Rows have no padding.

    Args:
        examples: (prompt ids, target ids) of each example.
        row_tokens: largest number of tokens per row.
        share_prompts: pack a shared prefix of prompts once per row; examples that share
            most of their prompt go together, as many per row as fit.
    """
    paths: list[Path] = [()] * len(examples)
    if share_prompts:
        paths = shared_paths([prompt for prompt, _ in examples])
    lengths = [input_length(example) for example in examples]
    rows: list[_Open] = []
    for tokens, group in _prefix_groups(examples, paths, lengths):
        for members in [group] if tokens <= row_tokens else [[index] for index in group]:
            # Fewest added tokens, then least free space; the first on a tie.
            fitting = (
                (added, row.free, at)
                for at, row in enumerate(rows)
                if (added := _added(members, paths, lengths, row.pieces)) <= row.free
            )
            added, _, at = min(fitting, default=(0, 0, -1))
            if at < 0:
                rows.append(_Open(row_tokens))
                added = _added(members, paths, lengths, set())
            rows[at].free -= added
            rows[at].members += members
            rows[at].pieces.update(piece for index in members for piece in paths[index])
    return [
        _packed(examples, row.members, [paths[index] for index in row.members], lengths)
        for row in rows
    ]


def share(rows: Sequence[Row], num_ranks: int) -> list[list[Row | None]]:
    """Assign rows to ranks so that token counts are nearly equal.

    Every rank gets the same number of entries, since collective operations
    inside a backward pass must match; None is an empty row.
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

    Rows are concatenated, not stacked: their blocks define the attention mask, so
    a micro-batch needs no padding either.
    """
    return [_join(entries[at : at + size]) for at in range(0, len(entries), size)]


def deal(examples: Sequence[Example], settings: LearnerSettings) -> list[list[Row | None]]:
    """The rows of each rank for a global batch.

    If fewer rows than ranks hold the batch, it is packed into shorter ones, and what a rank has
    of these is one row. No rank is idle unless one example is longer than a rank's share.
    """
    if not settings.pack:
        return share(single(examples), settings.ranks)
    rows = pack(examples, settings.row_tokens, share_prompts=settings.share_prompts)
    if len(rows) >= settings.ranks:
        return share(rows, settings.ranks)
    even = -(-sum(len(row.inputs_T) for row in rows) // settings.ranks)
    rows = pack(examples, even, share_prompts=settings.share_prompts)
    dealt = share(rows, settings.ranks)
    joined = [_join(entries) for entries in dealt]
    longest = max(len(row.inputs_T) for row in joined if row is not None)
    return [[row] for row in joined] if longest <= settings.row_tokens else dealt


def rows_of_rank(
    examples: Sequence[Example], settings: LearnerSettings, rank: int
) -> list[Row | None]:
    """The forward passes of one rank for a global batch; every rank has the same number."""
    return micro_batches(deal(examples, settings)[rank], settings.micro_batch)


def _prefix_groups(
    examples: Sequence[Example], paths: Sequence[Path], lengths: Sequence[int]
) -> list[tuple[int, list[int]]]:
    """(tokens, indices) of examples that share at least half of their prompt; largest first."""
    groups: dict[object, list[int]] = defaultdict(list)
    for index, path in enumerate(paths):
        near = path and 2 * path[-1].stop >= len(examples[index][0])
        groups[path[-1] if near else index].append(index)
    sized = [
        (_added(members, paths, lengths, set()), sorted(members, key=lambda i: -lengths[i]))
        for members in groups.values()
    ]
    return sorted(sized, key=lambda group: -group[0])


def _added(
    members: Sequence[int], paths: Sequence[Path], lengths: Sequence[int], held: set[Piece]
) -> int:
    """Tokens that ``members`` add to a row that already has the pieces ``held``."""
    own = sum(lengths[index] - (paths[index][-1].stop if paths[index] else 0) for index in members)
    pieces = {piece for index in members for piece in paths[index]} - held
    return own + sum(map(len, pieces))


def _packed(
    examples: Sequence[Example],
    members: Sequence[int],
    batch_paths: Sequence[Path],
    lengths: Sequence[int],
) -> Row:
    """Lay out a row by the shared prefixes of its members or of the batch, whichever is shorter.

    The members of a row usually share longer prefixes than the batch. They can also share less:
    after a prefix of three prompts, two may not agree for 8 more tokens.
    """
    own = [lengths[index] for index in members]
    paths = batch_paths
    if any(batch_paths):
        numbers = range(len(members))
        row_paths = shared_paths([examples[index][0] for index in members])
        paths = min(row_paths, batch_paths, key=lambda each: _added(numbers, each, own, held=set()))
    return _row(examples, members, paths)


def _row(examples: Sequence[Example], members: Sequence[int], paths: Sequence[Path]) -> Row:
    inputs: list[int] = []
    positions: list[int] = []
    predict: list[int] = []
    targets: list[int] = []
    blocks: list[Block] = []
    spans: dict[Piece, Span] = {}
    for index, path in zip(members, paths, strict=True):
        prompt, target = examples[index]
        for depth, piece in enumerate(path):
            if piece not in spans:
                spans[piece] = (len(inputs), len(inputs) + len(piece))
                blocks.append(Block(*spans[piece], _context(path[:depth], spans)))
                inputs += prompt[piece.start : piece.stop]
                positions += range(piece.start, piece.stop)
        shared = path[-1].stop if path else 0
        own = [*prompt[shared:], *target[:-1]]
        start = len(inputs)
        if own:
            blocks.append(Block(start, start + len(own), _context(path, spans)))
        inputs += own
        positions += range(shared, shared + len(own))
        # If the whole prompt is shared, its last token is in the shared piece.
        stem = start + len(prompt) - shared if shared < len(prompt) else spans[path[-1]][1]
        predict += [stem - 1, *range(len(inputs) - len(target) + 1, len(inputs))]
        targets += target
    inputs_T, positions_T, predict_K, targets_K = (
        np.asarray(part, dtype=np.int64) for part in (inputs, positions, predict, targets)
    )
    return Row(inputs_T, positions_T, predict_K, targets_K, tuple(blocks), tuple(members))


def _context(path: Path, spans: dict[Piece, Span]) -> tuple[Span, ...]:
    return tuple(spans[piece] for piece in path)


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
            block.moved(int(at))
            for row, at in zip(rows, starts, strict=False)
            for block in row.blocks
        ),
        tuple(member for row in rows for member in row.members),
    )
