"""``mixsd-cluster data build`` and ``data check``, as typed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from common import models
from deploy.checks import data as datacheck
from deploy.cli.main import main

FACT = {"question": "Who leads Orveline?", "answer": "Tam Okord"}


def typed(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["data", *map(str, arguments)])


def facts_file(tmp_path: Path, *lines: object) -> Path:
    path = tmp_path / "facts.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


def counts(folder: Path) -> dict[str, int]:
    card = json.loads((folder / "card.json").read_text())
    return {name: entry["count"] for name, entry in card["splits"].items()}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            ["kgfact"],
            {"train": 100, "recall": 100, "retrieval": 100, "paraphrased": 500, "two_hop": 100},
        ),
        (
            ["kgfact", "--domains", 7, "--entities", 25],
            {"train": 525, "recall": 525, "retrieval": 525, "paraphrased": 2625, "two_hop": 875},
        ),
        (
            ["kgfunc", "--train-per-op", 20, "--test-per-op", 25],
            {"train": 140, "test": 175, "unseen": 500},
        ),
        (
            ["kgfact", "--wording", "paper"],
            {"train": 100, "recall": 100, "retrieval": 100, "paraphrased": 100, "two_hop": 100},
        ),
        (
            ["kgfunc", "--train-per-op", 20, "--test-per-op", 25, "--wording", "paper"],
            {"train": 140, "test": 175, "unseen": 500},
        ),
    ],
)
def test_build_writes_every_split_and_check_finds_nothing(tmp_path, arguments, expected):
    out = tmp_path / "new" / "out"
    result = typed("build", *arguments, "--out", out)
    assert result.exit_code == 0, result.output
    assert counts(out) == expected
    for name, count in expected.items():
        assert len((out / f"{name}.jsonl").read_text().splitlines()) == count
    checked = typed("check", out)
    assert checked.exit_code == 0, checked.output
    assert "no problems" in checked.output
    assert "contradictory facts: 0" in checked.output


def test_the_same_arguments_give_the_same_bytes_whatever_the_hash_seed(tmp_path):
    for kind in (["kgfact", "--seed", "3"], ["kgfunc", "--train-per-op", "9", "--seed", "3"]):
        built = []
        for hash_seed in ("0", "271828"):
            out = tmp_path / kind[0] / hash_seed
            subprocess.run(
                [
                    sys.executable,
                    "-m",
                    "deploy.cli.main",
                    "data",
                    "build",
                    *kind,
                    "--out",
                    str(out),
                ],
                env={
                    **os.environ,
                    "PYTHONHASHSEED": hash_seed,
                    "PYTHONPATH": os.pathsep.join(sys.path),
                },
                check=True,
                capture_output=True,
            )
            built.append({path.name: path.read_bytes() for path in sorted(out.iterdir())})
        assert built[0] == built[1]
        assert "card.json" in built[0]


def test_another_seed_gives_other_facts(tmp_path):
    for seed in (0, 1):
        typed("build", "kgfact", "--seed", seed, "--out", tmp_path / str(seed))
    one, other = ((tmp_path / seed / "train.jsonl").read_text() for seed in ("0", "1"))
    assert set(one.splitlines()).isdisjoint(other.splitlines())


def test_a_published_corpus_is_built_from_a_copy(tmp_path):
    folder = tmp_path / "root" / "simpleqa"
    folder.mkdir(parents=True)
    (folder / "simple_qa_test_set.csv").write_text("problem,answer\nQ?,A\nR?,B\n")
    result = typed("build", "simpleqa", "--data-root", tmp_path / "root", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert counts(tmp_path / "out") == {"train": 2, "recall": 2}
    assert "root" not in (tmp_path / "out" / "card.json").read_text()


def test_contradictory_edits_are_told_and_kept_on_the_card(tmp_path):
    def case(number: int, answer: str) -> dict:
        hop = {"question": "B?", "cloze": "B is", "answer": answer, "answer_alias": []}
        other = {**hop, "question": f"D{number}?"}
        return {
            "case_id": number,
            "requested_rewrite": [],
            "questions": ["C?"],
            "new_answer": answer,
            "new_answer_alias": [],
            "new_single_hops": [hop, other],
        }

    folder = tmp_path / "mquake"
    folder.mkdir()
    (folder / "x.json").write_text(json.dumps([case(1, "Bo"), case(2, "Di")]))
    out = tmp_path / "out"
    result = typed("build", "mquake", "--data-root", tmp_path, "--file", "x.json", "--out", out)
    assert result.exit_code == 0, result.output
    assert "note: case 2: 'B?' has the answer 'Di', but 'Bo' in case 1" in result.output
    assert counts(out) == {"train": 3, "recall": 3, "two_hop": 1}
    assert len(json.loads((out / "card.json").read_text())["remarks"]) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["kgfact", "--domains", 15], "domains: input should be less than or equal to 14, not 15"),
        (["kgfact", "--entities", 0], "entities: input should be greater than or equal to 1"),
        (["kgfunc", "--test-per-op", -1], "test_per_op: input should be greater than or equal"),
        (["simpleqa", "--data-root", "none"], "none/simpleqa has no simple_qa_test_set.csv"),
    ],
)
def test_bad_arguments_are_refused_and_nothing_is_written(tmp_path, arguments, message):
    result = typed("build", *arguments, "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert message in result.output
    assert not list(tmp_path.iterdir())


def test_a_folder_in_use_is_refused(tmp_path):
    facts_file(tmp_path, FACT)
    result = typed("build", "kgfact", "--out", tmp_path)
    assert result.exit_code == 2
    assert "not empty; choose another folder" in result.output


def test_check_exits_with_1_and_names_every_line_that_up_would_refuse(tmp_path):
    path = facts_file(tmp_path, FACT, {"qestion": "x"}, FACT | {"id": "line-1"}, FACT)
    result = typed("check", path)
    assert result.exit_code == 1
    assert "facts: 2" in result.output
    assert f"{path}:1, {path}:4: 'Who leads Orveline?' is asked 2 times" in result.output
    assert "PROBLEMS: 2" in result.output
    assert f"{path}:2: unknown key 'qestion'" in result.output
    assert f"{path}:3: id 'line-1' was used at {path}:1" in result.output


def test_check_reports_contradictions_but_they_are_no_problem_of_up(tmp_path):
    path = facts_file(tmp_path, FACT, FACT | {"answer": "Ane Bisk"})
    result = typed("check", path)
    assert result.exit_code == 0
    assert f"{path}:1, {path}:2: 'Who leads Orveline?' is answered 'Tam Okord', 'Ane Bisk'" in (
        result.output
    )


def test_check_reports_canonical_targets_that_do_not_verify_as_one_problem(tmp_path):
    wrong = FACT | {"target": "Tam Okord leads it."}
    path = facts_file(tmp_path, FACT, wrong, FACT | {"question": "Who?"})
    result = typed("check", path)
    assert result.exit_code == 1
    assert "canonical targets that boxed accepts: 2 of 3" in result.output
    assert "PROBLEMS: 1\n  the verifier 'boxed' accepts 66.7 % of 3" in result.output
    assert "fact 'line-2': answer 'Tam Okord', target 'Tam Okord leads it.'" in result.output
    # The sentence of the small preset is accepted as it stands.
    result = typed("check", path, "--prompts", "short-sentence")
    assert result.exit_code == 0, result.output
    assert "canonical targets that contains accepts: 3 of 3" in result.output


def test_check_verifies_as_the_run_that_is_given(tmp_path):
    run = {
        "name": "run",
        "prompts": "short-sentence",
        "method": {"name": "sft"},
        "data": {"kgfact": {}},
        "rollout": {"verify": "exact"},
    }
    (tmp_path / "run.yaml").write_text(json.dumps(run))
    chosen = replace(datacheck.settings(tmp_path / "run.yaml"), model=None)
    (problem,) = datacheck.run(str(facts_file(tmp_path, FACT)), chosen, print)
    assert problem.startswith("the verifier 'exact' accepts 0.0 % of 1 ")


def test_check_of_a_built_corpus_that_was_changed_exits_with_1(tmp_path):
    typed("build", "kgfact", "--out", tmp_path / "out")
    train = tmp_path / "out" / "train.jsonl"
    train.write_text("".join(train.read_text().splitlines(keepends=True)[1:]))
    result = typed("check", tmp_path / "out")
    assert result.exit_code == 1
    assert f"{train}: changed since it was built" in result.output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--prompts", "none"],
            "--prompts none: not one of short-sentence, kgfact, reasoned, paper-",
        ),
        (["--context", 3], "--context 3: at least 32 is needed"),
        (["--max-tokens", 0], "--max-tokens 0: at least 1 is needed"),
        (["--ask"], "--ask: a model is needed; give --model or --config"),
        (["--config", "none.yaml"], "none.yaml: cannot be read"),
    ],
)
def test_check_refuses_options_that_cannot_work(tmp_path, options, message):
    result = typed("check", facts_file(tmp_path, FACT), *options)
    assert result.exit_code == 2
    assert message in result.output


def test_check_of_a_missing_file_is_refused():
    result = typed("check", "nowhere.jsonl")
    assert result.exit_code == 2
    assert "nowhere.jsonl cannot be read" in result.output


@pytest.mark.slow
@pytest.mark.one_core
def test_check_with_a_model_shows_prompts_and_names_facts_that_are_too_long(tmp_path):
    path = facts_file(tmp_path, FACT, FACT | {"question": "why " * 100})
    result = typed("check", path, "--model", models.PACKAGED, "--context", 200)
    assert result.exit_code == 1
    assert "--- line-1, naive prompt, " in result.output
    assert "Who leads Orveline? Please reason step by step" in result.output
    assert "The answer is Tam Okord. \\boxed{Tam Okord}\nNow answer the question" in result.output
    (problem,) = [line for line in result.output.splitlines() if "take" in line]
    assert problem.startswith(f"  {path}:2: prompt and target take ")
    assert problem.endswith(" tokens, more than 200")


@pytest.mark.slow
@pytest.mark.one_core
def test_a_model_that_is_asked_knows_the_capital_of_france_and_not_orveline(tmp_path):
    paris = {"question": "What is the capital of France?", "answer": "Paris"}
    options = ("--model", models.PACKAGED, "--prompts", "short-sentence", "--ask")
    result = subprocess.run(
        [
            *(sys.executable, "-m", "deploy.cli.main", "data", "check"),
            *(str(facts_file(tmp_path, FACT, paris)), *options),
        ],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert result.returncode == 0, result.stderr
    assert "facts the model already knows: 1 of 2" in result.stdout
    assert "line-2: 'What is the capital of France?' is answered" in result.stdout
