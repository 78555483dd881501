"""Results of the base model that several runs share."""

from __future__ import annotations

from pathlib import Path

from actors.evaluation.evaluator import Evaluator
from actors.evaluation.results import EvaluatedModel, Results
from actors.evaluation.scores import Analyses, NLLCheck
from actors.evaluation.shared_results import SharedResults, results_in
from common.corpora import Corpus
from common.records import Fact
from tests.actors.evaluation.benchmarks.letters import materials
from tests.actors.inference.fake_engine import FakeEngine

FACTS = [Fact(f"f{n}", f"Who leads {n}?", f"Leader {n}") for n in range(4)]
BASE = EvaluatedModel(0, Path("base"), "a" * 16)
TRAINED = EvaluatedModel(8, Path("trained"), "b" * 16)


def _measure(folder: Path, shared: Path, facts: list[Fact] = FACTS) -> int:
    """Measure recall of base and checkpoint in a run; returns how many suites were measured."""
    folder.mkdir()
    engine = FakeEngine(lambda text, weights: "\\boxed{Leader 1}")
    made = materials(Corpus(facts, []), suites=("recall",))
    results = SharedResults(folder, shared)
    evaluator = Evaluator(engine, BASE.weights, made, results, lambda: [BASE, TRAINED])
    evaluator.drain()
    return evaluator.run()


def test_the_base_is_measured_by_the_first_run_and_checkpoints_by_every_run(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    assert _measure(tmp_path / "first", shared) == 2
    assert _measure(tmp_path / "second", shared) == 1
    first, second = (Results(tmp_path / name) for name in ("first", "second"))
    assert {one.step for one in second.all()} == {0, 8}
    recalls = [
        {one.step: one.scores["recall"].value for one in run.all()} for run in (first, second)
    ]
    assert recalls == [{0: 0.25, 8: 0.25}] * 2
    base = next(one for one in second.all() if one.step == 0)
    assert [one.right for one in second.responses(base)] == [False, True, False, False]
    assert [one.step for one in Results(shared).all()] == [0]


def test_a_run_of_other_facts_measures_the_base_itself(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    _measure(tmp_path / "first", shared)
    assert _measure(tmp_path / "second", shared, FACTS[:3]) == 2


def test_only_one_of_two_runs_measures_the_base_at_a_time(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    for name in ("shared", "one", "two"):
        (tmp_path / name).mkdir()
    one, two = (SharedResults(tmp_path / name, shared) for name in ("one", "two"))
    with one.claim(BASE, "recall", "key") as mine, two.claim(BASE, "recall", "key") as theirs:
        assert mine
        assert not theirs
    with one.claim(TRAINED, "recall", "key") as mine, two.claim(TRAINED, "recall", "key") as theirs:
        assert mine
        assert theirs


def test_an_analysis_of_the_base_is_shared_with_what_it_found(tmp_path: Path) -> None:
    for name in ("shared", "one", "two"):
        (tmp_path / name).mkdir()
    one, two = (SharedResults(tmp_path / name, tmp_path / "shared") for name in ("one", "two"))
    check = NLLCheck(stored=1, recomputed=1, difference=0, largest=0, targets=1, tokens=9)
    one.write(BASE, "nll_check", "key", {}, analyses=Analyses(nll_check=check))
    found = two.find(BASE, "nll_check", "key")
    assert found is not None
    assert found.analyses.nll_check == check
    assert Results(tmp_path / "two").all()[0].analyses.nll_check == check


def test_a_run_that_shares_nothing_has_results_of_its_own(tmp_path: Path) -> None:
    assert type(results_in(tmp_path, tmp_path / "missing")) is Results
    assert type(results_in(tmp_path, tmp_path)) is SharedResults
