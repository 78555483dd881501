"""Which checkpoints are measured, by whom, and that none is twice."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from actors.evaluation import results as stored
from actors.evaluation.evaluator import Evaluator
from actors.evaluation.results import EvaluatedModel, Results, by_step
from actors.evaluation.runner import build_suite
from actors.evaluation.scores import BenchmarkScore
from common.corpora import Corpus
from common.records import Fact
from tests.actors.evaluation.benchmarks.letters import materials
from tests.actors.inference.fake_engine import FakeEngine

FACTS = [Fact(f"f{n}", f"Who leads {n}?", f"Leader {n}") for n in range(4)]


def _model(step: int, weights: str = "") -> EvaluatedModel:
    name = weights or f"weights-{step}"
    return EvaluatedModel(step, Path(name), hashlib.sha256(name.encode()).hexdigest()[:16])


def _evaluator(
    folder: Path, models: list[EvaluatedModel], engine: FakeEngine | None = None, **settings: Any
) -> tuple[Evaluator, FakeEngine]:
    engine = engine or FakeEngine(lambda text, weights: "\\boxed{Leader 1}")
    made = materials(Corpus(FACTS, []), **{"suites": ("recall",), **settings})
    evaluator = Evaluator(engine, models[0].weights, made, Results(folder), lambda: models)
    evaluator.drain()
    return evaluator, engine


def test_the_newest_comes_first_and_weights_are_swapped_in_the_warm_engine(tmp_path: Path) -> None:
    models = [_model(0), _model(4), _model(8)]
    evaluator, engine = _evaluator(tmp_path, models)
    assert evaluator.run() == 3
    assert engine.loaded == ["weights-8", "weights-4", "weights-0"]
    assert [one.step for one in by_step(tmp_path)] == [0, 4, 8]
    assert by_step(tmp_path)[1].to_json()["scores"]["recall"]["value"] == 0.25


def _measured(folder: Path) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for result in Results(folder).all():
        found.setdefault(result.suite, []).append(result.step)
    return {suite: sorted(steps) for suite, steps in found.items()}


def test_a_suite_is_measured_at_the_base_and_at_every_k_th_checkpoint(tmp_path: Path) -> None:
    suites = ("recall", {"suite": "paraphrased", "at": 2})
    evaluator, _ = _evaluator(tmp_path, [_model(step) for step in (0, 1, 2, 3, 4)], suites=suites)
    evaluator.run()
    # Recall never rises, so that the last one is selected, which is due anyway.
    assert _measured(tmp_path) == {"recall": [0, 1, 2, 3, 4], "paraphrased": [0, 2, 4]}


def _learns(right_at: dict[str, int]) -> FakeEngine:
    """Right on as many of the four questions as the weights' name is worth."""

    def answer(text: str, weights: str) -> str:
        number = next(n for n in range(4) if f"Who leads {n}?" in text)
        return f"\\boxed{{Leader {number}}}" if number < right_at.get(weights, 0) else "?"

    return FakeEngine(answer)


def test_a_suite_may_wait_for_the_selected_checkpoint(tmp_path: Path) -> None:
    engine = _learns({"weights-1": 1, "weights-2": 3, "weights-3": 2, "weights-4": 2})
    suites = ("recall", {"suite": "paraphrased", "at": "selected"})
    models = [_model(step) for step in (0, 1, 2, 3, 4)]
    evaluator, _ = _evaluator(tmp_path, models, engine, suites=suites)
    evaluator.run()
    # 0, 1/4, 3/4, 2/4, 2/4: two later steps do not exceed step 2.
    assert _measured(tmp_path) == {"recall": [0, 1, 2, 3, 4], "paraphrased": [0, 2]}


def test_the_selected_checkpoint_is_measured_during_training_once_nothing_can_change_it(
    tmp_path: Path,
) -> None:
    engine = _learns({"weights-1": 3, "weights-2": 1, "weights-3": 1})
    made = materials(
        Corpus(FACTS, []), suites=("recall", {"suite": "paraphrased", "at": "selected"})
    )
    models = [_model(0), _model(1), _model(2)]
    evaluator = Evaluator(engine, models[0].weights, made, Results(tmp_path), lambda: models)

    def until(wanted: dict[str, list[int]]) -> None:
        deadline = time.monotonic() + 20
        while _measured(tmp_path) != wanted and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.1)
        assert _measured(tmp_path) == wanted

    worker = threading.Thread(target=evaluator.run)
    worker.start()
    until({"recall": [0, 1, 2], "paraphrased": [0]})
    models.append(_model(3))
    until({"recall": [0, 1, 2, 3], "paraphrased": [0, 1]})
    evaluator.drain()
    worker.join(20)
    assert not worker.is_alive()


