"""Repeats what fails for a moment: a disk, a server, a file that is being replaced."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from typing import TypeVar

from common.errors import first_line

_Result = TypeVar("_Result")


class OutOfPatience(RuntimeError):
    """It failed for too long; the message is the last cause and for how long."""


class Retry:
    """Repeats calls that raise.

    Args:
        patience_s: longest time without a success.
        pause_s: between two tries.
        show: receives the cause of a failure, and an empty text after the next success.
        passes: errors that are not repeated.
        clock: seconds, monotonic.
        sleep: waits so many seconds.
    """

    def __init__(
        self,
        patience_s: float,
        pause_s: float,
        show: Callable[[str], None],
        *,
        passes: type[Exception],
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._patience_s = patience_s
        self._pause_s = pause_s
        self._show = show
        self._passes = passes
        self._clock = clock
        self._sleep = sleep

    def __call__(self, act: Callable[[], _Result]) -> _Result:
        """The result of ``act`` once it does not raise.

        Raises:
            OutOfPatience: it raised for longer than ``patience_s``.
        """
        began, failed = self._clock(), False
        while True:
            try:
                result = act()
            except self._passes:
                raise
            except Exception as error:
                traceback.print_exc()
                cause = f"{type(error).__name__}: {first_line(error)}"
                if self._clock() - began > self._patience_s:
                    raise OutOfPatience(f"{cause}, for {self._patience_s:.0f} s") from error
                failed = True
                self._show(cause)
                self._sleep(self._pause_s)
            else:
                if failed:
                    self._show("")
                return result
