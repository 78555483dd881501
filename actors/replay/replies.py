"""What the queue answers to those who ask for work, or for the batch of a step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from common.records import Work


@dataclass(frozen=True, slots=True)
class Grant:
    """Reply to a lease request. ``over``: no work will ever come again."""

    work: list[Work]
    over: bool


class Sampled(NamedTuple):
    """Reply to a request for the batch of a step.

    ``ready``  false: wait and request it again; true without ``items``: training is over
    ``items``  (epoch, packed rollout) pairs
    ``total``  exposures of the whole run, once they are known
    ``left``   how many of these come after this batch
    """

    ready: bool
    items: list[tuple[int, bytes]]
    total: int | None
    left: int | None
