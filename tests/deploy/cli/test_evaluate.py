"""``mixsd-cluster eval``: what works without an engine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from actors.evaluation.results import EvaluatedModel, Results
from actors.evaluation.scores import BenchmarkScore, GraderScore, Response, Scores, Unmeasured
from common.config.run_config import RunConfig
from common.errors import UserError
from common.weights import folder_hash, weights_hash
from deploy.cli import evaluate
from deploy.cli.main import main
from learner.checkpoint import Manifest


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A checkpoint of a run, with weights that are not any."""
    run = tmp_path / "runs" / "one"
    folder = run / "checkpoints" / "step_4"
    folder.mkdir(parents=True)
    (run / "config.yaml").write_text("name: one\n")
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    manifest = Manifest.of(4, 4, {"model.safetensors": _sha(b"weights"), "config.json": "x"})
    (folder / "manifest.json").write_text(json.dumps(manifest.to_json()))
    (run / "eval").mkdir()
    return folder


def _sha(content: bytes) -> str:
    import hashlib

    return hashlib.sha256(content).hexdigest()


def _store(checkpoint: Path) -> None:
    model = EvaluatedModel(4, checkpoint, folder_hash(checkpoint))
    scores: Scores = {
        "gsm8k": BenchmarkScore(
            value=0.5,
            low=0.1,
            high=0.9,
            n=2,
            unit="fraction",
            seconds=1.0,
            errors={"format": 1},
            graders={"paper": GraderScore(value=0.25, low=0.05, high=0.75)},
        ),
        "piqa": Unmeasured(not_measured="no data"),
    }
    responses = [
        Response(
            benchmark="gsm8k",
            id="g0",
            question="1+1?",
            answer="2",
            response="2",
            extracted="2",
            right=True,
        ),
        Response(
            benchmark="gsm8k",
            id="g1",
            question="1+2?",
            answer="3",
            response="hm",
            extracted=None,
            right=False,
            verdicts={"paper": True, "strict": False},
            error="format",
        ),
    ]
    results = Results(checkpoint.parents[1] / "eval")
    results.write(model, "small", "k" * 16, scores, responses, seconds=2.0)


def test_a_manifest_and_a_folder_without_one_give_the_same_hash(checkpoint: Path) -> None:
    files = json.loads((checkpoint / "manifest.json").read_text())["files"]
    assert weights_hash(files) == folder_hash(checkpoint)


def test_show_prints_scores_and_wrong_responses_with_their_class(checkpoint: Path) -> None:
    _store(checkpoint)
    shown = CliRunner().invoke(
        main, ["eval", "show", str(checkpoint), "--suite", "small", "--wrong"]
    )
    assert shown.exit_code == 0, shown.output
    assert "0.500" in shown.output
    assert "format 1" in shown.output
    assert "not measured" in shown.output
    (paper,) = [line for line in shown.output.splitlines() if "gsm8k (paper)" in line]
    assert "0.250" in paper
    assert "graders   paper right, strict wrong" in shown.output
    assert "gsm8k g1: wrong (format)" in shown.output
    assert "g0" not in shown.output
    assert "1 of 1 responses" in shown.output


def test_show_without_wrong_prints_all_and_a_benchmark_selects(checkpoint: Path) -> None:
    _store(checkpoint)
    shown = CliRunner().invoke(main, ["eval", "show", str(checkpoint)])
    assert "2 of 2 responses" in shown.output
    none = CliRunner().invoke(main, ["eval", "show", str(checkpoint), "--benchmark", "mmlu"])
    assert "0 of 0 responses" in none.output


def test_show_of_what_was_not_measured_says_how_to_measure_it(checkpoint: Path) -> None:
    shown = CliRunner().invoke(main, ["eval", "show", str(checkpoint), "--suite", "general"])
    assert shown.exit_code == 2
    assert f"run 'mixsd-cluster eval {checkpoint} --suite general' first" in shown.output


