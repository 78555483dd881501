"""The evaluator section of a configuration: suites, sampling, and checkpoint selection."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from common.config.sections import Device
from common.hardware import Dtype
from common.settings import AbsolutePath, Seconds, Settings

# fmt: off
Suite = Literal[
    "in_domain", "general", "small", "editing", "earlier",
    "recall", "paraphrased", "retrieval", "two_hop", "three_hop", "four_hop", "test", "unseen",
    "edited", "retracted",
    "mmlu", "gsm8k", "math500", "aime24", "humaneval",
    "arc_easy", "piqa", "wikitext2", "ifeval", "text_nll",
]
# fmt: on

EvalProtocol = Literal["paper", "ours"]

# Benchmarks outside a run's corpus: abilities that the model had before, and may lose.
HELD_OUT: tuple[Suite, ...] = (
    *("mmlu", "gsm8k", "math500", "aime24", "humaneval"),
    *("arc_easy", "piqa", "wikitext2", "ifeval", "text_nll"),
)


# Splits whose answers are short with protocol paper, beside recall and that of earlier batches.
_SHORT = ("paraphrased", "retrieval", "edited", "retracted")

SelectionRule = Literal["ours", "paper", "last", "best"]


class ScheduledSuite(Settings):
    """A suite and the checkpoints that it is measured at; the base always is one of them."""

    suite: Suite
    at: Literal["all", "selected"] | Annotated[int, Field(ge=1)] = Field(
        "all",
        description="all: every checkpoint; selected: the selected one alone; a number k: every "
        "k-th and the selected one",
    )

    def is_due(self, step: int, interval: int) -> bool:
        """Whether the checkpoint of ``step`` has it, selected or not.

        Args:
            step: of the checkpoint; 0: the base.
            interval: steps between checkpoints.
        """
        if step == 0 or self.at == "all":
            return True
        return self.at != "selected" and step % (self.at * interval) == 0


def _scheduled(value: Any) -> Any:
    return {"suite": value} if isinstance(value, str) else value


class FisherSettings(Settings):
    """Fisher alignment of checkpoints: how far each one moves where the base model is sensitive.

    The base model's Fisher is computed once. Meanwhile an evaluator holds the base model a
    second time, with gradients, and 4 bytes per parameter in CPU memory.
    """

    examples: int = Field(64, ge=1, description="texts from the run's held-out benchmarks")
    max_tokens: int = Field(
        256, ge=2, description="tokens per example; longer texts lose their start"
    )
    parts: int = Field(
        4, ge=1, le=256, description="parts that evaluators share; a finished part survives a kill"
    )
    device: Device = Field("auto", description="auto: the engine's")
    dtype: Dtype = Field("float32", description="dtype of model and gradients; sums are float32")
    engine: Literal["auto", "keep", "close"] = Field(
        "auto",
        description="the evaluator's engine meanwhile; auto: closed where both are on a GPU",
    )
    cache: AbsolutePath | None = Field(
        None,
        description="folder that runs share; 4 bytes per parameter and model, times parts during "
        "the computation; with several hosts, on shared storage; none: the user's cache folder",
    )


class EvaluatorEngineSettings(Settings):
    """What evaluators' engines have for themselves; none: as in ``engine``."""

    dtype: Dtype | None = None
    max_model_len: int | None = Field(None, ge=32, description="context length, tokens")
    max_batched_tokens: int | None = Field(None, ge=32, description="most tokens per step")
    kv_cache_gib: float | None = Field(None, gt=0, le=4096, description="KV cache, GiB a device")
    gpu_memory_utilization: float | None = Field(
        None, gt=0, le=1, description="share of a GPU's memory that an engine may use"
    )
    enforce_eager: bool | None = None


class EvaluatorSettings(Settings):
    """Evaluation of the base model and of each checkpoint."""

    actors: int = Field(
        1, ge=0, le=4096, description="evaluators, which share the work; 0: no evaluation"
    )
    suites: tuple[Annotated[ScheduledSuite, BeforeValidator(_scheduled)], ...] = Field(
        (ScheduledSuite(suite="in_domain"), ScheduledSuite(suite="text_nll")),
        description="suites or single benchmarks, each a name, or {suite: NAME, at: WHEN}; each "
        "result is saved as it finishes",
    )
    limit: int | None = Field(
        None, ge=1, description="items per benchmark, drawn with the run's seed; none: all"
    )
    slots: int = Field(16, ge=1, description="concurrent requests")
    engine: EvaluatorEngineSettings = EvaluatorEngineSettings()
    max_tokens: int | None = Field(
        None,
        ge=1,
        description="longest response to a corpus question, tokens; none: 64, with protocol paper "
        "512 (recall, paraphrased, retrieval, edited, retracted) or 4,096",
    )
    protocol: EvalProtocol = Field(
        "ours",
        description="prompts of the benchmarks, and the grader that gives the score; the other "
        "grader's verdict stands beside it",
    )
    sampling: Literal["paper", "greedy"] = Field(
        "paper",
        description="sampling of the general suite; paper: temperature 1, 16 samples for AIME, but "
        "temperature 0 for Llama models; greedy: temperature 0",
    )
    benchmark_tokens: int | None = Field(
        None,
        ge=1,
        description="longest response to a benchmark outside the corpus, tokens; none: MMLU 1,024, "
        "IFEval 1,280, else 16,384; always limited by the context",
    )
    data_root: AbsolutePath | None = Field(
        None, description="folder with local copies of the benchmarks; none: the Hub"
    )
    text: AbsolutePath | None = Field(
        None, description="plain text file for text_nll; none: the packaged prose"
    )
    text_tokens: int = Field(4096, ge=64, description="tokens scored per text")
    unsafe_code: bool = Field(
        False, description="without a sandbox, run generated code with resource limits only"
    )
    code_timeout_s: Seconds = Field(
        10.0, gt=0, description="timeout of one generated program, seconds"
    )
    select: SelectionRule = Field(
        "ours",
        description="which checkpoint is selected, by recall: ours: its first peak, see patience; "
        "paper: the first peak of the released code; last; best",
    )
    patience: int = Field(
        2, ge=1, description="ours: checkpoints without a gain after which the peak is final"
    )
    min_delta: float = Field(
        0.0, ge=0, le=1, description="ours: smallest gain in recall that counts, exclusive"
    )
    fisher: FisherSettings | None = Field(None, description="Fisher alignment; none: off")

    @property
    def names(self) -> tuple[Suite, ...]:
        """The suites' names, each once."""
        return tuple(dict.fromkeys(scheduled.suite for scheduled in self.suites))

    @property
    def always(self) -> frozenset[Suite]:
        """The suites that are measured at every checkpoint."""
        return frozenset(one.suite for one in self.suites if one.at == "all")

    def response_tokens(self, split: str) -> int:
        """Longest response to a question of a split of the corpus, tokens."""
        if self.max_tokens is not None:
            return self.max_tokens
        if self.protocol == "ours":
            return 64
        is_short = split in _SHORT or split.startswith("recall")
        return 512 if is_short else 4096
