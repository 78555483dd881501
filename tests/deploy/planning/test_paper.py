"""The paper's experiments: what each file sets, and that every cell of its tables fits one node."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path

import pytest

from actors.evaluation.benchmarks import SUITES
from common.config.run_config import RunConfig, load
from deploy.planning.fitting import Machine
from deploy.planning.simulation import simulate

PAPER = Path(__file__).parents[3] / "configs" / "paper"
CORPORA = sorted(path.stem for path in PAPER.glob("*.yaml") if path.stem != "base")
MODELS = sorted(path.stem for path in (PAPER / "models").glob("*.yaml"))
METHODS = sorted(path.stem for path in (PAPER / "methods").glob("*.yaml"))


def cell(corpus: str, *overlays: str) -> RunConfig:
    return load(PAPER / f"{corpus}.yaml", (), [PAPER / f"{overlay}.yaml" for overlay in overlays])


@pytest.fixture(scope="module")
def copies(tmp_path_factory) -> Path:
    """Published data sets of the size that the paper uses, or a part of it."""
    root = tmp_path_factory.mktemp("copies")
    for name in ("simpleqa", "mquake"):
        (root / name).mkdir()
    rows = "".join(f"{{}},Who is number {n}?,Person {n}\n" for n in range(2000))
    (root / "simpleqa/simple_qa_test_set.csv").write_text(f"metadata,problem,answer\n{rows}")
    hops = [
        {"question": f"Who leads {n}?", "cloze": "", "answer": f"A {n}", "answer_alias": []}
        for n in range(300)
    ]
    case = {
        "requested_rewrite": [],
        "questions": ["Who?"],
        "new_answer": "A",
        "new_answer_alias": [],
    }
    cases = [{"case_id": n, **case, "new_single_hops": [hop]} for n, hop in enumerate(hops)]
    (root / "mquake/cases.json").write_text(json.dumps(cases))
    return root


def local(corpus: str, copies: Path) -> list[str]:
    """Overrides for a published corpus to be read from ``copies``."""
    found = {"simpleqa": [], "mquake-100": ["data.mquake.file=cases.json"]}.get(corpus)
    return [] if found is None else [f"data.root={copies}", *found]


def test_the_papers_corpora_models_and_methods_are_there():
    assert CORPORA == ["kgfact-large", "kgfact-small", "kgfunc", "mquake-100", "simpleqa"]
    assert MODELS == ["llama-3.2-1b", "qwen3-1.7b", "qwen3-4b", "qwen3-8b"]
    assert METHODS == ["mixsd-0.3", "mixsd-0.5", "mixsd-0.7", "opsd", "sft"]


def test_the_main_experiment_is_a_cell():
    main = load(PAPER.parent / "8b.yaml")
    same = cell("kgfact-large", "models/qwen3-8b", "methods/mixsd-0.3")
    assert main == same.model_copy(update={"name": "8b"})
    assert main == cell("kgfact-large").model_copy(update={"name": "8b"})


# epochs, max_steps, batch, warm-up, T, retries
@pytest.mark.parametrize(
    ("corpus", "expected"),
    [
        ("kgfact-small", (30, None, 20, 0, 0.0, 100)),
        ("kgfact-large", (30, None, 20, 0, 0.0, 100)),
        ("mquake-100", (30, None, 20, 0, 0.0, 100)),
        ("kgfunc", (1, 100, 16, 20, 0.0, 100)),
        ("simpleqa", (1, 100, 16, 20, 0.6, 10)),
    ],
)
def test_each_corpus_is_trained_as_released(corpus, expected):
    for method in ("mixsd-0.3", "sft"):
        config = cell(corpus, f"methods/{method}")
        learner, rollout = config.learner, config.rollout
        assert expected == (
            *(learner.epochs, learner.max_steps, learner.batch_size, learner.warmup_steps),
            *(rollout.temperature, rollout.max_retries),
        )


@pytest.mark.parametrize(("corpus", "method"), list(product(CORPORA, METHODS)))
def test_every_cell_has_the_released_optimizer_and_limits(corpus, method):
    config = cell(corpus, f"methods/{method}")
    learner = config.learner
    assert (learner.schedule, learner.lora, learner.lr) == ("constant", None, 1e-5)
    assert (learner.betas, learner.eps, learner.clip) == ((0.9, 0.95), 1e-8, 1.0)
    assert (learner.weight_decay, learner.weight_decay_on) == (0.01, "all")
    assert (config.rollout.max_tokens, config.engine.max_model_len) == (8192, 10_000)


@pytest.mark.parametrize(("corpus", "method"), list(product(CORPORA, METHODS)))
def test_every_cell_measures_the_five_benchmarks_and_fisher_as_released(corpus, method):
    config = cell(corpus, f"methods/{method}")
    evaluator = config.evaluator
    measured = {name for suite in evaluator.names for name in SUITES[suite]}
    assert {"mmlu", "gsm8k", "math500", "aime24", "humaneval", "recall"} <= measured
    assert evaluator.fisher is not None
    # In-domain at every checkpoint, for the first peak; an answer of 16,384 tokens has room.
    assert evaluator.always == {"in_domain"}
    assert config.learner.interval == 20
    assert config.evaluator_engine.max_model_len >= 16_384 + 512
    chosen = (evaluator.protocol, evaluator.sampling, evaluator.select, evaluator.limit)
    assert chosen == ("paper", "paper", "paper", None)


@pytest.mark.parametrize("corpus", CORPORA)
def test_every_corpus_has_the_released_wording(corpus):
    config = cell(corpus)
    assert str(config.prompts).startswith("paper-")
    generated = config.data.kgfact or config.data.kgfunc
    assert generated is None or generated.wording == "paper"


@pytest.mark.parametrize("corpus", CORPORA)
def test_self_distillation_takes_16_prompts_of_8_rollouts_and_the_teachers_64_tokens(corpus):
    config = cell(corpus, "methods/opsd")
    student, loss = config.student, config.method.loss
    assert student is not None
    assert config.learner.batch_size == 16 * student.samples == 16 * 8
    assert (student.temperature, config.replay.max_lag) == (1.0, 0)
    assert (loss.kind, loss.support, loss.top_k) == ("forward", "top_k", 64)


def test_the_cells_differ_in_nothing_but_what_their_files_say():
    small, large = cell("kgfact-small"), cell("kgfact-large")
    changed = {"name": "kgfact-small", "data": small.data}
    assert large.model_copy(update=changed) == small
    one, two = cell("kgfunc", "methods/mixsd-0.5"), cell("kgfunc", "methods/mixsd-0.7")
    assert two.model_copy(update={"name": one.name, "method": one.method}) == one


# λ changes no need.
@pytest.mark.parametrize(("corpus", "method"), list(product(CORPORA, ["mixsd-0.3", "opsd", "sft"])))
def test_every_cell_fits_a_node_of_eight_gpus(system, copies, corpus, method):
    for model in MODELS:
        over = [f"models/{model}", f"methods/{method}"]
        overrides = local(corpus, copies)
        made = system(f"paper/{corpus}", *overrides, over=over, device="h100")
        machine = Machine(made.engine.architecture, made.device, made.workload, 8)
        assert machine.problems(made.config) == {}, model
        assert made.config.num_gpus() == (6 if method == "sft" else 8)


# 100, 525 and 100 facts in 30 epochs of batches of 20; else 100 steps of 16.
@pytest.mark.parametrize(
    ("corpus", "steps", "exposures"),
    [
        ("kgfact-small", 150, 3000),
        ("kgfact-large", 788, 15_750),
        ("mquake-100", 150, 3000),
        ("kgfunc", 100, 1600),
        ("simpleqa", 100, 1600),
    ],
)
def test_a_planned_run_takes_the_papers_steps(system, copies, corpus, steps, exposures):
    made = system(f"paper/{corpus}", *local(corpus, copies), device="h100", acceptance=1.0)
    outcome = simulate(made)
    assert outcome.steps == steps
    assert made.config.learner.within_max_steps(
        outcome.accepted * made.config.exposures_per_rollout
    ) == pytest.approx(exposures)


def test_in_a_run_of_100_steps_the_student_draws_100_batches(system):
    made = system("paper/kgfunc", over=["methods/opsd"], device="h100")
    assert made.facts == 100 * 128
