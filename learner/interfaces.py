"""What the learner's loop needs from the rest: the queue, a training engine, a publisher."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from learner.checkpoint_writer import StateSource
from learner.packing import Row
from learner.teacher_inputs import TeacherInputs


@dataclass(frozen=True, slots=True)
class Batch:
    """The queue's reply to a request for the batch of a step.

    ``ready``  false: wait and request it again; true without ``items``: training is over
    ``items``  (epoch, packed rollout) pairs
    ``total``  training examples of the whole run, once they are known
    ``left``   how many of these come after this batch
    """

    ready: bool
    items: list[tuple[int, bytes]]
    total: int | None
    left: int | None


class BatchSource(Protocol):
    """The part of the replay queue that the learner uses (see ``common.ledger.transitions``)."""

    def register(self, token: str) -> int: ...
    def last_step(self) -> int: ...
    def restore(self, generation: int, step: int) -> str: ...
    def sample(self, generation: int, step: int) -> Batch: ...
    def note_trained(self, generation: int, step: int) -> None: ...
    def prepare(self, generation: int, step: int) -> None: ...
    def commit(self, generation: int, step: int) -> None: ...


class Trainer(StateSource, Protocol):
    """The part of :class:`learner.engine.TrainingEngine` that the learner uses.

    ``progress`` grows during a step that takes long.
    """

    progress: int

    def step(
        self,
        rows: Sequence[Row | None],
        num_target_tokens: int,
        lr: float,
        teacher_inputs: Sequence[TeacherInputs | None] = (),
    ) -> tuple[float, float]: ...
    def agree(self, values: tuple[int, ...]) -> tuple[int, ...]: ...
    def load_state(self, folder: Path) -> None: ...
    def policy(self) -> Iterator[tuple[str, Any]]: ...
    def factors(self) -> Iterator[tuple[str, Any]]: ...


class WeightPublisher(Protocol):
    """Sends the student's weights to its engines (see ``common.weight_sync``).

    ``adapters``: only its adapters.
    """

    @property
    def adapters(self) -> bool: ...
    def is_due(self, version: int) -> bool: ...
    def publish(
        self, version: int, weights: Callable[[], Iterable[tuple[str, Any]]]
    ) -> dict[str, float]: ...
    def check(self) -> None: ...
