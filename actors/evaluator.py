"""The evaluator role: measures the base model and every checkpoint, newest first.

Waits for checkpoints and blocks nobody. Results are files keyed by step and
weights, so a restarted evaluator measures nothing twice.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from actors import benchmarks
from actors.benchmarks import Question
from actors.engine import Sampling
from common.config import EvaluatorSettings
from common.corpora import Corpus
from common.errors import UserError
from common.estimates import Score, mean_nll
from common.metrics import Snapshot
from common.models import Model
from common.prompts import Prompts
from common.rundir import RunDir, read_json, write_atomic

# Our own plain prose, for machines without a benchmark text.
PROSE = Path(__file__).parent / "prose.txt"

_POLL_S = 0.5
_WINDOW = 256


@dataclass(frozen=True, slots=True)
class Target:
    """Weights to measure: the base is step 0."""

    step: int
    folder: Path
    weights: str


class EvalEngine(Protocol):
    """What the evaluator needs of :class:`actors.engine.Engine`."""

    def generate(
        self, prompts: Sequence[Sequence[int]], max_tokens: int, sampling: Sampling
    ) -> list[list[int]]: ...
    def score(
        self, sequences: Sequence[tuple[Sequence[int], Sequence[int]]]
    ) -> list[list[float]]: ...
    def load_weights(self, model_dir: Path) -> None: ...


class Evaluator:
    """Measures the targets that ``find`` lists.

    Args:
        engine: an engine that holds the base model.
        model: the base model.
        prompts: renders questions.
        corpus: trained facts and retrieval items.
        settings: the evaluator section.
        run: where results go.
        find: the targets there are now, in any order.
    """

    def __init__(
        self,
        engine: EvalEngine,
        model: Model,
        prompts: Prompts,
        corpus: Corpus,
        settings: EvaluatorSettings,
        run: RunDir,
        find: Callable[[], list[Target]],
    ) -> None:
        self._engine = engine
        self._model = model
        self._prompts = prompts
        self._corpus = corpus
        self._settings = settings
        self._run = run
        self._find = find
        self._loaded = ""
        self._draining = threading.Event()
        self._measured = 0
        self._waiting = ""
        self._metrics: dict[str, float] = {"mixsd_eval_seconds_total": 0.0}

    @property
    def progress(self) -> float:
        """Suites measured by this process."""
        return self._measured

    @property
    def waiting(self) -> str:
        """What it waits for, or empty."""
        return self._waiting

    def drain(self) -> None:
        """No more checkpoints will come: return once all are measured."""
        self._draining.set()

    def snapshot(self) -> Snapshot:
        """Current metrics; called from another thread."""
        return dict(self._metrics)

    def run(self) -> int:
        """Measure until told that no more will come; returns targets measured."""
        done = 0
        while True:
            last_look = self._draining.is_set()
            target = self._next()
            if target is not None:
                self._waiting = ""
                self._measure(target)
                done += 1
            elif last_look:
                return done
            else:
                self._waiting = "a checkpoint"
                self._draining.wait(_POLL_S)

    def _next(self) -> Target | None:
        targets = sorted(self._find(), key=lambda target: target.step, reverse=True)
        return next((target for target in targets if not self._is_measured(target)), None)

    def _is_measured(self, target: Target) -> bool:
        result = read_json(self._path(target))
        return result is not None and result["weights"] == target.weights

    def _path(self, target: Target) -> Path:
        return self._run.eval / f"step_{target.step}.json"

    def _measure(self, target: Target) -> None:
        began = time.monotonic()
        if self._loaded != target.weights and not (target.step == 0 and not self._loaded):
            self._engine.load_weights(target.folder)
        self._loaded = target.weights
        result: dict[str, Any] = {"step": target.step, "weights": target.weights, "scores": {}}
        for suite in self._settings.suites:
            started = time.monotonic()
            measured = getattr(self, f"_{suite}")()
            self._measured += 1
            result["scores"][suite] = {
                **(asdict(measured) if isinstance(measured, Score) else {"not_measured": measured}),
                "seconds": round(time.monotonic() - started, 3),
            }
        write_atomic(self._path(target), json.dumps(result, indent=1))
        self._metrics["mixsd_eval_seconds_total"] += time.monotonic() - began

    # -- suites: a score, or the reason why there is none --------------------

    def _recall(self) -> Score | str:
        return self._ask(benchmarks.recall(self._prompts, self._corpus.facts))

    def _retrieval(self) -> Score | str:
        items = self._corpus.retrieval[: self._settings.retrieval_limit]
        if not items:
            return "the corpus has no retrieval items"
        return self._ask(benchmarks.retrieval(self._prompts, items))

    def _text_nll(self) -> Score | str:
        path = self._settings.text or PROSE
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            return f"evaluator.text: {path} cannot be read ({error})"
        token_ids = self._model.tokenizer.encode(text, add_special_tokens=False)
        pieces = benchmarks.windows(token_ids, self._settings.text_tokens, _WINDOW)
        if not pieces:
            return f"evaluator.text: {path} is too short"
        return mean_nll(self._engine.score(pieces))

    def _ask(self, questions: list[Question]) -> Score:
        generated = self._engine.generate(
            [question.prompt for question in questions], self._settings.max_tokens, Sampling()
        )
        responses = [self._prompts.text(ids) for ids in generated]
        return benchmarks.grade(self._prompts, questions, responses)


def check_retrieval(
    prompts: Prompts, corpus: Corpus, settings: EvaluatorSettings, context: int
) -> None:
    """Refuse retrieval items that cannot fit the context.

    Raises:
        UserError: names the longest item's length and the bound.
    """
    if "retrieval" not in settings.suites or not corpus.retrieval:
        return
    items = corpus.retrieval[: settings.retrieval_limit]
    longest = max(len(prompts.retrieval(item)) for item in items) + settings.max_tokens
    if longest > context:
        raise UserError(
            f"a retrieval question takes {longest} tokens, more than engine.max_model_len="
            f"{context}; raise it or lower data.kgfact.distractors"
        )
