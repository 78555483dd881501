"""What DeepSpeed compiles at its first use, and the death of a process that compiles.

torch marks a build that is under way with a file named ``lock`` (``torch.utils.file_baton``). A
process that is killed meanwhile leaves it, and every later one waits for it forever, without a
word. So builds have a folder of their own and the kernel's lock on it, which ends with its holder.
The compilers it started may live on: a dead build moves away with the folder that they work in.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from common.models import default_cache

_FOLDER = "TORCH_EXTENSIONS_DIR"


@contextmanager
def exclusive_build(torch_version: str, cache: Path | None = None) -> Iterator[Path]:
    """Builds in this block go to a folder in ``cache``, one process of a machine at a time.

    No collective may be inside: a rank that waits for the lock would not take part in it.
    """
    python = f"py{sys.version_info.major}{sys.version_info.minor}"
    folder = (cache or default_cache()) / "extensions" / f"{python}-torch{torch_version}"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "building").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        for mark in folder.glob("*/lock"):
            dead = Path(tempfile.mkdtemp(prefix="dead-", dir=folder))
            mark.parent.rename(dead / "build")
            shutil.rmtree(dead, ignore_errors=True)
        before = os.environ.get(_FOLDER)
        os.environ[_FOLDER] = str(folder)
        try:
            yield folder
        finally:
            if before is None:
                del os.environ[_FOLDER]
            else:
                os.environ[_FOLDER] = before
