"""What an edit needs of a fact, beside its target: where its subject ends. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from learner.packing import Row


@dataclass(frozen=True, slots=True)
class Essence:
    """A neutral prompt about a subject, after which the model should predict what it did.

    ``position`` is that of the subject's last token.
    """

    ids: tuple[int, ...]
    position: int


@dataclass(frozen=True, slots=True)
class Site:
    """Where a prompt is edited: the position of its subject's last token.

    ``essence``: None without a subject.
    """

    position: int
    essence: Essence | None = None


# By the ids of the naive prompt x.
Sites = Mapping[tuple[int, ...], Site]


@dataclass(frozen=True, slots=True)
class Request:
    """One fact to write."""

    prompt: tuple[int, ...]
    target: tuple[int, ...]
    site: Site

    @property
    def inputs(self) -> tuple[int, ...]:
        """The prompt and the target without its last token."""
        return (*self.prompt, *self.target[:-1])


def requests_of(rows: Sequence[Row | None], sites: Sites) -> list[Request]:
    """The facts of rows that hold one example each; by default the last prompt token is edited."""
    found = []
    for row in rows:
        if row is None:
            continue
        assert len(row.members) == 1, "an edit needs rows of one example"
        length = int(row.predict_K[0]) + 1
        prompt = tuple(row.inputs_T[:length].tolist())
        site = sites.get(prompt, Site(length - 1))
        found.append(Request(prompt, tuple(row.targets_K.tolist()), site))
    return found


def chunks(requests: Sequence[Request], tokens: int) -> list[list[Request]]:
    """Consecutive requests in batches of at most ``tokens``, padding included.

    One that is longer is alone.
    """
    batches: list[list[Request]] = []
    longest = 0
    for request in requests:
        size = len(request.inputs)
        longest = max(longest, size)
        if not batches or longest * (len(batches[-1]) + 1) > tokens:
            batches.append([])
            longest = size
        batches[-1].append(request)
    return batches
