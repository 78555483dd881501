"""A simulated disk over a real folder: it forgets in a power cut what was not forced to it.

Kept are: the content of files as of their last ``sync``, and names as of the last ``sync`` of
their folder. Of everything else chance decides, name by name and byte by byte; renames and
removals are undone from the last one back. The ledger's files have their own rule (see
``queue.py``), since SQLite forces them itself.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common import durable
from tests.simulator.world import World

_IS_LEDGER = ("replay.sqlite",)


@dataclass(slots=True)
class _Change:
    """A rename or removal that may still be undone; ``folders`` have the names."""

    folders: set[Path]
    undo: Callable[[], None]


class Disk:
    """The disk under ``root``.

    Args:
        world: its points and chances.
        root: a folder; everything below it is simulated.
        graveyard: a folder on the same file system, for what may come back.
    """

    def __init__(self, world: World, root: Path, graveyard: Path) -> None:
        self._world, self._root, self._graveyard = world, root, graveyard
        self._content: dict[int, tuple[int, int]] = {}
        self._names: dict[Path, set[str]] = {}
        self._changes: list[_Change] = []
        self._graves = 0
        self.is_full = False
        # Seconds that each sync and write takes.
        self.delay_s = 0.0

    # -- instead of the product's file operations --------------------------------

    def sync(self, path: Path) -> None:
        """For ``durable.sync``."""
        pause = self.delay_s + 0.001 * self._world.rng.random()
        self._world.sleep(pause, f"syncs {self._short(path)}")
        self._check_room()
        self._keep(path)
        self._world.point()

    def rename(self, source: Path, target: Path) -> None:
        """For ``durable.rename``."""
        self._world.point(f"renames {self._short(source)} to {self._short(target)}")
        replaced: Path | None = None
        if target.is_file():
            replaced = self._grave()
            os.link(target, replaced)
        source.rename(target)

        def undo() -> None:
            if target.exists():
                target.rename(source)
                if replaced is not None:
                    os.link(replaced, target)

        self._changes.append(_Change({source.parent, target.parent}, undo))
        self.sync(target.parent)
        if source.parent != target.parent:
            self.sync(source.parent)

    def rmtree(self, path: Path, ignore_errors: bool = False) -> None:
        """For ``shutil.rmtree``."""
        if not Path(path).exists():
            return
        self._world.point(f"removes {self._short(Path(path))}")
        grave = self._grave()
        Path(path).rename(grave)

        def undo() -> None:
            # Some of it is gone for good.
            for file in sorted(grave.rglob("*")):
                if file.is_file() and self._world.rng.random() < 0.5:
                    file.unlink()
            if not Path(path).exists():
                grave.rename(path)

        self._changes.append(_Change({Path(path).parent}, undo))

    def save_file(self, real: Callable[..., None]) -> Callable[..., None]:
        """For ``safetensors.torch.save_file``, which has errors of its own."""

        def save(tensors: Any, path: Path, metadata: Any = None) -> None:
            self._world.sleep(self.delay_s, f"writes {self._short(path)}")
            if self.is_full:
                path.write_bytes(b"half")
                raise RuntimeError("I/O error: No space left on device (os error 28)")
            real(tensors, path, metadata)

        return save

    # -- faults --------------------------------------------------------------------

    def cut_power(self) -> None:
        """Lose what was not forced to disk; no process may run."""
        chance = self._world.rng
        while self._changes and chance.random() < 0.7:
            self._changes.pop().undo()
        self._changes.clear()
        for folder, subfolders, files in os.walk(self._root):
            kept = self._names.get(Path(folder))
            for name in sorted(subfolders):
                if kept is not None and name not in kept and chance.random() < 0.5:
                    shutil.rmtree(Path(folder) / name)
                    subfolders.remove(name)
            for name in sorted(files):
                path = Path(folder) / name
                if name.startswith(_IS_LEDGER):
                    continue
                if kept is not None and name not in kept and chance.random() < 0.5:
                    path.unlink()
                else:
                    self._lose_end(path)

    def _lose_end(self, path: Path) -> None:
        found = path.stat()
        size, modified = self._content.get(found.st_ino, (0, 0))
        if (found.st_size, found.st_mtime_ns) == (size, modified):
            return
        # An append-only file keeps what was forced; a new one may be empty, or zeros.
        kept = self._world.rng.randint(min(size, found.st_size), found.st_size)
        with path.open("r+b") as file:
            file.truncate(kept)
            if self._world.rng.random() < 0.3:
                file.truncate(kept + 7)

    # -- private -------------------------------------------------------------------

    def _keep(self, path: Path) -> None:
        if path.is_file():
            found = path.stat()
            self._content[found.st_ino] = (found.st_size, found.st_mtime_ns)
            return
        self._names[path] = set(os.listdir(path))
        last = [index for index, change in enumerate(self._changes) if path in change.folders]
        if last:
            # A journal keeps its order: what came before is on disk, too.
            del self._changes[: last[-1] + 1]

    def _check_room(self) -> None:
        if self.is_full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _grave(self) -> Path:
        self._graves += 1
        return self._graveyard / str(self._graves)

    def _short(self, path: Path) -> str:
        name = str(path.relative_to(self._root)) if self._root in path.parents else path.name
        # Temporary names end at random.
        return re.sub(r"-[a-z0-9_]{8}$", "", name)


def install(disk: Disk, patch: Any) -> None:
    """Let the product use ``disk``; ``patch`` is pytest's monkeypatch."""
    import safetensors.torch

    from learner import checkpoint_folder, checkpoint_writer

    patch.setattr(durable, "sync", disk.sync)
    patch.setattr(durable, "rename", disk.rename)
    for module in (durable, checkpoint_folder, checkpoint_writer):
        namespace = type("shutil", (), {"rmtree": disk.rmtree, "copy2": shutil.copy2})
        patch.setattr(module, "shutil", namespace)
    patch.setattr(safetensors.torch, "save_file", disk.save_file(safetensors.torch.save_file))
