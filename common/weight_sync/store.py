"""The weight store: the file through which the learner publishes the student's weights.

It is one safetensors file in a private folder of the run (mode 0700), in shared memory
if two copies fit there, and only as long as they do: others use that memory too. It is
replaced by rename and its header holds its version, so a reader gets the old weights or the
new ones, never a mixture. A version is the number of optimizer steps that the weights have
taken.

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

from common.errors import is_disk_full
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

    def put(
        self,
        version: int,
        tensors: Mapping[str, Any],
        sums: Mapping[str, BitSum],
        log: Callable[[str], None],
    ) -> None:
        """Replace the current version by ``tensors``; :meth:`open` comes first.

        If shared memory has become full, the weights go to the run's folder from now on.

        Raises:
            OSError: the run's folder is full, too; or another error of writing there.
        """
        folder = self._folder()
        assert folder is not None, "open() comes first"
        try:
            _write(folder, version, tensors, sums)
        except Exception as error:
            if folder == self._own_folder or not is_disk_full(error):
                raise
            log(f"{folder.parent} is full: published weights go to the run's folder from now on")
            self._own_folder.mkdir(mode=0o700, exist_ok=True)
            _write(self._own_folder, version, tensors, sums)
            kept = {"folder": str(self._own_folder), "before": str(folder)}
            write_atomic(self._run.weights, json.dumps(kept))
            # The rest of the folder has what readers hold right now.
            (folder / _FILE).unlink(missing_ok=True)

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
        pinned = self._pinned(reader)
        try:
            with pinned.open("rb") as file:
                metadata = _metadata(file)
            sums = {name: BitSum(*sum_) for name, sum_ in json.loads(metadata["sums"]).items()}
            yield PublishedWeights(int(metadata["version"]), pinned.parent, sums)
        finally:
            pinned.unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove the store."""
        for folder in (read_json(self._run.weights) or {}).values():
            shutil.rmtree(folder, ignore_errors=True)
        self._run.weights.unlink(missing_ok=True)

    @property
    def _own_folder(self) -> Path:
        return self._run.root / "weights"

    def _pinned(self, reader: str) -> Path:
        """A file of ``reader``'s own with the current version."""
        while True:
            folder = self._folder()
            assert folder is not None, "there is a version"
            pinned = folder / reader / _FILE
            pinned.parent.mkdir(exist_ok=True)
            pinned.unlink(missing_ok=True)
            try:
                _link(folder / _FILE, pinned)
            except FileNotFoundError:
                # The store has just moved to the run's folder.
                if self._folder() == folder:
                    raise
            else:
                return pinned

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
        self._own_folder.mkdir(mode=0o700, exist_ok=True)
        return self._own_folder


def _write(
    folder: Path, version: int, tensors: Mapping[str, Any], sums: Mapping[str, BitSum]
) -> None:
    from safetensors.torch import save_file

    metadata = {"format": "pt", "version": str(version), "sums": json.dumps(sums)}
    partial = folder / f".{_FILE}"
    try:
        save_file(dict(tensors), partial, metadata=metadata)
        partial.rename(folder / _FILE)
    except BaseException:
        # Half a version would keep the memory from others.
        partial.unlink(missing_ok=True)
        raise


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
