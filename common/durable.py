"""File operations whose effect is on disk when they return.

A power cut keeps of a file what was forced to disk, and the name of a file or folder only once
its parent folder was forced too. And a kill can come between any two calls: a folder is
therefore renamed before it is removed, so that what is left of it has lost its name.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from pathlib import Path


def sync(path: Path) -> None:
    """Force the content of a file, or the names in a folder, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems force names at once and have no call for it.
        if not (path.is_dir() and error.errno in (errno.EINVAL, errno.ENOTSUP)):
            raise
    finally:
        os.close(descriptor)


def rename(source: Path, target: Path) -> None:
    """Rename within one file system; ``target`` is replaced if it is a file or an empty folder."""
    source.rename(target)
    sync(target.parent)
    if source.parent != target.parent:
        sync(source.parent)


def remove(folder: Path, trash: Path) -> None:
    """Remove ``folder``, which first becomes ``trash``: a kill may leave that, never a half folder.

    What cannot be removed now stays in ``trash``.
    """
    shutil.rmtree(trash, ignore_errors=True)
    with contextlib.suppress(FileNotFoundError):
        rename(folder, trash)
    shutil.rmtree(trash, ignore_errors=True)
