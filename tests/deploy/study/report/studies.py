"""Small studies on disk: real result files and ledgers of runs that were never trained."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from actors.evaluation.results import EvaluatedModel, Results
from actors.evaluation.scores import (
    Analyses,
    BenchmarkScore,
    FisherAlignment,
    Response,
    Scores,
)
from common.config.run_config import dump, parse
from common.estimates import wilson
from common.ledger import Ledger
from common.records import pack_rollout
from deploy.study.cells import Cell
from tests.deploy.report.test_summary import PLAIN

STEP = 24


@dataclass(frozen=True)
class Shares:
    """Shares of right answers at one checkpoint; ``fisher``: alignment, D_F and ‖Δθ‖²."""

    recall: float
    held_out: Mapping[str, float]
    fisher: tuple[float, float, float] | None = None


@dataclass(frozen=True)
class FakeRun:
    """What a run's folder has: checkpoints, the base first, and the NLL of its targets."""

    checkpoints: Sequence[Shares]
    nll: float = 2.0
    state: str = "finished"
    items: int = 40
    texts: Mapping[str, str] = field(default_factory=dict)


def cell(
    study: Path, factors: Mapping[str, str], config: Mapping[str, object], run: FakeRun
) -> Cell:
    """A cell of the study in the folder ``study``, with the folder of its run."""
    name = "-".join(factors.values())
    seed = int(factors.get("seed", 0))
    settings = {"data": {"kgfact": {}}, **config, "name": name, "seed": seed}
    settings["learner"] = {"lr": float(factors.get("learner.lr", 1e-5))}
    made = Cell(name, factors, parse(settings, name))
    folder = made.run(study)
    folder.create()
    folder.config.write_text(dump(made.config))
    folder.status.write_text(json.dumps({"run": name, "state": run.state}))
    ledger = Ledger(folder.ledger, epochs=1, seed=0)
    ledger.add_work([("f0", 0)])
    rollout = replace(
        PLAIN, fact_id="f0", base_logprobs=[-run.nll, -run.nll], canonical_logprobs=[-5.0]
    )
    ledger.insert("f0", 0, pack_rollout(rollout), attempts=1)
    ledger.close()
    for number, shares in enumerate(run.checkpoints):
        # The base is the same whatever the seed.
        _write(Results(folder.eval), number * STEP, shares, run, seed if number else 0)
    return made


def _write(results: Results, step: int, shares: Shares, run: FakeRun, seed: int) -> None:
    by_benchmark = {"recall": shares.recall, **shares.held_out}
    responses = [
        one
        for name, share in by_benchmark.items()
        for one in _responses(name, share, run, step, seed)
    ]
    scores: Scores = {name: _score(name, responses) for name in by_benchmark}
    model = EvaluatedModel(step, Path(), f"w{step}-{results.folder.parent.name}")
    results.write(model, "all", "key", scores, responses)
    if shares.fisher is not None:
        alignment, weighted, raw = shares.fisher
        fisher = FisherAlignment(alignment=alignment, weighted=weighted, raw=raw, examples=8)
        results.write(model, "fisher", "key", {}, analyses=Analyses(fisher=fisher))


def _responses(name: str, share: float, run: FakeRun, step: int, seed: int) -> Iterable[Response]:
    order = list(range(run.items))
    if step:
        random.Random(f"{name}:{seed}").shuffle(order)
    right = set(order[: round(share * run.items)])
    for number in range(run.items):
        item = f"{name}-{number}"
        answer = run.texts.get(item, f"It is answer {number}." if number in right else "No idea.")
        yield Response(
            benchmark=name,
            id=item,
            question=f"What is {item}?",
            answer=f"answer {number}",
            response=answer,
            right=number in right,
            **(
                {"verdicts": {"strict": number in right and number % 2 == 0}}
                if name == "recall"
                else {}
            ),
        )


def _score(name: str, responses: Sequence[Response]) -> BenchmarkScore:
    own = [one for one in responses if one.benchmark == name]

    def share(rights: Sequence[bool]) -> dict[str, float]:
        low, high = wilson(sum(rights), len(rights))
        return {"value": sum(rights) / len(rights), "low": low, "high": high}

    more = {"n": len(own), "unit": "fraction"}
    strict = [one.verdicts["strict"] for one in own if "strict" in one.verdicts]
    graders = {"graders": {"strict": share(strict)}} if strict else {}
    score = {**share([bool(one.right) for one in own]), **more, **graders}
    return BenchmarkScore.from_json(score)
