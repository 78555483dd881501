"""The analyses that an evaluator of a run does beside its suites."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from actors.analysis.fisher_alignment import Alignment, BaseFisher, draw_examples
from actors.analysis.nll_check import NllCheck
from actors.evaluation.benchmarks.base import Materials, NotMeasured
from actors.evaluation.evaluator import Evaluator
from actors.evaluation.results import EvaluatedModel, Results
from actors.evaluation.runner import Progress
from actors.inference.batch import BatchEngine, BatchRunner
from common.records import Rollout


def add_analyses(
    evaluator: Evaluator,
    engine: BatchEngine,
    base: EvaluatedModel,
    materials: Materials,
    results: Results,
    rollouts: Callable[[], Iterable[Rollout]],
    say: Callable[[str], None],
    make_room: Callable[[], None] | None = None,
) -> None:
    """The check of the stored NLLs, and Fisher alignment if it is configured.

    Args:
        results: where the analyses are written.
        engine: the evaluator's.
        base: the reference weights.
        materials: what the evaluator's suites are built from.
        rollouts: reads the run's accepted rollouts, as :class:`NllCheck` does.
        say: receives the reason if Fisher alignment is not measured.
        make_room: closes the engine while the Fisher information is computed; None: it stays.
    """
    settings = materials.settings
    batch = BatchRunner(engine, settings.slots)
    evaluator.analyses.append(NllCheck(batch, evaluator.hold, base, results, rollouts))
    if settings.fisher is None:
        return
    try:
        examples = draw_examples(materials, settings.fisher)
    except NotMeasured as reason:
        say(f"Fisher alignment is not measured: {reason}")
        return

    def tell(done: int, total: int) -> None:
        evaluator.count(Progress("fisher", done, total))

    fisher = BaseFisher(base, examples, settings.fisher, tell, make_room)
    evaluator.analyses.append(Alignment(fisher, base, results))
