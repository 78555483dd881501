"""The run folder: its files, and how they are replaced.

``config.yaml``    resolved configuration
``identity.json``  hashes of what the run is made of besides
``replay.sqlite``  the ledger
``checkpoints/``   ``step_N/``, immutable, complete once ``manifest.json`` is there; in
                   ``.superseded/`` what recovery has moved aside
``eval/``          results by step, weights and suite (``actors.evaluation.results``); in
                   ``base/`` those of the base model, if several runs share them
``metrics.jsonl``  one line a second while the run goes
``steps.jsonl``    one line a training step
``status.json``    what ``mixsd-cluster status`` shows; rewritten each second
``events.jsonl``   what happened: restarts, scaling, ends
``desired.json``   requested changes to the live run; absent: as configured
``cluster.json``   the local Ray cluster, where the run started one
``warm/``          idle actors of other runs, if several runs share a Ray head
``weights.json``   location of the student's published weights, while a run needs them
``tensorboard/``   event files, if enabled
``.*.lock``        who starts, controls or changes the run (``deploy.cluster.run_lock``)
``report.html``, and its numbers in ``report.json`` and ``report.csv``; ``logs/``
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from io import RawIOBase
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from common import durable


class RunDir:
    """Paths of one run."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.config = root / "config.yaml"
        self.identity = root / "identity.json"
        self.plan = root / "plan.json"
        self.ledger = root / "replay.sqlite"
        self.checkpoints = root / "checkpoints"
        self.eval = root / "eval"
        self.eval_shared = self.eval / "base"
        self.metrics = root / "metrics.jsonl"
        self.steps = root / "steps.jsonl"
        self.status = root / "status.json"
        self.events = root / "events.jsonl"
        self.desired = root / "desired.json"
        self.cluster = root / "cluster.json"
        self.warm = root / "warm"
        self.weights = root / "weights.json"
        self.tensorboard = root / "tensorboard"
        self.token = root / "ray.token"
        self.report = root / "report.html"
        self.logs = root / "logs"

    @property
    def name(self) -> str:
        """The run's name is its folder's."""
        return self.root.name

    def create(self) -> None:
        """Make the folders; the run's own is private to its owner."""
        self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        for folder in (self.checkpoints, self.eval, self.logs):
            folder.mkdir(exist_ok=True, mode=0o700)


# With less than this nothing useful can be written.
_LEAST_FREE_BYTES = 2**20
# With less than this a role that found its disk full has probably found this one.
LOW_BYTES = 2**28


def is_full(folder: Path, least: int = _LEAST_FREE_BYTES) -> bool:
    """Whether the disk under ``folder`` has less than ``least`` bytes left."""
    return shutil.disk_usage(folder).free < least


def write_atomic(path: Path, text: str, mode: int = 0o600) -> None:
    """Replace ``path`` by ``text``: a reader sees the old file or the new one, whole."""
    with replacing(path, mode) as file:
        file.write(text)


@contextlib.contextmanager
def replacing(path: Path, mode: int = 0o600) -> Iterator[TextIO]:
    """A file that takes the place of ``path`` once it is whole and on disk."""
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            yield file
        os.chmod(temporary, mode)
        durable.sync(Path(temporary))
        durable.rename(Path(temporary), path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in ``path``; None where the file is missing."""
    try:
        value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return value


def read_jsonl(path: Path, last: int | None = None) -> list[dict[str, Any]]:
    """The objects in ``path``, one a line; what a kill or a power cut left of one is left out.

    With ``last`` only so many, the newest; the file is then read from its end.
    """
    if last is None:
        return list(iter_jsonl(path))
    try:
        with path.open("rb") as file:
            content = _tail(file, last)
    except FileNotFoundError:
        return []
    *lines, _ = content.split(b"\n")
    return [*_objects(lines[-last:])]


def iter_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """The same objects, read one at a time: the steps of a long run do not fit into memory."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        yield from _objects(line for line in file if line.endswith(b"\n"))


def _objects(lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    for line in lines:
        with contextlib.suppress(ValueError):
            if isinstance(value := json.loads(line), dict):
                yield value


def _tail(file: BinaryIO, lines: int) -> bytes:
    """The end of ``file`` from a line's start on, with at least ``lines`` whole ones if any."""
    end, size = file.seek(0, os.SEEK_END), 2**14
    while True:
        start = file.seek(max(0, end - size))
        content = file.read(end - start)
        if start == 0:
            return content
        if content.count(b"\n") > lines:
            return content.partition(b"\n")[2]
        size *= 4


def append_jsonl(path: Path, value: dict[str, Any]) -> None:
    """Add a line to ``path``, or nothing at all where the disk is full.

    Raises:
        OSError: it could not be written.
    """
    line = (json.dumps(value) + "\n").encode()
    with path.open("a+b", buffering=0) as file:
        end = _cut_torn_line(file)
        if (written := file.write(line)) != len(line):
            # A partial line would corrupt the next one.
            file.truncate(end)
            raise OSError(errno.ENOSPC, f"{written} of {len(line)} bytes fit", str(path))


def _cut_torn_line(file: RawIOBase) -> int:
    """Remove the unfinished line that a killed writer left at the end; gives the new size."""
    end = size = file.seek(0, os.SEEK_END)
    while end:
        start = max(0, end - 2**14)
        file.seek(start)
        newline = (file.read(end - start) or b"").rfind(b"\n")
        end = start + newline + 1
        if newline >= 0:
            break
    if end != size:
        file.truncate(end)
    return end


def finite(value: Any) -> Any:
    """``value`` with None for NaN and infinities, which JSON does not support."""
    if isinstance(value, dict):
        return {key: finite(part) for key, part in value.items()}
    if isinstance(value, list):
        return [finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
