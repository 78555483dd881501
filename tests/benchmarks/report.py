"""What the report of a long run costs: ``make bench-report``.

Builds the folders of two runs and writes the report of each in a process of its own:

- ``mixsd``: 10⁶ rollouts of 100 target tokens, a quarter of them scored, and 10⁵ steps of 160
  exposures;
- ``opsd``: 10⁴ rollouts of 256 target tokens, with the teacher's 64 likeliest tokens at each.

Prints a table and, last, one line of JSON: peak resident memory and seconds.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from common.config import run_config
from common.ledger import Accepted, Ledger
from common.records import Rollout, pack_rollout
from common.rundir import RunDir

PROMPT_TOKENS, TOP_K, BATCH, INSERTED_AT_ONCE = 40, 64, 160, 1000
CONFIGS = Path(__file__).parents[2] / "configs"


def build(root: Path, *, rollouts: int, steps: int, teacher_scores: bool) -> RunDir:
    """The folder of a run with so many rollouts and lines of steps."""
    run = RunDir(root)
    run.create()
    overlays = [CONFIGS / "paper/methods/opsd.yaml"] if teacher_scores else []
    run.config.write_text(run_config.dump(run_config.load(CONFIGS / "8b.yaml", (), overlays)))
    ledger = Ledger(run.ledger, epochs=1, seed=0)
    ledger.add_work((f"fact-{index}", 0) for index in range(rollouts))
    payloads = itertools.cycle(list(_payloads(teacher_scores)))
    for first in range(0, rollouts, INSERTED_AT_ONCE):
        last = min(first + INSERTED_AT_ONCE, rollouts)
        batch = [Accepted(f"fact-{n}", 0, next(payloads), 1) for n in range(first, last)]
        assert all(ledger.insert_many(batch))
    ledger.close()
    exposures = [[f"fact-{index}", 0, 0] for index in range(BATCH)]
    with run.steps.open("w") as file:
        for step in range(1, steps + 1):
            loss = {"skipped": True} if step % 1000 == 0 else {"loss": 3 / step}
            rest = {"tokens": 9000, "seconds": 2.0, "exposures": exposures}
            file.write(json.dumps({"step": step, **loss, **rest}) + "\n")
    return run


def _payloads(teacher_scores: bool) -> Iterator[bytes]:
    """Packed rollouts with plausible values; their fact is not the work item's."""
    rng = random.Random(0)
    tokens = 256 if teacher_scores else 100

    def logprobs(count: int) -> list[float]:
        return [-rng.expovariate(0.5) for _ in range(count)]

    def top(count: int) -> bytes:
        ids = (rng.randrange(49152) for _ in range(count))
        return struct.pack(f"<{count}i{count}f", *ids, *logprobs(count))

    for index in range(100):
        scored = not teacher_scores and index % 4 == 0
        yield pack_rollout(
            Rollout(
                fact_id=f"fact-{index}",
                draw=0,
                attempt=0,
                prompt_ids=[rng.randrange(49152) for _ in range(PROMPT_TOKENS)],
                target_ids=[rng.randrange(49152) for _ in range(tokens)],
                naive=[rng.randrange(2) for _ in range(tokens)],
                logprobs=logprobs(tokens),
                base_logprobs=logprobs(tokens) if scored else [],
                canonical_logprobs=logprobs(12) if scored else [],
                mix_rate=0.3,
                num_protected=0,
                fallback="",
                verified=True,
                teacher_scores=top(TOP_K * tokens) if teacher_scores else b"",
            )
        )


def measure(run: RunDir) -> dict[str, float]:
    """Peak resident MiB and seconds of a process that writes the report."""
    command = [sys.executable, "-m", "tests.benchmarks.report", "--write", str(run.root)]
    root = Path(__file__).parents[2]
    result = subprocess.run(
        command,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    figures: dict[str, float] = json.loads(result.stdout)
    return figures


def write(root: Path) -> dict[str, float]:
    """Write the report in this process."""
    from deploy.report.files import write_report

    began = time.perf_counter()
    write_report([RunDir(root)])
    seconds = time.perf_counter() - began
    # Not getrusage: its peak includes that of the process which started this one.
    status = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    return {
        "peak_mib": round(int(status["VmHWM"].split()[0]) / 1024, 1),
        "seconds": round(seconds, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rollouts", type=int, default=1_000_000)
    parser.add_argument("--teacher-rollouts", type=int, default=10_000)
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--write", type=Path, help="write the report of this run and nothing else")
    arguments = parser.parse_args()
    if arguments.write is not None:
        print(json.dumps(write(arguments.write)))
        return
    sizes = {"mixsd": arguments.rollouts, "opsd": arguments.teacher_rollouts}
    folder = Path(tempfile.mkdtemp(prefix="bench-report-"))
    found = {}
    print(f"{'':>6} {'rollouts':>9} {'ledger, MiB':>12} {'peak MiB':>9} {'seconds':>8}")
    try:
        for name, rollouts in sizes.items():
            run = build(
                folder / name,
                rollouts=rollouts,
                steps=arguments.steps,
                teacher_scores=name == "opsd",
            )
            found[name] = measure(run)
            row = found[name]
            ledger = run.ledger.stat().st_size // 2**20
            print(
                f"{name:>6} {rollouts:>9} {ledger:>12} {row['peak_mib']:>9} {row['seconds']:>8}",
                flush=True,
            )
            shutil.rmtree(run.root)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
