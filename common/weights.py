"""Hashes that identify weights, and sums that verify their transfer to an engine."""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

_KEPT_KINDS = (
    *("embed_tokens.weight", "norm.weight", "o_proj.weight", "down_proj.weight"),
    *("lora_A.weight", "lora_B.weight"),
)
_MOST, _CHUNK = 2**27, 2**20
_BLOCKS, _BLOCK_BYTES = 64, 2**14


def weights_hash(files: Mapping[str, str]) -> str:
    """One hash from the SHA-256 of each weights file; files in subfolders are ignored."""
    weights = sorted(item for item in files.items() if re.fullmatch(r"[^/]+\.safetensors", item[0]))
    return hashlib.sha256(json.dumps(weights).encode()).hexdigest()[:16]


def folder_hash(folder: Path) -> str:
    """:func:`weights_hash` of the safetensors in ``folder``; reads them whole."""
    return weights_hash({path.name: file_hash(path) for path in folder.glob("*.safetensors")})


def file_hash(path: Path) -> str:
    """SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sampled_hash(path: Path) -> str:
    """SHA-256 of a file's size and of blocks spread evenly over it, the first and last included.

    Training changes nearly every weight, so this tells other weights from the same ones
    without reading them whole.
    """
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        for index in range(_BLOCKS):
            file.seek(index * max(0, size - _BLOCK_BYTES) // (_BLOCKS - 1))
            digest.update(file.read(_BLOCK_BYTES))
    return digest.hexdigest()


class BitSum(NamedTuple):
    """How many numbers a tensor has, and Σ bits² of their bit patterns modulo 2^64.

    Exact, and additive: the sums of a tensor's parts add up to that of the whole,
    however an engine has split it over its devices.
    """

    numel: int
    total: int

    def __add__(self, other: BitSum) -> BitSum:  # type: ignore[override]
        return BitSum(self.numel + other.numel, (self.total + other.total) % 2**64)


def bit_sum(tensor: Any) -> BitSum:
    """The :class:`BitSum` of a torch tensor of 2- or 4-byte numbers."""
    import torch

    integers = {2: torch.int16, 4: torch.int32}[tensor.element_size()]
    bits = tensor.detach().contiguous().view(integers).flatten()
    total = 0
    # In chunks: as 64-bit integers a tensor would be four times its size.
    for chunk in bits.split(_CHUNK):
        wide = chunk.to(torch.int64)
        total += int((wide * wide).sum())
    return BitSum(bits.numel(), total % 2**64)


def sampled(sizes: Mapping[str, int]) -> list[str]:
    """Which weights are summed to tell whether an engine has taken a version.

    The first, middle and last of each kind that engines keep under its own name and as
    it is (many fuse or repack the others), unless it is too large for a sum a step.
    """
    chosen = []
    for kind in _KEPT_KINDS:
        names = sorted(n for n, size in sizes.items() if n.endswith(kind) and size <= _MOST)
        chosen += (
            [names[at] for at in sorted({0, len(names) // 2, len(names) - 1})] if names else []
        )
    return sorted(set(chosen))


def difference(expected: Mapping[str, BitSum], ranks: Sequence[Mapping[str, BitSum]]) -> str | None:
    """What an engine holds differently, or None.

    Args:
        expected: sums of the published weights.
        ranks: each device's sums of what it holds under these names: all of a weight or
            a part of it. Those that no rank has as they were published are passed over.
    """
    compared = 0
    for name, whole in expected.items():
        parts = [sums[name] for sums in ranks if name in sums]
        if parts and all(part.numel == whole.numel for part in parts):
            found = set(parts)
        elif sum(part.numel for part in parts) == whole.numel:
            found = {functools.reduce(BitSum.__add__, parts)}
        else:
            continue
        compared += 1
        if found != {whole}:
            return f"{name} is not what was published"
    return None if compared else "none of the weights that are summed can be read back"
