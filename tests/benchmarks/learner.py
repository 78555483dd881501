"""Useful tokens/s of the learner, of TRL's SFTTrainer, and of bare PyTorch; one thread.

``make bench-learner``. All train the embedded model in bfloat16 on the same KGFact-Large
facts, the same number a step. Useful tokens are prompt and target, without padding. Each
contender runs in a process of its own; a figure is the median of its steps after the first.
The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from common import corpora, models
from common.config.learner import LearnerSettings
from common.corpora.settings import DataSettings, KGFactSettings
from common.prompts import PRESETS, Prompts
from learner.packing import Example
from tests.benchmarks.timing import timed_calls
from tests.benchmarks.trainers import Bare, Ours, matrix_flops, num_targets, rate, timed, trl

BATCH = 20
STEPS = 3
ROW_TOKENS = 2048
# TRL's default length of a row; it holds 13 of these examples.
TRL_ROW_TOKENS = 1024
VOCABULARY = 151_936


def examples(count: int) -> list[Example]:
    """Naive prompt and canonical target of the first facts of KGFact-Large."""
    model = models.load(models.resolve(models.PACKAGED))
    prompts = Prompts(model.tokenizer, PRESETS["kgfact"], model.stop_token_ids[0])
    facts = corpora.load(DataSettings(kgfact=KGFactSettings(domains=7, entities=25))).facts
    return [(prompts.naive(fact), prompts.canonical(fact)) for fact in facts[:count]]


def batches() -> list[list[Example]]:
    """One batch a step; the first is warm-up."""
    data = examples(BATCH * (STEPS + 1))
    return [data[at : at + BATCH] for at in range(0, len(data), BATCH)]


def model_dir() -> Path:
    return models.resolve(models.PACKAGED)


def ours(share_prompts: bool = True) -> dict[str, float]:
    """The learner's own step, stage 0.

    Its operations are those of the tokens it computes: a shared prompt prefix is useful in
    each example and computed once.
    """
    settings = LearnerSettings(
        device="cpu", batch_size=BATCH, row_tokens=ROW_TOKENS, share_prompts=share_prompts
    )
    trainer, data = Ours(model_dir(), settings), batches()
    optimizer_seconds = timed_calls(trainer.engine._backend, "step")
    readings = timed(trainer, data)
    body, head = _parameters(trainer.engine)
    rates = [
        6.0 * (body * reading.computed + head * num_targets(batch)) / reading.seconds
        for reading, batch in zip(readings, data[1:], strict=True)
    ]
    return {
        "tokens_per_s": rate(readings),
        "optimizer_s": statistics.median(optimizer_seconds[1:]),
        "gflops": statistics.median(rates) / 1e9,
        "gemm_gflops": matrix_flops("cpu", 2048) / 1e9,
    }


def bare() -> dict[str, float]:
    """Plain PyTorch on the same packed rows."""
    return {"tokens_per_s": rate(timed(Bare(model_dir(), "cpu", ROW_TOKENS), batches()))}


def trl_trainer(packing: bool) -> dict[str, float]:
    """TRL's SFTTrainer on the same examples."""
    data = [example for batch in batches() for example in batch]
    row_tokens = TRL_ROW_TOKENS if packing else None
    rows, steps = (2, 3) if packing else (BATCH, STEPS + 1)
    return {
        "tokens_per_s": rate(
            trl(model_dir(), "cpu", data, rows=rows, steps=steps, row_tokens=row_tokens)
        )
    }


def memory(naive: bool) -> dict[str, float]:
    """Peak memory of loss and gradients over 2,048 targets at a large vocabulary, MiB."""
    import torch
    import torch.nn.functional as F

    from learner.losses import nll

    hidden = torch.randn(2048, 576, dtype=torch.bfloat16, requires_grad=True)
    weight = torch.randn(VOCABULARY, 576, dtype=torch.bfloat16, requires_grad=True)
    targets = torch.randint(VOCABULARY, (2048,))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if naive:
        loss = F.cross_entropy((hidden @ weight.T).float(), targets, reduction="sum")
    else:
        loss = nll(hidden, weight, None, targets)
    began = time.perf_counter()
    loss.backward()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return {"peak_mib": peak / 1024, "backward_s": time.perf_counter() - began}


CONTENDERS: dict[str, Callable[[], dict[str, float]]] = {
    "ours": ours,
    "ours_unshared": lambda: ours(share_prompts=False),
    "bare": bare,
    "trl_default": lambda: trl_trainer(packing=False),
    "trl_packed": lambda: trl_trainer(packing=True),
    "memory_naive": lambda: memory(naive=True),
    "memory_chunked": lambda: memory(naive=False),
}


def _parameters(engine: object) -> tuple[int, int]:
    """Parameters that every token meets in matrix products, and those of the head."""
    student = engine._student  # type: ignore[attr-defined]
    head = student.head.weight
    return sum(p.numel() for p in student.parameters() if p is not head), head.numel()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=CONTENDERS, help="run one contender in this process")
    only = parser.parse_args().only
    if only:
        print(json.dumps(CONTENDERS[only]()))
        return
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_VERBOSITY": "error",
    }
    found = {}
    for name in CONTENDERS:
        command = [sys.executable, "-m", "tests.benchmarks.learner", "--only", name]
        result = subprocess.run(
            command, env=environment, stdout=subprocess.PIPE, text=True, check=True
        )
        found[name] = json.loads(result.stdout.splitlines()[-1])
        print(name, json.dumps({key: round(value, 3) for key, value in found[name].items()}))
    rates = {name: value["tokens_per_s"] for name, value in found.items() if "memory" not in name}
    report = {f"{name}_tokens_per_s": round(value, 1) for name, value in rates.items()}
    report |= {
        f"vs_{name}": round(rates["ours"] / value, 2)
        for name, value in rates.items()
        if name != "ours"
    }
    report["mfu"] = round(found["ours"]["gflops"] / found["ours"]["gemm_gflops"], 3)
    print(json.dumps(report))


if __name__ == "__main__":
    main()
