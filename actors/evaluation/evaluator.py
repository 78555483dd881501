"""The evaluator role: measures the base model and every checkpoint, newest first as a rule.

Waits for checkpoints and blocks no other role; evaluators share the work by claims on
files, and what is measured once is never measured again (``results``). A suite may be due at
some checkpoints only; at the selected one it is measured when the selection is final.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from actors.evaluation.benchmarks import WITH_RECALL
from actors.evaluation.benchmarks.base import Materials
from actors.evaluation.results import EvaluatedModel, Results, by_step
from actors.evaluation.runner import EvaluationRunner, Progress, Suite, build_suite
from actors.evaluation.scores import EvalResult
from actors.evaluation.selection import choose, measured_in_order
from actors.inference.batch import BatchEngine
from common.config.evaluation import EvaluatorSettings
from common.corpora import Corpus
from common.errors import UserError
from common.metrics import MetricValues
from common.models import Model, is_llama
from common.prompts import Prompts

_POLL_S = 0.5


class EvalEngine(BatchEngine, Protocol):
    """What the evaluator needs of :class:`actors.inference.engine.Engine`."""

    def load_weights(self, model_dir: Path) -> None: ...


class Analysis(Protocol):
    """Measured when no suite is open, piece by piece, so that a new checkpoint waits for little."""

    def advance(self, checkpoints: Sequence[EvaluatedModel], final: bool) -> tuple[bool, bool]:
        """One piece of work: (whether one was done, whether others hold some).

        ``final``: there will be no more checkpoints or rollouts.
        """
        ...


class Evaluator:
    """Measures the models that ``find`` lists.

    Args:
        engine: a warm engine; its weights are replaced as needed.
        loaded: hash of the weights that it holds.
        materials: what the suites are built from.
        results: where results go.
        find: the models there are now, in any order.
        on_progress: receives every item.
        newest_first: which of several open checkpoints is next; a decision that waits for
            them in their order is made soonest if they are taken in it.
        interval: steps between checkpoints.
        mixed: whether the run's targets are mixed, see :func:`select`.
    """

    def __init__(
        self,
        engine: EvalEngine,
        loaded: str,
        materials: Materials,
        results: Results,
        find: Callable[[], list[EvaluatedModel]],
        on_progress: Callable[[Progress], None] = lambda progress: None,
        newest_first: bool = True,
        interval: int = 1,
        mixed: bool = False,
    ) -> None:
        self._engine = engine
        self._loaded = loaded
        self._materials = materials
        self._results = results
        self._find = find
        self._on_progress = on_progress
        self._newest_first = newest_first
        self._interval = interval
        self._mixed = mixed
        self._suites: dict[str, Suite] = {}
        self.analyses: list[Analysis] = []
        self._draining = threading.Event()
        self._items = self._num_results = 0
        self._waiting = ""
        self._metrics: dict[str, float] = {"mixsd_eval_seconds_total": 0.0}
        self._runner = EvaluationRunner(engine, materials, self.count)

    @property
    def progress(self) -> float:
        """Items measured by this process."""
        return self._items

    @property
    def milestone(self) -> float:
        """Results of this process, each of a whole suite or a piece of an analysis."""
        return self._num_results

    @property
    def waiting(self) -> str:
        """What it waits for, or empty."""
        return self._waiting

    def drain(self) -> None:
        """No more checkpoints will come: return once all are measured."""
        self._draining.set()

    def metrics(self) -> MetricValues:
        """Current metrics; called from another thread."""
        return dict(self._metrics)

    def run(self) -> int:
        """Measure until no further checkpoint will come; returns suites measured here."""
        done = 0
        while True:
            last_look = self._draining.is_set()
            self._waiting = ""
            worked, held_elsewhere = self._measure_one(last_look)
            if not worked:
                worked, held_too = self._analyse_one(last_look)
                held_elsewhere |= held_too
            done += worked
            if worked:
                continue
            # What another evaluator holds may come back if that one dies.
            if last_look and not held_elsewhere:
                return done
            self._waiting = "another evaluator" if held_elsewhere else "a checkpoint"
            (threading.Event() if last_look else self._draining).wait(_POLL_S)

    def _measure_one(self, final: bool) -> tuple[bool, bool]:
        """Measure the next open suite: (whether one was, whether others hold some)."""
        settings, held_elsewhere = self._materials.settings, False
        if not self._suites:
            self._suites = {name: build_suite(name, self._materials) for name in settings.names}
        models = sorted(self._find(), key=lambda one: one.step, reverse=self._newest_first)
        for model, name in self._due(models):
            worked, held = self._measure_unless_known(model, self._suites[name])
            held_elsewhere |= held
            if worked:
                return True, held_elsewhere
        if held_elsewhere or all(one.at == "all" for one in settings.suites):
            return False, held_elsewhere
        selected = self._selected(models, final)
        if selected is None:
            return False, False
        for name in settings.names:
            worked, held = self._measure_unless_known(selected, self._suites[name])
            held_elsewhere |= held
            if worked:
                return True, held_elsewhere
        return False, held_elsewhere

    def _due(self, models: Sequence[EvaluatedModel]) -> Iterator[tuple[EvaluatedModel, str]]:
        """Every model with each suite that is due whether or not it is selected."""
        for model in models:
            for scheduled in self._materials.settings.suites:
                if scheduled.is_due(model.step, self._interval):
                    yield model, scheduled.suite

    def _selected(self, models: Sequence[EvaluatedModel], final: bool) -> EvaluatedModel | None:
        """The selected checkpoint, once no later one can change it.

        Without recall it is the last one.
        """
        trained = {one.step: one for one in models if one.step > 0}
        if not trained:
            return None
        recalled = [model.step for model, name in self._due(models) if name in WITH_RECALL]
        measured = measured_in_order(by_step(self._results.folder), recalled)
        selection = choose(measured, self._materials.settings, self._mixed)
        if selection is None:
            return trained[max(trained)] if final else None
        return trained.get(selection.step) if final or selection.settled else None

    def _measure_unless_known(self, model: EvaluatedModel, suite: Suite) -> tuple[bool, bool]:
        """(Whether the suite was measured now, whether another evaluator holds it)."""
        wanted = (model, suite.name, suite.key)
        if self._results.find(*wanted) is not None:
            return False, False
        with self._results.claim(*wanted) as held:
            if not held:
                return False, True
            # It may have been finished between our look and our claim.
            if self._results.find(*wanted) is not None:
                return False, False
            twin = self._results.find_twin(*wanted)
            if twin is None:
                self._measure(model, suite)
            else:
                self._copy(model, suite, twin)
            self._num_results += 1
            return True, False

    def _analyse_one(self, final: bool) -> tuple[bool, bool]:
        held_elsewhere, models = False, self._find()
        for analysis in self.analyses:
            began = time.monotonic()
            worked, held = analysis.advance(models, final)
            held_elsewhere |= held
            if worked:
                self._num_results += 1
                self._metrics["mixsd_eval_seconds_total"] += time.monotonic() - began
                return True, held_elsewhere
        return False, held_elsewhere

    def hold(self, model: EvaluatedModel) -> None:
        """Put a model's weights into the engine, unless it has them."""
        if self._loaded != model.weights:
            self._engine.load_weights(model.folder)
            self._loaded = model.weights

    def _measure(self, model: EvaluatedModel, suite: Suite) -> None:
        began = time.monotonic()
        self.hold(model)
        found = self._runner.measure(suite)
        self._results.write(
            model, suite.name, suite.key, found.scores, found.responses, seconds=found.seconds
        )
        self._metrics["mixsd_eval_seconds_total"] += time.monotonic() - began

    def _copy(self, model: EvaluatedModel, suite: Suite, twin: EvalResult) -> None:
        """The same weights at another step have the same scores."""
        responses = self._results.responses(twin)
        self._results.write(
            model, suite.name, suite.key, twin.scores, responses, seconds=twin.seconds
        )

    def count(self, progress: Progress) -> None:
        """An item of a benchmark or an analysis is done."""
        self._items += 1
        self._metrics["mixsd_eval_items_done"] = progress.done
        self._metrics["mixsd_eval_items"] = progress.total
        self._on_progress(progress)


def materials_for(
    model: Model, prompts: Prompts, corpus: Corpus, settings: EvaluatorSettings, seed: int
) -> Materials:
    """What a model's benchmarks are built from.

    Args:
        prompts: renders facts and evaluation questions.
        corpus: of the run.
        settings: the evaluator section.
        seed: the run's.
    """

    def encode(text: str) -> list[int]:
        ids: list[int] = model.tokenizer.encode(text, add_special_tokens=False)
        return ids

    return Materials(prompts, encode, corpus, settings, seed, is_llama(model.folder))


def check_retrieval(
    prompts: Prompts, corpus: Corpus, settings: EvaluatorSettings, context: int
) -> None:
    """Refuse retrieval items that cannot fit the context.

    Raises:
        UserError: names the longest item's length and the bound.
    """
    measured = {"in_domain", "small", "retrieval"} & set(settings.names)
    if not settings.actors or not measured or not corpus.retrieval:
        return
    prompt = max(len(prompts.retrieval(item)) for item in corpus.retrieval)
    longest = prompt + settings.response_tokens("retrieval")
    if longest > context:
        raise UserError(
            f"a retrieval question takes {longest} tokens, more than engine.max_model_len="
            f"{context}; raise it or lower data.kgfact.distractors"
        )
