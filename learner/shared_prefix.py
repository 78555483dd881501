"""Shared prefixes of the prompts of a batch, as a tree over token ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

# A shorter piece saves less than its block costs.
_LEAST = 8


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """Positions ``start``…``stop`` of several prompts that agree up to ``stop``."""

    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


Path = tuple[Piece, ...]


def shared_paths(prompts: Sequence[Sequence[int]]) -> list[Path]:
    """For each prompt the pieces that it shares, contiguous from its first token.

    Two prompts have the same pieces up to where they differ, except for a last part of
    fewer than 8 tokens; equal prompts share everything, however short.
    """
    keys = [tuple(prompt) for prompt in prompts]
    paths: list[Path] = [()] * len(keys)
    ordered = sorted(range(len(keys)), key=keys.__getitem__)
    # Groups of prompts that agree up to ``depth`` at least; ``path`` is their shared part.
    stack: list[tuple[list[int], int, Path]] = [(ordered, 0, ())]
    while stack:
        group, depth, path = stack.pop()
        if len(group) < 2:
            paths[group[0]] = path
            continue
        first, last = keys[group[0]], keys[group[-1]]
        # In sorted order, the common prefix of the first and last is that of all.
        agreed = _agreement(first, last, depth)
        reached = path[-1].stop if path else 0
        if agreed > reached and (agreed - reached >= _LEAST or first == last):
            path = (*path, Piece(reached, agreed))
        if first == last:
            for index in group:
                paths[index] = path
            continue
        for _, members in groupby(group, key=lambda index: keys[index][agreed : agreed + 1]):
            stack.append((list(members), agreed, path))
    return paths


def _agreement(one: tuple[int, ...], other: tuple[int, ...], depth: int) -> int:
    for at in range(depth, min(len(one), len(other))):
        if one[at] != other[at]:
            return at
    return min(len(one), len(other))