def test_an_unknown_suite_is_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    shown = CliRunner().invoke(main, ["eval", "packaged", "--suite", "smal"])
    assert shown.exit_code == 2
    assert "evaluator.suites" in shown.output


def test_a_folder_that_is_no_model_is_refused(tmp_path: Path) -> None:
    shown = CliRunner().invoke(main, ["eval", str(tmp_path), "--suite", "small"])
    assert shown.exit_code == 2
    assert "config.json is missing" in shown.output


TRUSTING = """
name: one
method: {name: sft}
data: {kgfact: {}}
engine: {trust_remote_code: true, max_model_len: 512}
evaluator: {unsafe_code: true}
"""


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[RunConfig]:
    """The settings that an evaluation would have been run with."""
    seen: list[RunConfig] = []

    def measure(settings: RunConfig, *_: object) -> None:
        seen.append(settings)
        raise UserError("enough")

    monkeypatch.setattr(evaluate, "_measure", measure)
    return seen


def _trust(settings: RunConfig) -> tuple[bool, bool]:
    return settings.engine.trust_remote_code, settings.evaluator.unsafe_code


def test_a_configuration_that_came_with_a_checkpoint_does_not_decide_what_is_trusted(
    checkpoint: Path, measured: list[RunConfig]
) -> None:
    (checkpoint.parents[1] / "config.yaml").write_text(TRUSTING)
    shown = CliRunner().invoke(main, ["eval", str(checkpoint)])
    assert _trust(measured[0]) == (False, False)
    # All else is taken from it.
    assert measured[0].engine.max_model_len == 512
    assert "add --set engine.trust_remote_code=true" in shown.stderr
    assert "add --set evaluator.unsafe_code=true" in shown.stderr


def test_the_command_line_decides_what_is_trusted(
    checkpoint: Path, measured: list[RunConfig], tmp_path: Path
) -> None:
    (checkpoint.parents[1] / "config.yaml").write_text(TRUSTING)
    some = ["eval", str(checkpoint), "--set", "engine.trust_remote_code=true"]
    shown = CliRunner().invoke(main, some)
    assert _trust(measured[-1]) == (True, False)
    assert "--set engine" not in shown.stderr
    assert "add --set evaluator.unsafe_code=true" in shown.stderr
    mine = tmp_path / "mine.yaml"
    mine.write_text(TRUSTING)
    shown = CliRunner().invoke(main, ["eval", str(checkpoint), "--config", str(mine)])
    assert _trust(measured[-1]) == (True, True)
    assert "add --set" not in shown.stderr


def test_a_configuration_that_trusts_nothing_is_taken_without_a_word(
    checkpoint: Path, measured: list[RunConfig]
) -> None:
    plain = TRUSTING.replace("true", "false")
    (checkpoint.parents[1] / "config.yaml").write_text(plain)
    shown = CliRunner().invoke(main, ["eval", str(checkpoint)])
    assert _trust(measured[0]) == (False, False)
    assert shown.stderr == "error: enough\n"


def test_a_response_cannot_control_the_terminal(checkpoint: Path) -> None:
    model = EvaluatedModel(4, checkpoint, folder_hash(checkpoint))
    attack = "\x1b]0;owned\x07\x1b[2J\x9b31m[red]"
    response = Response(
        benchmark="gsm8k",
        id=attack,
        question=attack,
        answer="2",
        response=f"one\n{attack}",
        extracted=attack,
        right=False,
        error="genuine",
        detail=attack,
    )
    scores: Scores = {"gsm8k": Unmeasured(not_measured="[red]\x07")}
    Results(checkpoint.parents[1] / "eval").write(
        model, "small", "k" * 16, scores, [response], seconds=2.0
    )
    shown = CliRunner().invoke(main, ["eval", "show", str(checkpoint)], color=True)
    assert shown.exit_code == 0, shown.output
    assert not any(control in shown.output for control in "\x1b\x07\x9b")
    assert r"response  one" + "\n" + r"\x1b]0;owned\x07\x1b[2J\x9b31m[red]" in shown.output
    assert r"[red]\x07" in shown.output.partition("---")[0]
