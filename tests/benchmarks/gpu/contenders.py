"""The contenders of ``make bench-gpu``, the most important first."""

from __future__ import annotations

from functools import partial

from tests.benchmarks.gpu import decoding, system, training
from tests.benchmarks.gpu.processes import Contender
from tests.benchmarks.gpu.speculation import speculation

MACHINE = "machine"


def _learner(shape: str, row: str, small: str = "", zero_stage: int = 0) -> Contender:
    rows = (row, small) if small else (row,)
    measure = partial(training.ours, shape=shape, row=row, small=small, zero_stage=zero_stage)
    return Contender(rows, 150, measure)


def _trl(row: str, packed: bool) -> Contender:
    measure = partial(training.sft_trainer, shape="1.7b", row=row, packed=packed)
    return Contender((row,), 120, measure)


CONTENDERS = {
    MACHINE: Contender(("machine",), 90, system.machine),
    "paired": Contender(("paired_0.3", "paired_0.1", "plain_async"), 330, decoding.paired),
    "vllm": Contender(("plain_vllm_async", "one_call_a_token"), 300, decoding.vllm),
    "sessions": Contender(("sessions_0.3", "sessions_0.1", "plain"), 300, decoding.sessions),
    "learner_1.7b": _learner("1.7b", "learner_1.7b", small="learner_1.7b_batch_20"),
    "end_to_end": Contender(("end_to_end",), 240, system.end_to_end),
    "learner_0.6b": _learner("0.6b", "learner_0.6b"),
    "hf_1.7b": Contender(("hf_1.7b",), 120, partial(training.bare, shape="1.7b", row="hf_1.7b")),
    "weights": Contender(("weights",), 150, system.weights),
    "weights_ipc": Contender(("weights_ipc",), 90, system.weights_by_ipc),
    "learner_1.7b_zero_2": _learner("1.7b", "learner_1.7b_zero_2", zero_stage=2),
    "speculation": Contender(("speculation",), 180, speculation),
    "trl_packed": _trl("trl_packed", packed=True),
    "trl": _trl("trl", packed=False),
}
