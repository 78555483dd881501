"""Locks in a run's folder: they tell who works on a run, and end with the process.

A lock needs no clock: the process that holds it lives, though it may be paused, slow, or on a
machine whose time is wrong. ``flock`` reaches other hosts where the file system carries it, as
NFS does.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from typing import IO

from common.rundir import RunDir

# Held by the command that starts a run, by the run's controller, and for a change of the
# desired state.
STARTING, CONTROLLER, DESIRED = ".starting.lock", ".controller.lock", ".desired.lock"

_PATIENCE_S, _POLL_S = 0.5, 0.05
_UNSUPPORTED = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS}


class RunLock:
    """One of the locks of a run; held until :meth:`release` or the end of the process.

    Args:
        run: its folder must exist.
        name: one of the names above.
    """

    def __init__(self, run: RunDir, name: str) -> None:
        self._path = run.root / name
        self._file: IO[str] | None = None

    def acquire(self, *, wait: bool = True) -> bool:
        """Take the lock; False if another process holds it and ``wait`` is not set.

        Where the file system has no locks, everybody gets it.
        """
        file, deadline = self._path.open("a"), time.monotonic() + _PATIENCE_S
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                # Who only looks holds it for a moment, too.
                if not wait and time.monotonic() > deadline:
                    file.close()
                    return False
                time.sleep(_POLL_S)
                continue
            except OSError as error:
                if error.errno not in _UNSUPPORTED:
                    file.close()
                    raise
            self._file = file
            return True

    def release(self) -> None:
        """Give the lock back."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def is_held(self) -> bool:
        """Whether some process holds it; for processes that do not."""
        try:
            descriptor = os.open(self._path, os.O_RDONLY)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
        finally:
            os.close(descriptor)
        return False
