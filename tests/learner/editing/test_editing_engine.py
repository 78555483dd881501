"""Edits of a small random Llama: δ, its spread over layers, checkpoints and the learner's loop."""

from __future__ import annotations

import json

import pytest
import torch
from transformers import AutoModelForCausalLM

from common.config.learner import LearnerSettings
from common.errors import UserError
from common.methods import MEMIT
from common.records import Rollout, pack_rollout
from common.rundir import RunDir
from learner.checkpoint import existing
from learner.editing.deltas import Batch, find
from learner.editing.engine import EditingEngine
from learner.editing.model import EditedModel
from learner.editing.requests import Essence, Request, Site, chunks, requests_of
from learner.interfaces import Batch as Sampled
from learner.packing import pack, single
from learner.worker import Learner
from tests.learner.test_families import make
from tests.tiny import make_model

EXAMPLES = [([1, 2, 3, 4], [5, 6, 7]), ([8, 9, 10], [11]), ([12, 13, 14, 15, 16], [17, 18])]
NUM_TARGETS = 6
LAYERS = range(1, 4)
SITES = {(1, 2, 3, 4): Site(2, Essence((20, 2, 3, 21), 2))}
SETTINGS = LearnerSettings(device="cpu", dtype="float32", pack=False)
# A hidden state may move far, so that a few steps show.
METHOD = MEMIT(layers=(1, 3), preserve=0.01, clamp=4.0, covariance_tokens=300)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_model(
        tmp_path_factory.mktemp("edited"), vocabulary=64, hidden=32, layers=6, scale=0.2
    )


def engine_of(folder, log=lambda line: None, method=METHOD, **settings) -> EditingEngine:
    chosen = SETTINGS.model_copy(update=settings)
    return EditingEngine(
        folder, chosen, method.edit, seed=0, sites=SITES, text_ids=[*range(64)] * 5, log=log
    )


def requests() -> list[Request]:
    return requests_of(single(EXAMPLES), SITES)


def downs(engine: EditingEngine) -> dict[str, torch.Tensor]:
    return {name: weight.clone() for name, weight in engine.policy()}


def test_a_fact_is_edited_at_its_subject_or_at_the_last_token_of_its_prompt():
    found = requests()
    assert [(one.prompt, one.target) for one in found] == [
        (tuple(prompt), tuple(target)) for prompt, target in EXAMPLES
    ]
    assert [one.site.position for one in found] == [2, 2, 4]
    assert found[0].inputs == (1, 2, 3, 4, 5, 6)


def test_batches_hold_as_many_facts_as_fit_with_padding():
    # Inputs of 6, 3 and 6 tokens: two padded to 6 make 12.
    assert [len(batch) for batch in chunks(requests(), 12)] == [2, 1]
    assert [len(batch) for batch in chunks(requests(), 18)] == [3]
    assert [len(batch) for batch in chunks(requests(), 1)] == [1, 1, 1]


def test_the_two_halves_of_the_model_compute_what_the_whole_does(folder):
    model = EditedModel(folder, LAYERS, torch.device("cpu"))
    ids_NT = torch.tensor([[1, 2, 3, 4], [5, 6, 7, 8]])
    keys, hidden_NTD = model.lower(ids_NT)
    expected = model.model(ids_NT, output_hidden_states=True)
    torch.testing.assert_close(hidden_NTD, expected.hidden_states[4])
    log_probs = model.log_probs(model.upper(hidden_NTD))
    torch.testing.assert_close(log_probs, expected.logits.log_softmax(-1))
    assert [key.shape for key in keys] == [(2, 4, 64)] * 3


def test_deltas_raise_the_targets_probability_within_their_bound(folder):
    model = EditedModel(folder, LAYERS, torch.device("cpu"))
    batch = Batch.of(model, requests())
    steps: list[int] = []
    delta_ND = find(model, batch, METHOD.edit, lambda: steps.append(1))
    with torch.no_grad():
        before_N, after_N = batch.target_nll(model), batch.target_nll(model, delta_ND)
    assert (after_N < 0.95 * before_N).all()
    assert len(steps) == METHOD.gradient_steps
    tight = MEMIT(**{**METHOD.model_dump(), "clamp": 0.25}).edit
    delta_ND = find(model, batch, tight, lambda: None)
    ratios = delta_ND.norm(dim=1) / batch.hidden_ND.norm(dim=1)
    assert (ratios <= 0.25 + 1e-5).all()
    assert float(ratios.max()) == pytest.approx(0.25, rel=1e-4)


def test_facts_of_a_batch_do_not_touch_each_others_deltas(folder):
    model = EditedModel(folder, LAYERS, torch.device("cpu"))
    together_ND = find(model, Batch.of(model, requests()), METHOD.edit, lambda: None)
    for row, request in enumerate(requests()):
        alone_ND = find(model, Batch.of(model, [request]), METHOD.edit, lambda: None)
        torch.testing.assert_close(alone_ND[0], together_ND[row], rtol=1e-3, atol=1e-4)


