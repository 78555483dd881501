"""A benchmark and an engine in, a score and every response out.

Generation runs in the engine's batches, log-likelihoods in scoring batches.
Knows nothing of checkpoints or files.
"""

from __future__ import annotations

import hashlib
import json
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass

from actors.evaluation import benchmarks, released_taxonomy, taxonomy
from actors.evaluation.benchmarks import base, choice
from actors.evaluation.benchmarks.base import (
    Benchmark,
    Generation,
    Grade,
    Materials,
    MultipleChoice,
    NotMeasured,
    Question,
    TextNLL,
)
from actors.evaluation.benchmarks.confidence import mean_share, proportion
from actors.evaluation.scores import BenchmarkScore, GraderScore, Response, Scores, Unmeasured
from actors.evaluation.taxonomy import WrongResponse
from actors.inference.batch import BatchEngine, BatchRunner
from actors.inference.requests import Sampling
from common.estimates import Score, mean_nll

# Raise with a change of a prompt or grader: what was measured before is another score.
VERSION = 3


@dataclass(frozen=True, slots=True)
class Suite:
    """Benchmarks that are measured together, and why some of them cannot be.

    ``key`` is a hash of all that decides the scores besides the weights.
    """

    name: str
    benchmarks: tuple[Benchmark, ...]
    missing: dict[str, str]
    key: str


@dataclass(frozen=True, slots=True)
class Measured:
    """The scores of a suite, the seconds they took, and the responses behind them."""

    scores: Scores
    seconds: float
    responses: list[Response]


@dataclass(frozen=True, slots=True)
class Progress:
    """Items done of a benchmark."""

    benchmark: str
    done: int
    total: int


def build_suite(name: str, materials: Materials) -> Suite:
    """Build a suite's benchmarks from their data."""
    built: list[Benchmark] = []
    missing = {}
    for member in benchmarks.members(name, materials):
        try:
            built.append(benchmarks.build(member, materials))
        except NotMeasured as reason:
            missing[member] = str(reason)
    graders = [materials.prompts.mode, materials.settings.protocol]
    parts = [VERSION, graders, missing, [base.fingerprint(one) for one in built]]
    key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
    return Suite(name, tuple(built), missing, key)


