"""A network cable that takes its time: this kernel has no netem.

Two TAP devices, one in each namespace, and a thread that carries Ethernet frames
from one to the other after a delay. It knows neither addresses nor hosts.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import select
import struct
import threading
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

_CLONE_NEWNET = 0x40000000
_TUNSETIFF, _IFF_TAP, _IFF_NO_PI = 0x400454CA, 0x0002, 0x1000
_FRAME_BYTES = 2**16


class Cable:
    """Joins device ``a`` in namespace ``a`` with device ``b`` in namespace ``b``.

    Args:
        delay_s: of every frame, each way.

    Raises:
        OSError: the machine does not permit TAP devices.
    """

    def __init__(self, a: str, b: str, delay_s: float) -> None:
        self._delay_s = delay_s
        self._ends = [_tap(a), _tap(b)]
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._carry, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Pull it out; its devices go with it."""
        self._stop.set()
        self._thread.join()
        for end in self._ends:
            os.close(end)

    def _carry(self) -> None:
        # The delay is the same for all, so frames arrive in the order they were sent.
        on_the_way: deque[tuple[float, int, bytes]] = deque()
        far = dict(zip(self._ends, reversed(self._ends), strict=True))
        while not self._stop.is_set():
            pause = on_the_way[0][0] - time.monotonic() if on_the_way else 0.1
            for end in select.select(self._ends, [], [], max(0.0, min(pause, 0.1)))[0]:
                # A device that is down gives and takes nothing.
                with contextlib.suppress(OSError):
                    frame = os.read(end, _FRAME_BYTES)
                    on_the_way.append((time.monotonic() + self._delay_s, far[end], frame))
            while on_the_way and on_the_way[0][0] <= time.monotonic():
                _, end, frame = on_the_way.popleft()
                with contextlib.suppress(OSError):
                    os.write(end, frame)


def _tap(name: str) -> int:
    """A TAP device called ``name`` in the namespace called ``name``."""
    with _inside(name):
        descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        try:
            fcntl.ioctl(
                descriptor, _TUNSETIFF, struct.pack("16sH", name.encode(), _IFF_TAP | _IFF_NO_PI)
            )
        except OSError:
            os.close(descriptor)
            raise
    return descriptor


@contextlib.contextmanager
def _inside(namespace: str) -> Iterator[None]:
    """This thread is in another network namespace for a while."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    there = os.open(Path("/run/netns") / namespace, os.O_RDONLY)
    try:
        _enter(there)
        yield
    finally:
        _enter(home)
        os.close(there)
        os.close(home)


def _enter(namespace: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(namespace, _CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
