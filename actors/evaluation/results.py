"""Evaluation results on disk, and the claims of the evaluators that work on them.

Each checkpoint and suite has a pair of files, named by step, weights and suite:
``step_24-9f8e7d6c-small-1a2b3c4d.json`` with the scores and ``….jsonl.gz`` with
every response. The two hashes are the key: a result that has a file is not measured
again. A claim file marks work in progress, so that several evaluators can share it.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import socket
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from actors.evaluation.scores import Analyses, EvalResult, Response, Scores, StepResults
from common import durable
from common.rundir import read_json, write_atomic

_BEAT_S = 5.0
# A claim that its owner has not touched for this long is free for others.
_STALE_S = 60.0
_SHORT = 8


@dataclass(frozen=True, slots=True)
class EvaluatedModel:
    """Weights to measure: the base is step 0."""

    step: int
    folder: Path
    weights: str


class Results:
    """The results in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # Claim -> (its time stamp, when we first saw that stamp).
        self._seen: dict[Path, tuple[float, float]] = {}

    def find(self, model: EvaluatedModel, suite: str, key: str) -> EvalResult | None:
        """The result of a model in a suite, if there is one."""
        return _first([self._path(model, suite, key)])

    def find_twin(self, model: EvaluatedModel, suite: str, key: str) -> EvalResult | None:
        """A result of the same weights at any step."""
        name = f"step_*-{model.weights[:_SHORT]}-{suite}-{key[:_SHORT]}.json"
        return _first(self.folder.glob(name))

    def all(self) -> list[EvalResult]:
        """Every result, oldest first."""
        return [EvalResult.from_json(one) for one in _oldest_first(self.folder)]

    def write(
        self,
        model: EvaluatedModel,
        suite: str,
        key: str,
        scores: Scores,
        responses: Sequence[Response] = (),
        *,
        seconds: float | None = None,
        analyses: Analyses | None = None,
    ) -> None:
        """Keep a result; the responses first, so that a result is never without them.

        Args:
            model: the weights that were measured.
            suite: name of the suite or analysis.
            key: hash of what decides the scores besides the weights.
            scores: by benchmark; empty for an analysis.
            responses: behind the scores.
            seconds: that measuring took.
            analyses: what an analysis found.
        """
        path = self._path(model, suite, key)
        temporary = path.with_suffix(f".{os.getpid()}.partial")
        with gzip.open(temporary, "wt", encoding="utf-8") as file:
            for response in responses:
                file.write(json.dumps(response.to_json(), ensure_ascii=False) + "\n")
        os.chmod(temporary, 0o600)
        durable.sync(temporary)
        durable.rename(temporary, path.with_suffix(".jsonl.gz"))
        result = EvalResult(
            step=model.step,
            weights=model.weights,
            suite=suite,
            suite_hash=key,
            measured=time.time(),
            scores=scores,
        )
        # What is None stays absent from the file.
        more = {"seconds": seconds, "analyses": analyses}
        given = {name: value for name, value in more.items() if value is not None}
        write_atomic(path, json.dumps(result.model_copy(update=given).to_json(), indent=1))

    def responses(self, result: EvalResult) -> list[Response]:
        """The responses behind a result."""
        model = EvaluatedModel(result.step, Path(), result.weights)
        path = self._path(model, result.suite, result.suite_hash)
        with gzip.open(path.with_suffix(".jsonl.gz"), "rt", encoding="utf-8") as file:
            return [Response.from_json(json.loads(line)) for line in file]

    @contextlib.contextmanager
    def claim(self, model: EvaluatedModel, suite: str, key: str) -> Iterator[bool]:
        """Claim the work on one result; yields False if another evaluator holds it.

        A claim is a numbered file that its owner touches. To take over a stale claim,
        an evaluator creates the next number, which only one can do. No file is removed
        that another evaluator may have just created.
        """
        base = self._path(model, suite, key).with_suffix("").name
        held = self._take(base)
        if held is None:
            yield False
            return
        ended = threading.Event()
        beat = threading.Thread(target=_beat, args=(held, ended), daemon=True)
        beat.start()
        try:
            yield True
        finally:
            ended.set()
            beat.join()
            for path in self._claims(base):
                # A higher number belongs to an evaluator that took us for dead.
                if _number(path) <= _number(held):
                    path.unlink(missing_ok=True)

    def _take(self, base: str) -> Path | None:
        claims = self._claims(base)
        if claims and not self._is_stale(claims[-1]):
            return None
        number = _number(claims[-1]) + 1 if claims else 0
        path = self.folder / f".{base}.claim-{number}"
        owner = json.dumps({"host": socket.gethostname(), "pid": os.getpid()})
        try:
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        except FileExistsError:
            return None
        with os.fdopen(descriptor, "w") as file:
            file.write(owner)
        return path

    def _claims(self, base: str) -> list[Path]:
        return sorted(self.folder.glob(f".{base}.claim-*"), key=_number)

    def _is_stale(self, path: Path) -> bool:
        """Whether its process is gone, or our own clock has seen no touch for long."""
        try:
            stamp = path.stat().st_mtime
            owner = json.loads(path.read_text())
        except FileNotFoundError:
            return False
        except ValueError:
            owner = {}
        if owner.get("host") == socket.gethostname() and not _is_alive(owner["pid"]):
            return True
        now = time.monotonic()
        known, since = self._seen.get(path, (None, now))
        if known != stamp:
            since = now
        self._seen[path] = (stamp, since)
        return now - since > _STALE_S

    def _path(self, model: EvaluatedModel, suite: str, key: str) -> Path:
        weights = model.weights[:_SHORT]
        return self.folder / f"step_{model.step}-{weights}-{suite}-{key[:_SHORT]}.json"


def by_step(folder: Path) -> list[StepResults]:
    """The results of each step, the base model first.

    If a benchmark was measured several times at a step (another subset, a retrained
    step), the latest score is used.
    """
    steps: dict[int, dict[str, Any]] = {}
    for result in _oldest_first(folder):
        step = result["step"]
        merged = steps.setdefault(step, {"step": step, "scores": {}, "analyses": {}})
        merged["weights"] = result["weights"]
        merged["scores"].update(result["scores"])
        merged["analyses"].update(result.get("analyses", {}))
    return [StepResults.from_json(steps[step]) for step in sorted(steps)]


def base_scores(results: Sequence[StepResults]) -> Scores:
    """The base model's scores; empty if it was not measured."""
    return results[0].scores if results and results[0].step == 0 else {}


def _first(paths: Iterable[Path]) -> EvalResult | None:
    return next((EvalResult.from_json(one) for one in _read(paths)), None)


def _oldest_first(folder: Path) -> list[dict[str, Any]]:
    return sorted(_read(folder.glob("step_*.json")), key=lambda one: one["measured"])


def _read(paths: Iterable[Path]) -> list[dict[str, Any]]:
    found = [read_json(path) for path in paths]
    return [one for one in found if one is not None and "suite_hash" in one]


def _number(claim: Path) -> int:
    return int(claim.name.rpartition("-")[2])


def _beat(claim: Path, ended: threading.Event) -> None:
    while not ended.wait(_BEAT_S):
        with contextlib.suppress(FileNotFoundError):
            os.utime(claim)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