class EvaluationRunner:
    """Measures benchmarks on whatever weights the engine holds.

    Args:
        engine: must have no other user meanwhile.
        materials: what the benchmarks were built from.
        on_progress: called after every item.
    """

    def __init__(
        self,
        engine: BatchEngine,
        materials: Materials,
        on_progress: Callable[[Progress], None] = lambda progress: None,
    ) -> None:
        self._context = engine.max_model_len
        self._batch = BatchRunner(engine, materials.settings.slots)
        self._materials = materials
        classifier = materials.choose(ours=taxonomy.classifier, paper=released_taxonomy.classifier)
        self._classify = classifier(materials.corpus.taught)
        self._on_progress = on_progress

    def measure(self, suite: Suite) -> Measured:
        """Measure every benchmark of a suite that can be."""
        began = time.monotonic()
        scores: Scores = {}
        responses: list[Response] = []
        for benchmark in suite.benchmarks:
            started = time.monotonic()
            score: BenchmarkScore | Unmeasured
            try:
                score, answered = self._measure(benchmark)
            except NotMeasured as reason:
                score, answered = Unmeasured(not_measured=str(reason)), []
            scores[benchmark.name] = score.model_copy(update={"seconds": _since(started)})
            responses += answered
        scores |= {name: Unmeasured(not_measured=why) for name, why in suite.missing.items()}
        return Measured(scores, _since(began), responses)

    def _measure(self, benchmark: Benchmark) -> tuple[BenchmarkScore, list[Response]]:
        if isinstance(benchmark, Generation):
            return self._generation(benchmark)
        if isinstance(benchmark, MultipleChoice):
            return self._choice(benchmark)
        return self._text(benchmark)

    def _generation(self, benchmark: Generation) -> tuple[BenchmarkScore, list[Response]]:
        plan = benchmark.sampling
        asked = [question for question in benchmark.questions for _ in range(plan.samples)]
        self._check_context(benchmark.name, [len(q.prompt) + 1 for q in benchmark.questions])
        bounds = [min(plan.max_tokens, self._context - len(q.prompt)) for q in asked]
        rng = random.Random(f"{self._materials.seed}:{benchmark.name}")
        samplings = [
            Sampling(plan.temperature, seed=rng.getrandbits(31) if plan.temperature else None)
            for _ in asked
        ]
        generated = self._batch.generate(
            [question.prompt for question in asked],
            bounds,
            samplings,
            lambda done: self._report_progress(benchmark.name, done, len(asked)),
        )
        texts = [self._materials.prompts.text(ids) for ids in generated]
        with ThreadPoolExecutor(benchmark.grading_threads) as pool:
            grades = list(pool.map(benchmark.grade, asked, texts))
        cut = [len(ids) >= bound for ids, bound in zip(generated, bounds, strict=True)]
        answered = [
            self._response(benchmark.name, question, text, grade, was_cut)
            for question, text, grade, was_cut in zip(asked, texts, grades, cut, strict=True)
        ]
        score = BenchmarkScore(
            **asdict(_share([grade.right for grade in grades], plan.samples)),
            samples=plan.samples,
            temperature=plan.temperature,
            max_tokens=plan.max_tokens,
            cut_off=sum(cut),
            errors=dict(Counter(one.error for one in answered if one.error)),
        )
        graders = _by_graders(grades, plan.samples)
        # Without any, the key stays absent from the file.
        return score.model_copy(update={"graders": graders} if graders else {}), answered

    def _response(
        self, benchmark: str, question: Question, text: str, grade: Grade, cut_off: bool
    ) -> Response:
        response = Response(
            benchmark=benchmark,
            id=question.id,
            question=question.text,
            answer=question.answer,
            response=text,
            extracted=grade.extracted,
            right=grade.right,
            cut_off=cut_off,
        )
        more: dict[str, object] = {}
        if grade.others:
            more["verdicts"] = dict(grade.others)
        if grade.detail:
            more["detail"] = grade.detail
        if not grade.right:
            asked = f"{question.text}\n{question.data.get('prompt', '')}"
            wrong = WrongResponse(benchmark, asked, question.answer, text, grade.extracted)
            more["error"] = grade.error or self._classify(wrong)
        return response.model_copy(update=more)

    def _choice(self, benchmark: MultipleChoice) -> tuple[BenchmarkScore, list[Response]]:
        pairs = [choice.pairs(item, self._materials.encode) for item in benchmark.items]
        flat = [pair for of_item in pairs for pair in of_item]
        self._check_context(benchmark.name, [len(a) + len(b) + 1 for a, b in flat])
        total = len(benchmark.items)
        scored = self._batch.score(
            flat,
            lambda done: self._report_progress(benchmark.name, done * total // len(flat), total),
        )
        answered, plain, at = [], 0, 0
        for item in benchmark.items:
            logprobs = scored[at : at + len(item.choices)]
            at += len(item.choices)
            sums = [sum(of) for of in logprobs]
            chosen = choice.likeliest(item.choices, logprobs)
            plain += sums.index(max(sums)) == item.gold
            answered.append(
                Response(
                    benchmark=benchmark.name,
                    id=item.id,
                    question=item.text,
                    answer=item.choices[item.gold],
                    response=item.choices[chosen],
                    logprobs=[round(of, 4) for of in sums],
                    right=chosen == item.gold,
                )
            )
        share = _share([bool(one.right) for one in answered], 1)
        return BenchmarkScore(**asdict(share), not_normalised=plain / total), answered

    def _text(self, benchmark: TextNLL) -> tuple[BenchmarkScore, list[Response]]:
        windows = benchmark.windows
        self._check_context(benchmark.name, [len(rest) + 2 for _, rest in windows])
        scored = self._batch.score(
            windows, lambda done: self._report_progress(benchmark.name, done, len(windows))
        )
        answered = [
            Response(
                benchmark=benchmark.name,
                id=f"{benchmark.name}-{number}",
                nll=-sum(of) / len(of),
                tokens=len(of),
            )
            for number, of in enumerate(scored)
        ]
        return BenchmarkScore(**asdict(mean_nll(scored))), answered

    def _check_context(self, name: str, lengths: Sequence[int]) -> None:
        if max(lengths) > self._context:
            raise NotMeasured(
                f"an item of {name} takes {max(lengths)} tokens, more than engine.max_model_len="
                f"{self._context}; raise it"
            )

    def _report_progress(self, benchmark: str, done: int, total: int) -> None:
        self._on_progress(Progress(benchmark, done, total))


def _since(began: float) -> float:
    return round(time.monotonic() - began, 3)


def _by_graders(grades: Sequence[Grade], samples: int) -> dict[str, GraderScore]:
    """Scores of the same responses by the other graders."""
    found = {}
    for name in grades[0].others:
        share = _share([grade.others[name] for grade in grades], samples)
        found[name] = GraderScore(value=share.value, low=share.low, high=share.high)
    return found


def _share(right: Sequence[bool], samples: int) -> Score:
    if samples == 1:
        return proportion(sum(right), len(right))
    starts = range(0, len(right), samples)
    return mean_share([sum(right[start : start + samples]) / samples for start in starts])
