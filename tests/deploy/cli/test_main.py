"""Bad input: exit code 2, a message that helps, and nothing written."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from common.rundir import RunDir, write_atomic
from deploy.cli.main import main

GOOD = {
    "name": "run",
    "prompts": "short-sentence",
    "method": {"name": "mixsd"},
    "data": {"kgfact": {"domains": 2, "entities": 2}},
}


@pytest.fixture
def refuse(tmp_path):
    """Run ``up`` with changes to a good configuration; the message it is refused with."""

    def up(changes: dict, runs: Path | None = None) -> str:
        path = tmp_path / "config.yaml"
        path.write_text(yaml.safe_dump({**GOOD, **changes}))
        folder = runs or tmp_path / "runs"
        result = CliRunner().invoke(main, ["up", str(path), "--runs", str(folder)])
        assert result.exit_code == 2, result.output
        assert not (folder / "run").exists()
        return result.stderr

    return up


def _facts(tmp_path: Path, *lines: object) -> dict:
    path = tmp_path / "facts.jsonl"
    path.write_text("\n".join(x if isinstance(x, str) else json.dumps(x) for x in lines))
    return {"data": {"facts": str(path)}}


def test_an_unknown_key_is_answered_with_the_nearest_one(refuse):
    assert "did you mean learner.epochs?" in refuse({"learner": {"epoch": 3}})


def test_a_value_out_of_range_is_named_with_its_bound(refuse):
    message = refuse({"method": {"name": "mixsd", "mix_rate": 1.5}})
    assert "method.mix_rate" in message
    assert "less than or equal to 1, not 1.5" in message


def test_a_missing_configuration_is_named(tmp_path):
    result = CliRunner().invoke(main, ["up", str(tmp_path / "none.yaml")])
    assert result.exit_code == 2
    assert "none.yaml: cannot be read" in result.stderr


def test_a_missing_fact_file_is_named(refuse):
    assert "nowhere.jsonl cannot be read" in refuse({"data": {"facts": "nowhere.jsonl"}})


def test_a_malformed_line_is_named_by_file_and_number(refuse, tmp_path):
    data = _facts(tmp_path, {"question": "Q?", "answer": "A"}, '{"question": ')
    assert "facts.jsonl:2: not JSON" in refuse(data)


def test_an_empty_corpus_is_refused(refuse, tmp_path):
    assert "contains no facts" in refuse(_facts(tmp_path, ""))


def test_a_fact_id_used_twice_is_refused(refuse, tmp_path):
    fact = {"id": "a", "question": "Q?", "answer": "A"}
    shown = refuse(_facts(tmp_path, fact, fact))
    assert f"facts.jsonl:2: id 'a' was used at {tmp_path / 'facts.jsonl'}:1" in shown


@pytest.mark.slow
@pytest.mark.one_core
def test_a_prompt_longer_than_the_context_is_refused(refuse, tmp_path):
    data = _facts(tmp_path, {"question": "why " * 400, "answer": "A"})
    assert "more than engine.max_model_len=256" in refuse(
        {**data, "engine": {"max_model_len": 256}}
    )


@pytest.mark.slow
@pytest.mark.one_core
def test_targets_that_the_verifier_does_not_accept_are_refused(refuse, tmp_path):
    right = {"question": "Q?", "answer": "Tam"}
    data = _facts(tmp_path, *[right] * 18, right | {"target": "It is Ivo."})
    shown = refuse(data)
    assert "the verifier 'contains' accepts 94.7 % of 19 canonical targets" in shown
    assert "fact 'line-19': answer 'Tam', target 'It is Ivo.'" in shown
    assert "accepts 0.0 % of 19" in refuse({**data, "rollout": {"verify": "exact"}})


def test_a_model_folder_without_weights_is_refused(refuse, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    assert "no weights" in refuse({"model": str(tmp_path / "model")})


def test_a_run_folder_that_cannot_be_written_is_refused(refuse, tmp_path):
    (tmp_path / "file").write_text("")
    assert "cannot be written" in refuse({}, runs=tmp_path / "file" / "runs")


def test_a_live_runs_name_is_refused(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(GOOD))
    run = RunDir(tmp_path / "runs" / "run")
    run.create()
    run.config.write_text(path.read_text())
    write_atomic(run.status, json.dumps({"state": "running", "updated": time.time()}))
    result = CliRunner().invoke(main, ["up", str(path), "--runs", str(tmp_path / "runs")])
    assert result.exit_code == 2
    assert "in use" in result.stderr


@pytest.mark.parametrize(
    ("out", "options", "message"),
    [
        ("taken.jsonl", [], "exists; choose another file, or replace it with --force"),
        ("taken.jsonl", ["--force", "--so-far"], "run run-targets has no targets yet"),
        (".", [], "a folder; name a file in it"),
        ("nowhere/targets.jsonl", [], "nowhere is not a writable folder"),
    ],
)
def test_targets_that_could_not_be_written_are_not_drawn(tmp_path, out, options, message):
    path, taken = tmp_path / "config.yaml", tmp_path / "taken.jsonl"
    path.write_text(yaml.safe_dump(GOOD))
    taken.write_text("mine")
    arguments = ["rollout", str(path), "--out", str(tmp_path / out), *options]
    result = CliRunner().invoke(main, [*arguments, "--runs", str(tmp_path / "runs")])
    assert result.exit_code == 2
    assert message in result.stderr
    assert taken.read_text() == "mine"
    assert not (tmp_path / "runs").exists()


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from deploy.cli.main import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'ray', 'vllm', 'transformers', 'pydantic'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_a_message_about_data_and_a_log_cannot_control_the_terminal(refuse, tmp_path):
    fact = {"id": "\x1b[2Ja", "question": "q", "answer": "a", "statement": "s"}
    message = refuse(_facts(tmp_path, fact, fact))
    assert "\x1b" not in message
    assert r"\x1b[2Ja" in message
    run = RunDir(tmp_path / "runs" / "one")
    run.create()
    run.config.write_text("name: one\n")
    (run.logs / "rollout-0.log").write_text("ok\n\x1b]0;owned\x07\tend\n")
    result = CliRunner().invoke(main, ["logs", "one", "--runs", str(tmp_path / "runs")], color=True)
    assert "ok\n\\x1b]0;owned\\x07\tend\n" in result.output


def test_all_output_passes_the_door():
    """What is written past ``echo`` or ``printable`` is listed here, with its reason."""
    allowed = {
        "options.py": 1,  # echo itself
        "completion.py": 1,  # a script for a shell, written by click
    }
    folder = Path(sys.modules["deploy.cli.main"].__file__).parent
    for path in sorted(folder.glob("*.py")):
        raw = re.findall(r"click\.echo\b|(?<![.\w])print\(", path.read_text())
        assert len(raw) == allowed.get(path.name, 0), path


@pytest.mark.parametrize("value", ["[", "9" * 5000, ".inf", "*a", '"\\ud800"'])
def test_a_value_for_a_live_run_that_is_no_yaml_is_refused(tmp_path, value):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text(yaml.safe_dump(GOOD))
    for command, key in (("scale", "rollout"), ("set", "replay.tolerance")):
        arguments = [command, "run", f"{key}={value}", "--runs", str(tmp_path)]
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code == 2, result.output
        assert "not YAML: " in result.stderr or "finite" in result.stderr
        assert len(result.stderr) < 1000
