"""Results of evaluations on disk, and who works on which.

One pair of files for a checkpoint and a suite, named by step, weights and suite:
``step_24-9f8e7d6c-small-1a2b3c4d.json`` with the scores and ``….jsonl.gz`` with
every response. The two hashes are the key: what has a file is not measured again.
Work in progress is claimed with a file, so that several evaluators can share it.
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

from common.rundir import read_json, write_atomic

_BEAT_S = 5.0
# A claim whose owner has not been heard of for so long is free for others.
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

    def find(self, target: EvaluatedModel, suite: str, key: str) -> dict[str, Any] | None:
        """The result of a target in a suite, if there is one."""
        return next(iter(_read([self._path(target, suite, key)])), None)

    def find_twin(self, target: EvaluatedModel, suite: str, key: str) -> dict[str, Any] | None:
        """A result of the same weights at any step."""
        name = f"step_*-{target.weights[:_SHORT]}-{suite}-{key[:_SHORT]}.json"
        return next(iter(_read(self.folder.glob(name))), None)

    def all(self) -> list[dict[str, Any]]:
        """Every result, oldest first."""
        return sorted(_read(self.folder.glob("step_*.json")), key=lambda one: one["measured"])

    def write(
        self,
        target: EvaluatedModel,
        suite: str,
        key: str,
        result: dict[str, Any],
        responses: Sequence[dict[str, Any]],
    ) -> None:
        """Keep a result; the responses first, so that a result is never without them."""
        path = self._path(target, suite, key)
        temporary = path.with_suffix(f".{os.getpid()}.partial")
        with gzip.open(temporary, "wt", encoding="utf-8") as file:
            for response in responses:
                file.write(json.dumps(response, ensure_ascii=False) + "\n")
        os.chmod(temporary, 0o600)
        os.replace(temporary, path.with_suffix(".jsonl.gz"))
        head = {
            "step": target.step,
            "weights": target.weights,
            "suite": suite,
            "suite_hash": key,
            "measured": time.time(),
        }
        write_atomic(path, json.dumps({**head, **result}, indent=1))

    def responses(self, result: dict[str, Any]) -> list[dict[str, Any]]:
        """The responses behind a result."""
        target = EvaluatedModel(result["step"], Path(), result["weights"])
        path = self._path(target, result["suite"], result["suite_hash"])
        with gzip.open(path.with_suffix(".jsonl.gz"), "rt", encoding="utf-8") as file:
            return [json.loads(line) for line in file]

    @contextlib.contextmanager
    def claim(self, target: EvaluatedModel, suite: str, key: str) -> Iterator[bool]:
        """Hold the work on one result; False where somebody else holds it.

        A claim is a numbered file that its owner touches. Taking over a stale one
        means creating the next number, which only one can; nothing is removed that
        another might have just made.
        """
        base = self._path(target, suite, key).with_suffix("").name
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
                # A number above ours is of somebody who thought that we were gone.
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
        """Gone with its process, or not touched for long by our own clock, not the file's."""
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

    def _path(self, target: EvaluatedModel, suite: str, key: str) -> Path:
        weights = target.weights[:_SHORT]
        return self.folder / f"step_{target.step}-{weights}-{suite}-{key[:_SHORT]}.json"


def by_step(folder: Path) -> list[dict[str, Any]]:
    """``{"step", "weights", "scores", "analyses"}`` of each step, the base model first.

    Where one benchmark was measured several times at a step (another subset, a
    retrained step), the latest counts.
    """
    steps: dict[int, dict[str, Any]] = {}
    for result in Results(folder).all():
        merged = steps.setdefault(result["step"], _blank(result["step"]))
        merged["weights"] = result["weights"]
        merged["scores"].update(result["scores"])
        merged["analyses"].update(result.get("analyses", {}))
    return [steps[step] for step in sorted(steps)]


def _blank(step: int) -> dict[str, Any]:
    return {"step": step, "scores": {}, "analyses": {}}


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
