"""Right or wrong by item: what the responses behind a score say, without their texts."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from sys import intern

from actors.evaluation.results import Results
from actors.evaluation.scores import BenchmarkScore, EvalResult, GraderScore, Response
from common.estimates import wilson

# An item's id, and a checksum of its question and answer: other items may have the same id.
Key = tuple[str, int]
Keep = Callable[[str], bool]


@dataclass(slots=True)
class Items:
    """The items of one benchmark at one checkpoint.

    ``right`` has one value for each sample of an item, by the grader of the score; ``others``
    the same by the names of the other graders.
    """

    right: dict[Key, list[bool]] = field(default_factory=dict)
    others: dict[str, dict[Key, list[bool]]] = field(default_factory=dict)

    def add(self, response: Response) -> None:
        """Count a response that was graded."""
        key = key_of(response)
        self.right.setdefault(key, []).append(bool(response.right))
        for grader, verdict in response.verdicts.items():
            self.others.setdefault(grader, {}).setdefault(key, []).append(verdict)

    def score(self, keep: Keep) -> BenchmarkScore | None:
        """Share of right responses to the items that ``keep`` accepts, by all graders.

        The intervals are Wilson's, over all responses. None if there are no such items.
        """
        kept = _kept(self.right, keep)
        if not kept:
            return None
        others = {name: _kept(of, keep) for name, of in self.others.items()}
        graders = {name: _share(of) for name, of in others.items() if of}
        own = _share(kept)
        return BenchmarkScore(**dict(own), n=len(kept), unit="fraction", graders=graders)


def _kept(verdicts: Mapping[Key, list[bool]], keep: Keep) -> list[bool]:
    return [right for (item, _), rights in verdicts.items() if keep(item) for right in rights]


def _share(verdicts: Sequence[bool]) -> GraderScore:
    low, high = wilson(sum(verdicts), len(verdicts))
    return GraderScore(value=sum(verdicts) / len(verdicts), low=low, high=high)


def key_of(response: Response) -> Key:
    """What makes two responses answers to the same item."""
    return intern(response.id), zlib.crc32(f"{response.question}\0{response.answer}".encode())


def is_validation(item: str) -> bool:
    """Whether an item of this id chooses the learning rate; the others are reported.

    Half of all ids, by their SHA-256, so that it does not depend on the other items.
    """
    return hashlib.sha256(item.encode()).digest()[0] % 2 == 0


def is_reported(item: str) -> bool:
    """The other half of :func:`is_validation`."""
    return not is_validation(item)


def responses_at(results: Results, step: int, benchmark: str | None = None) -> Iterator[Response]:
    """The graded responses at a step, those of the newest result of each benchmark.

    Args:
        results: of a run.
        step: 0 is the base.
        benchmark: only these; None: all that report a share of right answers.
    """
    newest: dict[str, EvalResult] = {}
    for result in results.all():
        if result.step == step:
            newest |= {name: result for name in _graded(result) if benchmark in (None, name)}
    for result in {id(one): one for one in newest.values()}.values():
        for response in results.responses(result):
            if newest.get(response.benchmark) is result and response.right is not None:
                yield response


def items_at(results: Results, step: int, benchmark: str | None = None) -> dict[str, Items]:
    """The items of each benchmark at a step; arguments as for :func:`responses_at`."""
    found: dict[str, Items] = {}
    for response in responses_at(results, step, benchmark):
        found.setdefault(response.benchmark, Items()).add(response)
    return found


def _graded(result: EvalResult) -> Iterator[str]:
    for name, score in result.scores.items():
        if isinstance(score, BenchmarkScore) and score.unit == "fraction":
            yield name
