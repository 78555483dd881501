"""Seconds of calls that something else makes."""

from __future__ import annotations

import time


def timed_calls(owner: object, name: str) -> list[float]:
    """Seconds of every call of a method from here on, in a list that grows."""
    method, seconds = getattr(owner, name), []

    def call(*arguments: object, **settings: object) -> object:
        began = time.perf_counter()
        result = method(*arguments, **settings)
        seconds.append(time.perf_counter() - began)
        return result

    setattr(owner, name, call)
    return seconds
