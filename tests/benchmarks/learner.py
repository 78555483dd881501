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
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from common import corpora, models
from common.corpora.settings import DataSettings, KGFactSettings
from common.prompts import PRESETS, Prompts

BATCH = 20
STEPS = 3
ROW_TOKENS = 2048
VOCABULARY = 151_936


def examples(count: int) -> list[tuple[list[int], list[int]]]:
    """Naive prompt and canonical target of the first facts of KGFact-Large."""
    model = models.load(models.resolve(models.PACKAGED))
    prompts = Prompts(model.tokenizer, PRESETS["kgfact"], model.stop_token_ids[0])
    facts = corpora.load(DataSettings(kgfact=KGFactSettings(domains=7, entities=25))).facts
    return [(prompts.naive(fact), prompts.canonical(fact)) for fact in facts[:count]]


def batches() -> list[list[tuple[list[int], list[int]]]]:
    """One batch a step; the first is warm-up."""
    data = examples(BATCH * (STEPS + 1))
    return [data[at : at + BATCH] for at in range(0, len(data), BATCH)]


def rate(tokens: list[int], seconds: list[float]) -> float:
    """Median tokens/s without the first step."""
    return statistics.median(n / s for n, s in zip(tokens[1:], seconds[1:], strict=True))


def num_tokens(batch: list[tuple[list[int], list[int]]]) -> int:
    return sum(len(prompt) + len(target) for prompt, target in batch)


def model_dir() -> Path:
    return models.resolve(models.PACKAGED)


def ours(share_prompts: bool = True) -> dict[str, float]:
    """The learner's own step, stage 0.

    Its operations are those of the tokens it computes: a shared prompt prefix is useful in
    each example and computed once.
    """
    from common.config.learner import LearnerSettings
    from common.methods import NLL
    from learner.engine import TrainingEngine
    from learner.packing import rows_of_rank

    settings = LearnerSettings(
        device="cpu", batch_size=BATCH, row_tokens=ROW_TOKENS, share_prompts=share_prompts
    )
    engine = TrainingEngine(model_dir(), settings, loss=NLL(), seed=0)
    optimizer_seconds = _timed(engine._backend, "step")
    seconds, tokens, operations = [], [], []
    for batch in batches():
        began = time.perf_counter()
        num_targets = sum(len(target) for _, target in batch)
        rows = rows_of_rank(batch, settings, 0)
        engine.step(rows, num_targets, 1e-5)
        seconds.append(time.perf_counter() - began)
        tokens.append(num_tokens(batch))
        body, head = _parameters(engine)
        computed = sum(len(row.inputs_T) for row in rows if row is not None)
        operations.append(6.0 * (body * computed + head * num_targets))
    return {
        "tokens_per_s": rate(tokens, seconds),
        "optimizer_s": statistics.median(optimizer_seconds[1:]),
        "gflops": statistics.median(
            o / s / 1e9 for o, s in zip(operations[1:], seconds[1:], strict=True)
        ),
        "gemm_gflops": gemm(),
    }


def gemm() -> float:
    """The machine's bf16 matrix product, 2048³, GFLOP/s: median of 9."""
    import torch

    size = 2048
    left, right = (torch.randn(size, size).bfloat16() for _ in range(2))
    rates = []
    for _ in range(10):
        began = time.perf_counter()
        left @ right
        rates.append(2 * size**3 / (time.perf_counter() - began) / 1e9)
    return statistics.median(rates[1:])


def bare() -> dict[str, float]:
    """Plain PyTorch: the same packed rows, all positions through the head, fused AdamW."""
    import torch
    import torch.nn.functional as F
    from transformers import AutoModelForCausalLM

    from learner.packing import pack

    model = AutoModelForCausalLM.from_pretrained(
        model_dir(), dtype=torch.bfloat16, attn_implementation="sdpa"
    )
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    seconds, tokens = [], []
    for batch in batches():
        began = time.perf_counter()
        num_targets = sum(len(target) for _, target in batch)
        for row in pack(batch, ROW_TOKENS):
            labels = torch.full((len(row.inputs_T),), -100)
            labels[torch.as_tensor(row.predict_K)] = torch.as_tensor(row.targets_K)
            logits = model(
                input_ids=torch.as_tensor(row.inputs_T)[None],
                position_ids=torch.as_tensor(row.positions_T)[None],
                use_cache=False,
            ).logits[0]
            loss = F.cross_entropy(logits.float(), labels, reduction="sum") / num_targets
            loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.perf_counter() - began)
        tokens.append(num_tokens(batch))
    return {"tokens_per_s": rate(tokens, seconds)}


def trl(packing: bool) -> dict[str, float]:
    """TRL's SFTTrainer as it comes, on bfloat16 weights and the same examples."""
    from datasets import Dataset
    from transformers import AutoTokenizer, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    class Clock(TrainerCallback):
        seconds: list[float]

        def __init__(self) -> None:
            self.seconds = []

        def on_step_begin(self, *_: object, **__: object) -> None:
            self._began = time.perf_counter()

        def on_step_end(self, *_: object, **__: object) -> None:
            self.seconds.append(time.perf_counter() - self._began)

    data = [example for batch in batches() for example in batch]
    dataset = Dataset.from_list(
        [{"input_ids": [*p, *t], "completion_mask": [0] * len(p) + [1] * len(t)} for p, t in data]
    )
    # A packed row of TRL's default length holds 13 of these examples.
    rows = 2 if packing else BATCH
    tokens: list[int] = []
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        trainer = SFTTrainer(
            model=str(model_dir()),
            args=SFTConfig(
                output_dir=folder,
                packing=packing,
                per_device_train_batch_size=rows,
                max_steps=min(STEPS + 1, 3 if packing else STEPS + 1),
                use_cpu=True,
                report_to="none",
                save_strategy="no",
                disable_tqdm=True,
                model_init_kwargs={"dtype": "bfloat16"},
            ),
            train_dataset=dataset,
            processing_class=AutoTokenizer.from_pretrained(model_dir()),
            callbacks=[clock],
        )
        collate = trainer.data_collator

        def counted(features: list[dict[str, list[int]]]) -> dict[str, object]:
            tokens.append(sum(len(feature["input_ids"]) for feature in features))
            batch: dict[str, object] = collate(features)
            return batch

        trainer.data_collator = counted
        trainer.train()
    return {"tokens_per_s": rate(tokens[: len(clock.seconds)], clock.seconds)}


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
    "trl_default": lambda: trl(packing=False),
    "trl_packed": lambda: trl(packing=True),
    "memory_naive": lambda: memory(naive=True),
    "memory_chunked": lambda: memory(naive=False),
}


def _timed(owner: object, name: str) -> list[float]:
    """Seconds of every call of a method from here on."""
    method, seconds = getattr(owner, name), []

    def call(*arguments: object) -> object:
        began = time.perf_counter()
        result = method(*arguments)
        seconds.append(time.perf_counter() - began)
        return result

    setattr(owner, name, call)
    return seconds


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
        "RANK": "0",
        "LOCAL_RANK": "0",
        "WORLD_SIZE": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "0",
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
