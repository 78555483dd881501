"""Loads mutants and counts what becomes of them.

    python -m tests.mutations.survey [--count 3500]

The result of one is that it is loaded, and then used, or refused with a message for people.
Anything else is a defect: it is raised with the number that makes the mutant again.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from actors.evaluation.benchmarks.base import NotMeasured
from common import files
from common.errors import UserError
from tests.mutations.loaders import Loader, all_loaders
from tests.mutations.mutator import mutant

# Far more than a mutant takes, far less than the endless loops and expansions that are looked for.
SLOWEST_S, MAX_GROWTH_MIB = 30.0, 1024
_LONGEST_MESSAGE = 10_000


@dataclass
class Counts:
    """Of one loader's mutants."""

    loaded: int = 0
    refused: int = 0
    seconds: float = 0.0
    slowest_s: float = 0.0


def survey(loader: Loader, numbers: Iterable[int], root: Path) -> Counts:
    """Load each mutant in ``root``, an empty folder."""
    counts = Counts()
    for name, content in loader.others.items():
        _write(root / name, content)
    for number in numbers:
        _write(root / loader.file, loader.pack(mutant(loader.seeds, number), number))
        memory, began = _peak_mib(), time.monotonic()
        try:
            counts.loaded += _is_loaded(loader, root)
        except BaseException as error:
            error.add_note(f"mutant {number} of {loader.name}")
            raise
        took = time.monotonic() - began
        assert took < SLOWEST_S, f"mutant {number} of {loader.name} took {took:.0f} s"
        assert _peak_mib() - memory < MAX_GROWTH_MIB, f"mutant {number} of {loader.name}: memory"
        counts.refused += 1
        counts.seconds += took
        counts.slowest_s = max(counts.slowest_s, took)
    counts.refused -= counts.loaded
    return counts


def _is_loaded(loader: Loader, root: Path) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            loader.load(root)
            return True
        except (UserError, NotMeasured) as error:
            message = str(error)
    assert 0 < len(message) < _LONGEST_MESSAGE, f"{len(message)} characters: {message[:200]}"
    return False


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Print a table of all loaders."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=3500, help="mutants of each loader")
    parser.add_argument("--first", type=int, default=0, help="number of the first")
    parser.add_argument("--only", default="", help="loaders whose name contains this")
    chosen = parser.parse_args()
    files.MAX_BYTES = 2**24
    numbers = range(chosen.first, chosen.first + chosen.count)
    total = Counts()
    print(f"{'loader':20} {'loaded':>8} {'refused':>8} {'seconds':>8} {'slowest':>8}")
    with tempfile.TemporaryDirectory() as scratch:
        loaders = [one for one in all_loaders(Path(scratch)) if chosen.only in one.name]
        for index, loader in enumerate(loaders):
            (root := Path(scratch) / str(index)).mkdir()
            found = survey(loader, numbers, root)
            _print(loader.name, found)
            total.loaded += found.loaded
            total.refused += found.refused
            total.seconds += found.seconds
            total.slowest_s = max(total.slowest_s, found.slowest_s)
    _print("all", total)
    print(f"peak memory {_peak_mib():.0f} MiB")


def _print(name: str, counts: Counts) -> None:
    print(
        f"{name:20} {counts.loaded:8} {counts.refused:8} {counts.seconds:8.1f} "
        f"{counts.slowest_s:8.3f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
