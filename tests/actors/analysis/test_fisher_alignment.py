"""Which examples the Fisher is of, that it is computed once, and how a checkpoint is measured."""

from __future__ import annotations

import shutil
import threading

import pytest
import torch
from transformers import AutoModelForCausalLM

from actors.analysis.fisher import SquaredGradients, Tensors, log_likelihood
from actors.analysis.fisher_alignment import Alignment, BaseFisher, Examples, draw_examples
from actors.evaluation.benchmarks.base import NotMeasured
from actors.evaluation.results import EvaluatedModel, Results, by_step
from common.config.evaluation import FisherSettings
from common.weights import folder_hash
from tests.actors.evaluation.benchmarks.letters import materials
from tests.tiny import make_student

EXAMPLES = Examples(((1, 5, 9, 2), (7, 7, 3), (4, 60, 2, 8, 11), (2, 1), (9, 9, 9)), {"text": 5})


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = make_student(tmp_path_factory.mktemp("student"))
    return EvaluatedModel(0, folder, folder_hash(folder))


def _settings(tmp_path, **given):
    return FisherSettings(dtype="float32", device="cpu", cache=tmp_path / "cache", **given)


def _finish(fisher):
    pieces = 0
    while not fisher.ready:
        worked, held = fisher.advance()
        assert worked or held
        pieces += worked
    return pieces


def _values(fisher):
    with Tensors(fisher.pieces) as read:
        return {name: read.read(name) for name in read.names}


def test_it_is_the_mean_over_the_examples_whatever_the_number_of_parts(base, tmp_path):
    model = AutoModelForCausalLM.from_pretrained(base.folder, dtype=torch.float32)
    squares = SquaredGradients(model)
    for ids in EXAMPLES.token_ids:
        squares.add(log_likelihood(model, ids))
    for parts in (1, 2, 8):
        fisher = BaseFisher(base, EXAMPLES, _settings(tmp_path / str(parts), parts=parts))
        # Each part, never more of them than examples, and the sum.
        assert _finish(fisher) == min(parts, 5) + 1
        values = _values(fisher)
        for name, total in squares.sums.items():
            torch.testing.assert_close(values[name], total / 5, rtol=1e-4, atol=1e-9)
        assert sorted(path.name for path in fisher.folder.iterdir()) == ["fisher.json", "pieces"]


def test_another_run_finds_it_and_other_examples_or_weights_have_their_own(base, tmp_path):
    settings = _settings(tmp_path)
    _finish(BaseFisher(base, EXAMPLES, settings))
    assert BaseFisher(base, EXAMPLES, settings).ready
    assert not BaseFisher(base, Examples(EXAMPLES.token_ids[1:], {}), settings).ready
    assert not BaseFisher(EvaluatedModel(0, base.folder, "other"), EXAMPLES, settings).ready


