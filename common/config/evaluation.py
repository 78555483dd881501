"""The evaluator section of a configuration: what is measured, how, and which step counts."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from common.config.sections import Device, Dtype
from common.settings import AbsolutePath, Settings

# fmt: off
Suite = Literal[
    "in_domain", "general", "small", "editing",
    "recall", "paraphrased", "retrieval", "two_hop", "test", "unseen", "multi_hop",
    "mmlu", "gsm8k", "math500", "aime24", "humaneval",
    "arc_easy", "piqa", "wikitext2", "ifeval", "text_nll",
]
# fmt: on

# Benchmarks outside a run's own corpus: what a model could do before, and may lose.
HELD_OUT: tuple[Suite, ...] = (
    *("mmlu", "gsm8k", "math500", "aime24", "humaneval"),
    *("arc_easy", "piqa", "wikitext2", "ifeval", "text_nll"),
)


class FisherSettings(Settings):
    """Fisher alignment of checkpoints: the base's Fisher once, then each one's movement along it.

    An evaluator then holds the base model a second time, with gradients, for as long as
    the Fisher takes, and 4 bytes a parameter in CPU memory.
    """

    examples: int = Field(64, ge=1, description="of the held-out benchmarks of the run's suites")
    max_tokens: int = Field(256, ge=2, description="of an example; longer ones lose their start")
    parts: int = Field(
        4, ge=1, le=256, description="pieces of work that evaluators share and a kill cannot undo"
    )
    device: Device = "auto"
    dtype: Dtype = Field("float32", description="of model and gradients; sums are float32")
    cache: AbsolutePath | None = Field(
        None,
        description="folder that runs share, 4 bytes a parameter a model (while computing: times "
        "parts); on several hosts one that all see; none: mixsd-cluster's in the user's cache",
    )


class EvaluatorSettings(Settings):
    """What is measured on the base model and on each checkpoint."""

    actors: int = Field(1, ge=0, le=4096, description="they share the work; 0 measures nothing")
    suites: tuple[Suite, ...] = Field(
        ("in_domain", "text_nll"),
        description="suites, or single benchmarks; each is kept as it is done",
    )
    limit: int | None = Field(
        None, ge=1, description="items of each benchmark, drawn by the run's seed; none: all"
    )
    slots: int = Field(16, ge=1, description="requests at once")
    max_tokens: int = Field(64, ge=1, description="longest response to the corpus' questions")
    protocol: Literal["paper", "greedy"] = Field(
        "paper",
        description="sampling of the general suite: temperature 1 (AIME 16 samples), or 0",
    )
    benchmark_tokens: int | None = Field(
        None,
        ge=1,
        description="longest response to a benchmark outside the corpus; none: MMLU 1,024, "
        "IFEval 1,280, else 16,384; always cut to the context",
    )
    data_root: AbsolutePath | None = Field(
        None, description="folder of local copies of the benchmarks; none: the Hub"
    )
    text: AbsolutePath | None = Field(
        None, description="plain text of text_nll; none: packaged prose"
    )
    text_tokens: int = Field(4096, ge=64, description="tokens of a text that are scored")
    unsafe_code: bool = Field(
        False, description="run generated code with limits only where no sandbox can be had"
    )
    code_timeout_s: float = Field(10.0, gt=0, description="longest run of one generated program")
    select: Literal["first_peak", "last", "best"] = Field(
        "first_peak", description="which checkpoint is the result, by recall"
    )
    patience: int = Field(2, ge=1, description="checkpoints without a gain that end the first peak")
    min_delta: float = Field(0.0, ge=0, le=1, description="a gain in recall must exceed this")
    fisher: FisherSettings | None = Field(
        None, description="measure Fisher alignment; none: do not"
    )
