"""Student weights on their way from the learner to the engines of its node.

One safetensors file in a folder of the run's own (mode 0700), in shared memory
where that has room for it twice. It is replaced by rename and says itself which
version it holds, so that whoever opens it has the old weights or the new ones,
whole. A version is the number of optimizer steps that the weights have taken.

Knows files only: neither how weights are gathered nor who loads them.
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
# The file, its successor while that is written, and something for everybody else.
_COPIES = 2.5


@dataclass(frozen=True, slots=True)
class Published:
    """One version, held for a reader: ``folder`` has the weights, ``sums`` those of some."""

    version: int
    folder: Path
    sums: dict[str, BitSum]


class WeightStore:
    """Where a run's published weights lie.

    Args:
        run: its folder remembers which one it is.
        memory: shared memory; None where readers may be on other nodes, which see
            the run's folder only.
    """

    def __init__(self, run: RunDir, memory: Path | None = SHARED_MEMORY) -> None:
        self._run = run
        self._memory = memory
        self._known: tuple[tuple[int, int], int] | None = None

    def open(self, num_bytes: int, say: Callable[[str], None]) -> None:
        """Make sure that there is a folder for weights of ``num_bytes``; the writer's call."""
        if self._folder() is None:
            folder = self._make(int(_COPIES * num_bytes), say)
            write_atomic(self._run.weights, json.dumps({"folder": str(folder)}))

    def put(self, version: int, tensors: Mapping[str, Any], sums: Mapping[str, BitSum]) -> None:
        """Replace what is there by ``tensors``."""
        from safetensors.torch import save_file

        folder = self._folder()
        assert folder is not None, "opened before"
        metadata = {"format": "pt", "version": str(version), "sums": json.dumps(sums)}
        partial = folder / f".{_FILE}"
        save_file(dict(tensors), partial, metadata=metadata)
        partial.rename(folder / _FILE)

    def version(self) -> int | None:
        """The version that is there; None before the first. Cheap while it stays the same."""
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
    def take(self, reader: str) -> Iterator[Published]:
        """Hold what is there now, whatever replaces it meanwhile; something must be there."""
        folder = self._folder()
        assert folder is not None, "a version was seen"
        own = folder / reader
        own.mkdir(exist_ok=True)
        held = own / _FILE
        held.unlink(missing_ok=True)
        try:
            _link(folder / _FILE, held)
            with held.open("rb") as file:
                metadata = _metadata(file)
            sums = {name: BitSum(*sum_) for name, sum_ in json.loads(metadata["sums"]).items()}
            yield Published(int(metadata["version"]), own, sums)
        finally:
            held.unlink(missing_ok=True)

    def remove(self) -> None:
        """Leave nothing behind."""
        folder = self._folder()
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        self._run.weights.unlink(missing_ok=True)

    def _folder(self) -> Path | None:
        kept = read_json(self._run.weights)
        folder = Path(kept["folder"]) if kept else None
        return folder if folder is not None and folder.is_dir() else None

    def _make(self, num_bytes: int, say: Callable[[str], None]) -> Path:
        memory, wanted = self._memory, f"{num_bytes / 2**30:.1f} GiB for published weights"
        if memory is not None and memory.is_dir():
            free = shutil.disk_usage(memory).free
            if free >= num_bytes:
                # Made private, under a name that nobody could have taken before.
                return Path(tempfile.mkdtemp(prefix=f"mixsd-{self._run.name}-", dir=memory))
            say(f"{memory} has {free / 2**30:.1f} GiB, not {wanted}: they go to the run's folder")
        folder = self._run.root / "weights"
        folder.mkdir(mode=0o700, exist_ok=True)
        return folder


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:
        # A file system without hard links; an open file stays what it was, too.
        shutil.copyfile(source, target)


def _metadata(file: Any) -> dict[str, str]:
    """The header of an open safetensors file: its length in 8 bytes, then JSON."""
    length = int.from_bytes(file.read(8), "little")
    metadata: dict[str, str] = json.loads(file.read(length))["__metadata__"]
    return metadata