def test_a_killed_computation_goes_on_with_the_parts_that_are_there(base, tmp_path):
    seen = []
    settings = _settings(tmp_path, parts=3)
    first = BaseFisher(base, EXAMPLES, settings, lambda done, total: seen.append(done))
    first.advance()
    first.advance()
    assert len(seen) == 4

    def die(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        BaseFisher(base, EXAMPLES, settings, die).advance()
    (first.folder / ".part-2.4711.tmp").write_bytes(b"half a file")
    again = []
    heir = BaseFisher(base, EXAMPLES, settings, lambda done, total: again.append(done))
    _finish(heir)
    assert len(again) == 1, "only the part that was cut off"
    assert not list(heir.folder.glob("*part*"))
    whole = BaseFisher(base, EXAMPLES, _settings(tmp_path / "whole", parts=3))
    _finish(whole)
    for name, value in _values(whole).items():
        assert torch.equal(value, _values(heir)[name])


def test_several_evaluators_compute_each_part_once(base, tmp_path, monkeypatch):
    # Evaluators are processes; transformers cannot load two models in two threads.
    lock, load = threading.Lock(), BaseFisher._load

    def load_alone(self):
        with lock:
            return load(self)

    monkeypatch.setattr(BaseFisher, "_load", load_alone)
    done = []
    workers = [
        BaseFisher(
            base, EXAMPLES, _settings(tmp_path, parts=5), lambda *progress: done.append(progress)
        )
        for _ in range(3)
    ]
    threads = [threading.Thread(target=_finish, args=(worker,)) for worker in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert all(worker.ready for worker in workers)
    assert len(done) == 5


def _moved(base, folder, by):
    shutil.copytree(base.folder, folder)
    model = AutoModelForCausalLM.from_pretrained(base.folder, dtype=torch.float32)
    with torch.no_grad():
        model.model.norm.weight += by
    model.save_pretrained(folder)
    return EvaluatedModel(4, folder, folder_hash(folder))


def test_a_checkpoint_is_measured_once_and_the_base_is_not(base, tmp_path):
    results = Results(tmp_path / "eval")
    results.folder.mkdir()
    fisher = BaseFisher(base, EXAMPLES, _settings(tmp_path))
    alignment = Alignment(fisher, base, results)
    targets = [base, _moved(base, tmp_path / "step_4", 0.5)]
    worked = [alignment.advance(targets, False)[0] for _ in range(8)]
    # Four parts, their sum, one checkpoint.
    assert worked == [True] * 6 + [False] * 2
    (step,) = by_step(results.folder)
    found = step.to_json()["analyses"]["fisher"]
    norm = _values(fisher)["model.norm.weight"]
    assert found["raw"] == pytest.approx(32 * 0.25)
    assert found["weighted"] == pytest.approx(0.25 * norm.sum().item(), rel=1e-5)
    assert found["layers"]["norm"]["alignment"] == pytest.approx(1.0, rel=1e-5)
    assert found["layers"]["layer 1"]["alignment"] is None
    whole = found["weighted"] / found["raw"] / (found["trace"] / found["size"])
    assert found["alignment"] == pytest.approx(whole)


def test_another_model_s_checkpoint_is_told_not_measured(base, tmp_path):
    results = Results(tmp_path / "eval")
    results.folder.mkdir()
    fisher = BaseFisher(base, EXAMPLES, _settings(tmp_path))
    _finish(fisher)
    (tmp_path / "empty").mkdir()
    Alignment(fisher, base, results).advance([EvaluatedModel(8, tmp_path / "empty", "x")], False)
    (step,) = by_step(results.folder)
    assert "no tensor" in step.to_json()["analyses"]["fisher"]["not_measured"]


def test_examples_are_drawn_by_seed_and_cut_at_their_start():
    given = materials(suites=("text_nll",))
    drawn = draw_examples(given, FisherSettings(examples=5, max_tokens=10))
    assert drawn == draw_examples(given, FisherSettings(examples=5, max_tokens=10))
    assert drawn.benchmarks == {"text_nll": 5}
    assert {len(ids) for ids in drawn.token_ids} == {10}
    long = draw_examples(given, FisherSettings(examples=5, max_tokens=20))
    assert [ids[-10:] for ids in long.token_ids] == list(drawn.token_ids)


def test_what_the_run_trains_is_no_held_out_benchmark_and_ifeval_has_no_gold_answers():
    with pytest.raises(NotMeasured, match="outside the run's own corpus"):
        draw_examples(materials(suites=("recall", "ifeval")), FisherSettings())


def test_benchmarks_share_the_examples_and_those_out_of_reach_give_none(tmp_path):
    rows = [f'{{"question": "Q{n}?", "choices": ["a", "b"], "answer_index": 1}}' for n in range(9)]
    (tmp_path / "arc").mkdir()
    (tmp_path / "arc" / "ARC-Easy-test.jsonl").write_text("\n".join(rows))
    given = materials(suites=("arc_easy", "piqa", "text_nll"), data_root=tmp_path)
    drawn = draw_examples(given, FisherSettings(examples=9, max_tokens=64))
    assert drawn.benchmarks == {"arc_easy": 3, "text_nll": 3}
    text = "".join(map(chr, drawn.token_ids[0]))
    assert text.startswith("Question: Q")
    assert text.endswith("Answer: b")