def test_what_the_engine_holds_is_not_loaded(tmp_path: Path) -> None:
    evaluator, engine = _evaluator(tmp_path, [_model(0)])
    evaluator.run()
    assert engine.loaded == []


def test_nothing_is_measured_twice(tmp_path: Path) -> None:
    models = [_model(0), _model(4)]
    assert _evaluator(tmp_path, models)[0].run() == 2
    again, engine = _evaluator(tmp_path, models)
    assert again.run() == 0
    assert engine.loaded == []


def test_new_weights_at_a_known_step_or_another_subset_are_measured(tmp_path: Path) -> None:
    _evaluator(tmp_path, [_model(0), _model(4)])[0].run()
    assert _evaluator(tmp_path, [_model(0), _model(4, "retrained")])[0].run() == 1
    assert _evaluator(tmp_path, [_model(0), _model(4)], limit=2)[0].run() == 2


def test_the_same_weights_at_another_step_have_the_same_scores(tmp_path: Path) -> None:
    _evaluator(tmp_path, [_model(4, "same")])[0].run()
    engine = FakeEngine(lambda text, weights: pytest.fail("asked again"))
    evaluator, _ = _evaluator(tmp_path, [_model(4, "same"), _model(8, "same")], engine)
    assert evaluator.run() == 1
    first, second = by_step(tmp_path)
    assert (first.step, second.step) == (4, 8)
    assert first.scores == second.scores
    assert len(Results(tmp_path).responses(Results(tmp_path).all()[-1])) == 4


def test_every_response_is_kept(tmp_path: Path) -> None:
    _evaluator(tmp_path, [_model(0)])[0].run()
    (result,) = Results(tmp_path).all()
    responses = Results(tmp_path).responses(result)
    assert [one.right for one in responses] == [False, True, False, False]
    # Leader 1 is a trained name that the other questions do not mention.
    assert result.to_json()["scores"]["recall"]["errors"] == {"leakage": 3}
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".gz"}


def test_the_files_have_what_was_measured_in_a_fixed_order_and_no_defaults(tmp_path: Path) -> None:
    _evaluator(tmp_path, [_model(0)])[0].run()
    (path,) = tmp_path.glob("*.json")
    result = json.loads(path.read_text())
    head = ["step", "weights", "suite", "suite_hash", "measured"]
    assert list(result) == [*head, "seconds", "scores"]
    score = ["value", "low", "high", "n", "unit", "samples", "temperature", "max_tokens"]
    assert list(result["scores"]["recall"]) == [*score, "cut_off", "errors", "graders", "seconds"]
    lines = gzip.decompress(path.with_suffix(".jsonl.gz").read_bytes()).splitlines()
    asked = ["benchmark", "id", "question", "answer", "response", "extracted", "right"]
    asked += ["verdicts", "cut_off"]
    assert [list(json.loads(line)) for line in lines[:2]] == [[*asked, "error"], asked]


def test_metrics_tell_the_items_done(tmp_path: Path) -> None:
    evaluator, _ = _evaluator(tmp_path, [_model(0), _model(4)])
    evaluator.run()
    metrics = evaluator.metrics()
    assert metrics["mixsd_eval_items"] == metrics["mixsd_eval_items_done"] == 4


