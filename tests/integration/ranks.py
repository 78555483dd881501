"""The program of one rank in ``test_ranks``: many small trainings in one process.

Called as ``python ranks.py MODEL OUT CASES``; CASES is JSON, a list of
{"name", "settings", "steps", "model"?, "load"?, "save"?, "poison"?, "distilled"?}: a model
other than MODEL, a checkpoint to start from, a folder to write one to, the step whose loss the
last rank makes NaN, whether the loss is a divergence from the frozen reference. Rank 0 writes
OUT/NAME.safetensors (weights) and OUT/NAME.json ((loss, gradient norm) of each step).
"""

from __future__ import annotations

import json
import math
import os
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import distributed

from common.config.learner import LearnerSettings
from common.methods import NLL, ContextDistill
from common.records import Rollout
from learner.checkpoint_folder import CheckpointFolder
from learner.checkpoint_writer import CheckpointWriter
from learner.engine import TrainingEngine
from learner.packing import Row, rows_of_rank
from learner.teacher_inputs import TeacherInputs, forward_inputs

# Two examples share a prompt; one is alone in its row at any packing.
EXAMPLES = [
    ([1, 2, 3], [4, 5, 6]),
    ([1, 2, 3], [7, 8]),
    ([9, 10, 11, 12, 13], [14, 15]),
    ([16], [17, 18, 19, 20]),
    ([21, 22], [23]),
    ([24] * 12, [25, 26, 27]),
    ([28, 29], [30, 31, 32]),
]
ROLLOUTS = [
    Rollout(str(i), 0, 0, prompt, target, [], [], [], [], None, 0, "", True)
    for i, (prompt, target) in enumerate(EXAMPLES)
]
NUM_TARGETS = sum(len(target) for _, target in EXAMPLES)


def main() -> None:
    default_model, out, cases = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])
    torch.set_num_threads(1)
    for case in cases:
        model = Path(case.get("model", default_model))
        engine, results = run_case(model, case)
        weights = {name: weight.clone() for name, weight in engine.weights()}
        if engine.rank == 0:
            save_file(weights, out / f"{case['name']}.safetensors")
            (out / f"{case['name']}.json").write_text(json.dumps(results))
        if "save" in case:
            folder = CheckpointFolder(Path(case["save"]))
            writer = CheckpointWriter(folder, model, lambda generation, step: None)
            writer.begin(engine, 1, case["steps"])
            writer.wait()
    # Ends Gloo's threads while Python still runs. A thread that drops its last tensor after that
    # point asks for the interpreter's lock and aborts the process instead (torch 2.13).
    distributed.destroy_process_group()


def run_case(model: Path, case: dict[str, Any]) -> tuple[TrainingEngine, list[tuple[float, float]]]:
    """One training as this rank, and (loss, gradient norm) of each step."""
    rank, ranks = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    settings = LearnerSettings(
        **{
            "ranks": ranks,
            "batch_size": len(EXAMPLES),
            "device": "cpu",
            "dtype": "float32",
            "row_tokens": 32,
            **case["settings"],
        }
    )
    loss = ContextDistill(divergence="jsd").loss if case.get("distilled") else NLL()
    engine = TrainingEngine(model, settings, loss=loss, seed=0)
    if "load" in case:
        engine.load_state(Path(case["load"]))
    rows = rows_of_rank(EXAMPLES, settings, rank)
    poison = case.get("poison") if rank == ranks - 1 else None
    teacher_inputs: list[TeacherInputs | None] = []
    if case.get("distilled"):
        build_teacher_inputs = forward_inputs(expert, settings)
        teacher_inputs = [build_teacher_inputs(row, ROLLOUTS) if row else None for row in rows]
    return engine, train(engine, rows, teacher_inputs, case["steps"], poison)


def expert(fact_id: str) -> list[int]:
    """The prompt of an example, plus tokens that only the teacher sees."""
    return [*EXAMPLES[int(fact_id)][0], 40, 41, 42]


def train(
    engine: TrainingEngine,
    rows: list[Row | None],
    teacher_inputs: list[TeacherInputs | None],
    steps: int,
    poison: int | None,
) -> list[tuple[float, float]]:
    """(loss, gradient norm) of each step."""
    head = engine._student.head
    loss, results = head._loss, []
    for step in range(1, steps + 1):
        head._loss = (lambda *given: loss(*given) * math.nan) if step == poison else loss
        results.append(engine.step(rows, NUM_TARGETS, 1e-3, teacher_inputs))
    return results


if __name__ == "__main__":
    main()
