"""Scores, responses and analyses as they are kept in the files of results."""

from __future__ import annotations

from pydantic import Field

from common.json_model import JsonModel


class Unmeasured(JsonModel):
    """The reason why a score or an analysis is missing, and the seconds spent until it arose."""

    not_measured: str
    seconds: float = 0.0


class GraderScore(JsonModel):
    """The score of the same responses by another grader, with its 95 % interval."""

    value: float
    low: float
    high: float


class BenchmarkScore(JsonModel):
    """The score of one benchmark with its 95 % interval over ``n`` items.

    ``unit`` is ``fraction`` (higher is better) or ``nats/token`` (lower is better).
    ``errors`` counts the wrong responses by kind. ``graders`` has the scores by other graders,
    such as ``paper``, ``ours`` and ``strict``.
    """

    value: float
    low: float
    high: float
    n: int
    unit: str
    samples: int = 1
    temperature: float = 0.0
    max_tokens: int = 0
    cut_off: int = 0
    errors: dict[str, int] = Field(default_factory=dict)
    graders: dict[str, GraderScore] = Field(default_factory=dict)
    not_normalised: float | None = None
    seconds: float = 0.0


Scores = dict[str, BenchmarkScore | Unmeasured]


class Response(JsonModel):
    """One response of the model, or one window of a text that it scored.

    Generated text has ``extracted`` and ``cut_off``, if wrong also ``error`` (its class),
    ``detail`` if the grader gives one, and ``verdicts`` (of other graders) if there are any. A
    choice has the ``logprobs`` of all continuations. A window has ``nll`` (nats/token) and
    ``tokens``, and no question.
    """

    benchmark: str
    id: str
    question: str = ""
    answer: str = ""
    response: str = ""
    extracted: str | None = None
    logprobs: list[float] = Field(default_factory=list)
    right: bool | None = None
    verdicts: dict[str, bool] = Field(default_factory=dict)
    cut_off: bool = False
    detail: str = ""
    error: str = ""
    nll: float | None = None
    tokens: int = 0


class FisherFigures(JsonModel):
    """Displacement of some parameters, weighted by the base's Fisher (``actors.analysis``)."""

    alignment: float | None
    weighted: float
    raw: float
    trace: float = 0.0
    size: int = 0


class FisherAlignment(FisherFigures):
    """The figures over all parameters, and those of each layer."""

    examples: int = 0
    benchmarks: dict[str, int] = Field(default_factory=dict)
    layers: dict[str, FisherFigures] = Field(default_factory=dict)


class NLLCheck(JsonModel):
    """Stored and recomputed NLL of the same targets, in nats a token."""

    stored: float
    recomputed: float
    difference: float
    largest: float
    targets: int
    tokens: int


class Analyses(JsonModel):
    """The analyses of one checkpoint."""

    fisher: FisherAlignment | Unmeasured | None = None
    nll_check: NLLCheck | None = None

    @property
    def alignment(self) -> FisherAlignment | None:
        """The Fisher alignment, if it was measured."""
        return self.fisher if isinstance(self.fisher, FisherAlignment) else None


class EvalResult(JsonModel):
    """One result file; ``measured`` is its Unix time, ``suite_hash`` the suite's key."""

    step: int
    weights: str
    suite: str
    suite_hash: str
    measured: float
    seconds: float = 0.0
    scores: Scores = Field(default_factory=dict)
    analyses: Analyses = Field(default_factory=Analyses)


class StepResults(JsonModel):
    """All scores and analyses of one step."""

    step: int
    scores: Scores
    analyses: Analyses
    weights: str = ""