def test_a_large_weight_keeps_the_prediction_after_the_neutral_prompt(folder):
    model = EditedModel(folder, LAYERS, torch.device("cpu"))
    batch = Batch.of(model, requests()[:1])
    ids_NT = torch.tensor([SITES[1, 2, 3, 4].essence.ids])
    before_V = model.log_probs(model.upper(model.lower(ids_NT)[1]))[0, -1]

    def drift(kl: float) -> float:
        chosen = MEMIT(**{**METHOD.model_dump(), "kl": kl}).edit
        moved_NTD = model.lower(ids_NT)[1].clone()
        moved_NTD[0, 2] += find(model, batch, chosen, lambda: None)[0]
        with torch.no_grad():
            after_V = model.log_probs(model.upper(moved_NTD))[0, -1]
        return float((after_V.exp() * (after_V - before_V)).sum())

    assert drift(100.0) < 0.1 * drift(0.0)


def test_each_layer_takes_an_equal_share_of_what_is_still_missing(folder, monkeypatch):
    """Old keys that weigh nothing let each layer write its whole share at its own output."""
    engine = engine_of(folder, method=MEMIT(**{**METHOD.model_dump(), "preserve": 1e-9}))
    model, facts = engine._model, requests()[:1]
    start = Batch.of(model, facts)
    wanted_ND = start.hidden_ND + 0.01 * torch.ones_like(start.hidden_ND)
    engine._second_moments()
    before = [weight.clone() for weight in model.weights]
    passes: list[Batch] = []
    lower = Batch.of

    def watched(*arguments) -> Batch:
        passes.append(lower(*arguments))
        return passes[-1]

    monkeypatch.setattr(Batch, "of", watched)
    engine._write(facts, wanted_ND)
    monkeypatch.undo()
    assert len(passes) == 3
    for index, seen in enumerate(passes):
        written_ND = seen.keys_LNF[index] @ (model.weights[index] - before[index]).T
        share_ND = (wanted_ND - seen.hidden_ND) / (3 - index)
        torch.testing.assert_close(written_ND, share_ND, rtol=1e-3, atol=1e-6)
        assert float(written_ND.norm()) > 0
    # The last layer writes what is left, so nothing is missing then.
    end_ND = Batch.of(model, facts).hidden_ND
    torch.testing.assert_close(end_ND, wanted_ND, rtol=0, atol=1e-4)


def test_an_edit_lowers_the_loss_and_changes_the_chosen_matrices_alone(folder):
    lines: list[str] = []
    engine = engine_of(folder, lines.append)
    before = downs(engine)
    loss, norm = engine.step(single(EXAMPLES), NUM_TARGETS, 1e-5)
    again, _ = engine.step(single(EXAMPLES), NUM_TARGETS, 1e-5)
    assert again < 0.8 * loss
    assert norm > 0
    assert lines[0].startswith("3 facts edited in layers 1 to 3; loss")
    changed = {name for name, weight in engine.policy() if not torch.equal(weight, before[name])}
    assert changed == {f"model.layers.{layer}.mlp.down_proj.weight" for layer in LAYERS}


def test_the_loss_is_that_of_the_model_before_the_edit(folder):
    plain = AutoModelForCausalLM.from_pretrained(folder)
    total = 0.0
    for prompt, target in EXAMPLES:
        logits = plain(torch.tensor([[*prompt, *target]])).logits[0, len(prompt) - 1 : -1]
        loss = torch.nn.functional.cross_entropy(logits, torch.tensor(target), reduction="sum")
        total += float(loss.detach())
    found, _ = engine_of(folder).step(single(EXAMPLES), NUM_TARGETS, 1e-5)
    assert found == pytest.approx(total / NUM_TARGETS, rel=1e-4)


def test_an_edit_does_not_depend_on_how_facts_are_batched(folder):
    whole, split = engine_of(folder), engine_of(folder, row_tokens=6)
    whole.step(single(EXAMPLES), NUM_TARGETS, 1e-5)
    split.step(single(EXAMPLES), NUM_TARGETS, 1e-5)
    torch.testing.assert_close(downs(split), downs(whole), rtol=1e-3, atol=1e-3)


def test_an_edit_that_is_not_finite_changes_nothing(folder):
    engine = engine_of(folder)
    engine._moments = [torch.full((64, 64), torch.nan, dtype=torch.float64)] * 3
    before = downs(engine)
    assert engine.step(single(EXAMPLES), NUM_TARGETS, 1e-5)[1] == torch.inf
    torch.testing.assert_close(downs(engine), before, rtol=0, atol=0)


def test_samples_are_the_same_for_a_seed_and_report_each_token(folder, monkeypatch):
    monkeypatch.setattr("learner.editing.model._SAMPLE_TOKENS", 16)
    model = EditedModel(folder, LAYERS, torch.device("cpu"))
    steps: list[int] = []
    (first,), (again,), (other,) = (
        list(model.samples(20, seed, lambda: steps.append(1))) for seed in (1, 1, 2)
    )
    assert first.shape == (2, 16)
    assert len(steps) == 3 * 15
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_packed_rows_are_an_error(folder):
    with pytest.raises(AssertionError, match="one example"):
        engine_of(folder).step(pack(EXAMPLES, 64), NUM_TARGETS, 1e-5)


