"""Real small runs with 1..N rollout actors against the simulation of the same runs.

    python -m tests.benchmarks.simulation [--actors 1,2,3] [--cores 2]

Needs the cores to itself. The first run gives the service time (the engine's
speed) and the outcome of attempts (how many a fact, how long); with these the
simulation must foretell the throughput of the others. The last line is JSON:
accepted rollouts/s, measured and simulated, and their ratio, by number of actors.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from common.config.run_config import RunConfig, parse
from common.rundir import RunDir, read_jsonl
from deploy.planning import devices, planner
from deploy.planning.simulation import SimulationResult, System, simulate

# So many that starting and the last facts weigh little.
_FACTS_A_DOMAIN, _EPOCHS = 24, 1


@dataclass(frozen=True)
class Measured:
    """Of one real run. ``rate``: accepted rollouts/s from the first lease to the last rollout."""

    rate: float
    attempts_a_fact: float
    tokens_an_attempt: float


def configuration(actors: int) -> RunConfig:
    raw = {
        "name": f"actors-{actors}",
        "prompts": "short-sentence",
        "method": {"name": "mixsd", "mix_rate": 0.1},
        "data": {"kgfact": {"domains": 5, "entities": _FACTS_A_DOMAIN}},
        "rollout": {
            **{"actors": actors, "slots": 16, "max_tokens": 40},
            "on_exhausted": "canonical",
        },
        "learner": {"epochs": _EPOCHS, "batch_size": 10, "checkpoint_every": 1000},
        "evaluator": {"actors": 0},
        "cluster": {"start_timeout_s": 300},
    }
    return parse(raw, "benchmark")


def run_for_real(config: RunConfig, runs: Path) -> Measured:
    path = runs / f"{config.name}.json"
    path.write_text(config.model_dump_json())
    command = [sys.executable, "-m", "deploy.cli.main"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(
        [*command, "up", str(path), "--runs", str(runs)],
        check=True,
        env=environment,
        stdout=sys.stderr,
    )
    return read(RunDir(runs / config.name))


def read(run: RunDir) -> Measured:
    lines = read_jsonl(run.metrics)
    series = [(line["time"], line["series"].get("replay", {})) for line in lines]
    # A queue that is starting or ending has no counts.
    queue = [(time, now) for time, now in series if "mixsd_replay_leased" in now]
    total = queue[-1][1]["mixsd_replay_rollouts"]
    began = next(time for time, now in queue if now["mixsd_replay_leased"])
    ended = next(time for time, now in queue if now["mixsd_replay_rollouts"] == total)
    # An actor's counters end with it, so each actor's highest count stands for it.
    counts: dict[str, tuple[float, float]] = {}
    for line in lines:
        for name, series in line["series"].items():
            if "mixsd_attempts_total" in series:
                counts[name] = (
                    series["mixsd_attempts_total"],
                    series["mixsd_rollout_tokens_total"],
                )
    attempts = sum(count for count, _ in counts.values())
    tokens = sum(count for _, count in counts.values())
    return Measured(total / (ended - began), attempts / total, tokens / attempts)


def simulated(
    config: RunConfig, first: Measured, cores: int, speed: float = 1.0
) -> SimulationResult:
    device = devices.find("cpu", cores)
    device = replace(
        device,
        body_flops=speed * device.body_flops,
        draw_flops=speed * device.draw_flops,
        score_flops=speed * device.score_flops,
    )
    system = planner.system_of(config, device, target_tokens=round(first.tokens_an_attempt))
    workload = replace(system.workload, acceptance=acceptance(system, first.attempts_a_fact))
    return simulate(replace(system, workload=workload))


def acceptance(system: System, attempts: float) -> float:
    """The share of attempts that verify at which a fact takes ``attempts`` on average."""
    low, high = 1e-3, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        more = replace(system.workload, acceptance=middle).attempts > attempts
        low, high = (middle, high) if more else (low, middle)
    return high


def speed_of(config: RunConfig, first: Measured, cores: int) -> float:
    """How many times as fast as ``devices`` has it the engine must be to match ``first``."""
    low, high = 0.1, 10.0
    for _ in range(20):
        middle = (low * high) ** 0.5
        slower = simulated(config, first, cores, middle).rollouts_per_s < first.rate
        low, high = (middle, high) if slower else (low, middle)
    return high


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--actors", default="1,2,3")
    parser.add_argument("--cores", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    counts = [int(part) for part in arguments.actors.split(",")]
    result = {}
    with tempfile.TemporaryDirectory() as folder:
        measured = {n: run_for_real(configuration(n), Path(folder)) for n in counts}
    first = measured[counts[0]]
    speed = speed_of(configuration(counts[0]), first, arguments.cores)
    print(f"{first.attempts_a_fact:.2f} attempts a fact, {first.tokens_an_attempt:.1f} tokens each")
    print(f"engine at {speed:.2f} of its calibrated speed")
    for n, real in measured.items():
        guess = simulated(configuration(n), first, arguments.cores, speed).rollouts_per_s
        plain = simulated(configuration(n), first, arguments.cores).rollouts_per_s
        result[n] = {
            "measured_rollouts_per_s": round(real.rate, 3),
            "simulated_rollouts_per_s": round(guess, 3),
            "simulated_as_calibrated": round(plain, 3),
            "ratio": round(guess / real.rate, 3),
        }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