def test_two_evaluators_share_the_work_and_measure_each_target_once(tmp_path: Path) -> None:
    models = [_model(step) for step in range(12)]
    workers = [_evaluator(tmp_path, models)[0] for _ in range(3)]
    done: list[int] = []
    threads = [threading.Thread(target=lambda one=one: done.append(one.run())) for one in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sum(done) == 12
    assert len(by_step(tmp_path)) == 12
    assert not list(tmp_path.glob(".*"))


def test_an_evaluation_that_fails_leaves_no_result_and_no_claim(tmp_path: Path) -> None:
    engine = FakeEngine(lambda text, weights: 1 / 0)  # type: ignore[arg-type, return-value]
    evaluator, _ = _evaluator(tmp_path, [_model(0)], engine)
    with pytest.raises(ZeroDivisionError):
        evaluator.run()
    assert list(tmp_path.iterdir()) == []


def test_progress_moves_with_every_item(tmp_path: Path) -> None:
    evaluator, _ = _evaluator(tmp_path, [_model(0), _model(4)])
    evaluator.run()
    assert evaluator.progress == 8


def test_the_base_is_measured_while_a_checkpoint_is_waited_for(tmp_path: Path) -> None:
    made = materials(Corpus(FACTS, []), suites=("recall",))
    engine = FakeEngine(lambda text, weights: "?")
    evaluator = Evaluator(engine, _model(0).weights, made, Results(tmp_path), lambda: [_model(0)])
    worker = threading.Thread(target=evaluator.run)
    worker.start()
    deadline = time.monotonic() + 20
    while evaluator.waiting != "a checkpoint" and time.monotonic() < deadline:
        time.sleep(0.01)
    assert [one.step for one in by_step(tmp_path)] == [0]
    evaluator.drain()
    worker.join(20)
    assert not worker.is_alive()


# -- claims ---------------------------------------------------------------------


def test_a_claim_is_held_by_one(tmp_path: Path) -> None:
    mine, theirs = Results(tmp_path), Results(tmp_path)
    with mine.claim(_model(0), "s", "key") as held:
        assert held
        with theirs.claim(_model(0), "s", "key") as second:
            assert not second
        with theirs.claim(_model(4), "s", "key") as other:
            assert other
    with theirs.claim(_model(0), "s", "key") as free:
        assert free
    assert list(tmp_path.iterdir()) == []


def _leave_claim(folder: Path, owner: dict[str, Any]) -> Path:
    with Results(folder).claim(_model(0), "s", "key"):
        (claim,) = folder.iterdir()
        name = claim.name
    (folder / name).write_text(json.dumps(owner))
    return folder / name


def test_the_claim_of_a_dead_process_here_is_taken_over_at_once(tmp_path: Path) -> None:
    import socket

    child = subprocess.Popen(["true"])
    child.wait()
    _leave_claim(tmp_path, {"host": socket.gethostname(), "pid": child.pid})
    with Results(tmp_path).claim(_model(0), "s", "key") as held:
        assert held
    assert list(tmp_path.iterdir()) == []


def test_a_claim_from_elsewhere_is_taken_over_when_it_is_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = _leave_claim(tmp_path, {"host": "another", "pid": 1})
    now = [100.0]
    monkeypatch.setattr(stored.time, "monotonic", lambda: now[0])
    results = Results(tmp_path)

    def try_it() -> bool:
        with results.claim(_model(0), "s", "key") as held:
            return held

    assert not try_it()
    now[0] += stored._STALE_S - 1
    os.utime(claim, (5, 5))
    assert not try_it(), "it was touched meanwhile"
    now[0] += stored._STALE_S - 1
    assert not try_it()
    now[0] += 2
    assert try_it()


def test_an_owner_that_comes_back_does_not_remove_the_claim_of_its_heir(tmp_path: Path) -> None:
    import socket

    late = Results(tmp_path)
    context = late.claim(_model(0), "s", "key")
    assert context.__enter__()
    (claim,) = tmp_path.iterdir()
    claim.write_text(json.dumps({"host": socket.gethostname(), "pid": 2**22 + 1}))
    heir = Results(tmp_path).claim(_model(0), "s", "key")
    assert heir.__enter__()
    context.__exit__(None, None, None)
    assert [path.name[-1] for path in tmp_path.iterdir()] == ["1"]
    heir.__exit__(None, None, None)
    assert list(tmp_path.iterdir()) == []


def _score(value: float) -> dict[str, Any]:
    return {"value": value, "low": 0.0, "high": 1.0, "n": 4, "unit": "fraction"}


def test_a_later_result_of_a_step_counts(tmp_path: Path) -> None:
    results = Results(tmp_path)
    model = _model(4)
    for key, value in (("a" * 8, 0.1), ("b" * 8, 0.2)):
        results.write(model, "s", key, {"recall": BenchmarkScore.from_json(_score(value))})
    assert [one.to_json() for one in by_step(tmp_path)] == [
        {
            "step": 4,
            "weights": model.weights,
            "scores": {"recall": _score(0.2)},
            "analyses": {},
        }
    ]


def test_the_suite_s_key_is_in_the_result(tmp_path: Path) -> None:
    _evaluator(tmp_path, [_model(0)])[0].run()
    (result,) = Results(tmp_path).all()
    suite = build_suite("recall", materials(Corpus(FACTS, [])))
    assert (result.suite, result.suite_hash) == ("recall", suite.key)
    assert result.seconds >= 0