def test_the_covariance_is_of_the_base_model_even_after_an_edit(folder, monkeypatch):
    monkeypatch.setattr("learner.editing.model._SAMPLE_TOKENS", 16)
    first, later = (
        EditingEngine(
            folder, SETTINGS, METHOD.edit, seed=0, sites={}, text_ids=[], log=lambda line: None
        )
        for _ in range(2)
    )
    for weight in later._model.weights:
        weight += 1.0
    edited = downs(later)
    torch.testing.assert_close(later._second_moments(), first._second_moments(), rtol=0, atol=0)
    torch.testing.assert_close(downs(later), edited, rtol=0, atol=0)


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "qwen3", "smollm3"])
def test_every_supported_family_can_be_edited(tmp_path, family):
    plain = {"use_sliding_window": False, "layer_types": ["full_attention"] * 3}
    make(tmp_path, family, **(plain if family == "qwen2" else {}))
    method = MEMIT(layers=(0, 1), clamp=4.0, covariance_tokens=300, preserve=0.01)
    engine = engine_of(tmp_path, method=method)
    loss, _ = engine.step(single(EXAMPLES), NUM_TARGETS, 1e-5)
    assert engine.step(single(EXAMPLES), NUM_TARGETS, 1e-5)[0] < loss


@pytest.mark.parametrize(
    ("family", "method", "message"),
    [
        ("gemma2", MEMIT(), "model_type 'gemma2' is not one it is tested with"),
        ("qwen2", MEMIT(), "layer_types of this qwen2 differ"),
        ("llama", MEMIT(layers=(1, 3)), r"method.layers is \[1, 3\], but the model has layers 0"),
        ("llama", MEMIT(covariance_tokens=47), r"covariance_tokens is 47, less than .* 48"),
    ],
)
def test_a_model_that_cannot_be_edited_is_refused(tmp_path, family, method, message):
    make(tmp_path, family)
    with pytest.raises(UserError, match=message):
        engine_of(tmp_path, method=method)


class Queue:
    """Two edits: of the first two facts, and of the third."""

    def __init__(self) -> None:
        self.committed: list[int] = []

    def register(self, token: str) -> int:
        return 1

    def sample(self, generation: int, step: int) -> Sampled:
        chosen = {1: EXAMPLES[:2], 2: EXAMPLES[2:]}.get(step, [])
        rollouts = [
            Rollout(str(at), 0, 0, *example, [], [], [], [], None, 0, "", True)
            for at, example in enumerate(chosen)
        ]
        return Sampled(True, [(0, pack_rollout(one)) for one in rollouts], 3, 1 if step == 1 else 0)

    def note_trained(self, generation: int, step: int) -> None: ...

    def prepare(self, generation: int, step: int) -> None: ...

    def commit(self, generation: int, step: int) -> None:
        self.committed.append(step)

    def restore(self, generation: int, step: int) -> str:
        return ""

    def last_step(self) -> int:
        return 2


def learn(run: RunDir, engine: EditingEngine, folder) -> Queue:
    queue = Queue()
    chosen = SETTINGS.model_copy(update={"batch_size": 2, "checkpoint_every": 1})
    assert Learner(engine, queue, chosen, run, folder, 0, lambda line: None).run() == 2
    return queue


def test_the_learner_commits_edits_and_resumes_between_two_exactly(folder, tmp_path):
    run = RunDir(tmp_path / "run")
    run.create()
    engine = engine_of(folder)
    assert learn(run, engine, folder).committed == [1, 2]
    lines = [json.loads(line) for line in run.steps.read_text().splitlines()]
    assert [len(line["exposures"]) for line in lines] == [2, 1]

    loaded = AutoModelForCausalLM.from_pretrained(run.checkpoints / "step_2", dtype=torch.float32)
    expected = dict(engine.policy())
    for name, weight in loaded.named_parameters():
        assert torch.equal(weight, expected[name]), name

    # Without the second checkpoint, the second edit is made again, from the first.
    newest = existing(run.checkpoints)[0]
    assert newest.step == 2
    newest.folder.rename(tmp_path / "gone")
    resumed = engine_of(folder)
    assert learn(run, resumed, folder).committed == [2]
    torch.testing.assert_close(downs(resumed), expected, rtol=0, atol=0)
    assert existing(run.checkpoints)[0].manifest.num_updates == 2


def test_bfloat16_checkpoints_are_exported_rounded_and_resumed_in_float32(folder):
    engine = engine_of(folder, dtype="bfloat16")
    engine.step(single(EXAMPLES), NUM_TARGETS, 1e-5)
    snapshot = engine.snapshot(with_state=True)
    assert {weight.dtype for weight in snapshot.weights.values()} == {torch.bfloat16}
    assert {value.dtype for value in snapshot.state.values()} == {torch.float32}
    assert json.loads(snapshot.files["config.json"])["dtype"] == "bfloat16"
    assert not engine.snapshot(with_state=False).state
