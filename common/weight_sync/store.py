"""The weight store: the file through which the learner publishes the student's weights.

It is one safetensors file in a private folder of the run (mode 0700), in shared memory
if two copies fit there. It is replaced by rename and its header holds its version, so a
reader gets the old weights or the new ones, never a mixture. A version is the number of
optimizer steps that the weights have taken.

This module knows files only: neither how weights are gathered nor who loads them.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.rundir import RunDir, read_json, write_atomic
from common.weights import BitSum

SHARED_MEMORY = Path("/dev/shm")
_FILE = "model.safetensors"
# The file, the next one while it is written, and some slack for other processes.
_COPIES = 2.5


@dataclass(frozen=True, slots=True)
class PublishedWeights:
    """One version, pinned for a reader: the ``folder`` with its file, and some bit ``sums``."""

    version: int
    folder: Path
    sums: dict[str, BitSum]


class WeightStore:
    """Reads and writes the published weights of a run.

    Args:
        run: its folder records where the store is (``weights.json``).
        memory: shared memory; None if readers may be on other nodes, which share
            only the run's folder.
    """

    def __init__(self, run: RunDir, memory: Path | None = SHARED_MEMORY) -> None:
        self._run = run
        self._memory = memory
        self._known: tuple[tuple[int, int], int] | None = None

    def open(self, num_bytes: int, log: Callable[[str], None]) -> None:
        """Create the folder for weights of ``num_bytes`` if it is missing; for the writer."""
        if self._folder() is None:
            folder = self._make(int(_COPIES * num_bytes), log)
            write_atomic(self._run.weights, json.dumps({"folder": str(folder)}))

    def put(self, version: int, tensors: Mapping[str, Any], sums: Mapping[str, BitSum]) -> None:
        """Replace the current version by ``tensors``; :meth:`open` comes first."""
        from safetensors.torch import save_file

        folder = self._folder()
        assert folder is not None, "open() comes first"
        metadata = {"format": "pt", "version": str(version), "sums": json.dumps(sums)}
        partial = folder / f".{_FILE}"
        save_file(dict(tensors), partial, metadata=metadata)
        partial.rename(folder / _FILE)

    def version(self) -> int | None:
        """The current version; None before the first. Cheap while it does not change."""
        folder = self._folder()
        if folder is None:
            return None
        try:
            with (folder / _FILE).open("rb") as file:
                found = os.fstat(file.fileno())
                identity = found.st_ino, found.st_mtime_ns
                if self._known is None or self._known[0] != identity:
                    self._known = identity, int(_metadata(file)["version"])
        except FileNotFoundError:
            return None
        return self._known[1]

    @contextlib.contextmanager
    def pin(self, reader: str) -> Iterator[PublishedWeights]:
        """Keep the current version readable, even if it is replaced; there must be one."""
        folder = self._folder()
        assert folder is not None, "there is a version"
        own = folder / reader
        own.mkdir(exist_ok=True)
        pinned = own / _FILE
        pinned.unlink(missing_ok=True)
        try:
            _link(folder / _FILE, pinned)
            with pinned.open("rb") as file:
                metadata = _metadata(file)
            sums = {name: BitSum(*sum_) for name, sum_ in json.loads(metadata["sums"]).items()}
            yield PublishedWeights(int(metadata["version"]), own, sums)
        finally:
            pinned.unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove the store."""
        folder = self._folder()
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        self._run.weights.unlink(missing_ok=True)

    def _folder(self) -> Path | None:
        kept = read_json(self._run.weights)
        folder = Path(kept["folder"]) if kept else None
        return folder if folder is not None and folder.is_dir() else None

    def _make(self, num_bytes: int, log: Callable[[str], None]) -> Path:
        memory, wanted = self._memory, f"{num_bytes / 2**30:.1f} GiB for published weights"
        if memory is not None and memory.is_dir():
            free = shutil.disk_usage(memory).free
            if free >= num_bytes:
                # mkdtemp makes it private, under an unpredictable name.
                return Path(tempfile.mkdtemp(prefix=f"mixsd-{self._run.name}-", dir=memory))
            log(f"{memory} has {free / 2**30:.1f} GiB, not {wanted}: they go to the run's folder")
        folder = self._run.root / "weights"
        folder.mkdir(mode=0o700, exist_ok=True)
        return folder


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:
        # The file system has no hard links. A file that is open is safe from a rename, too.
        shutil.copyfile(source, target)


def _metadata(file: Any) -> dict[str, str]:
    """The header of an open safetensors file: its length in 8 bytes, then JSON."""
    length = int.from_bytes(file.read(8), "little")
    metadata: dict[str, str] = json.loads(file.read(length))["__metadata__"]
    return metadata
