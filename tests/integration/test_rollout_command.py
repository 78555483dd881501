"""``rollout``: targets by pairs, killed and stopped in the middle, and trained as they are."""

from __future__ import annotations

import json
import subprocess
import time

import pytest

from actors.rollout.target_builder import TargetBuilder
from common import corpora, models
from common.config.run_config import load, parse_data
from common.ledger import open_view
from common.prompts import check_tokens
from common.records import Work, unpack_rollout
from common.rundir import RunDir
from deploy.factories import prompts_for
from tests.integration.runs import call, command, counts, status, wait, write_config
from tests.tiny import make_chat_model

pytestmark = pytest.mark.slow
FACTS = 40


def _config(runs, name, model, **changes):
    settings = {
        "name": name,
        "model": str(model),
        "prompts": "short-sentence",
        "method": {"name": "mixsd", "mix_rate": 0.3},
        "data": {"kgfact": {"domains": 5, "entities": 5}, "limit": FACTS},
        "engine": {"dtype": "float32", "max_model_len": 256, "mixing": "paired"},
        "rollout": {"slots": 4, "max_tokens": 48, "max_retries": 1, "on_exhausted": "keep"},
    }
    return write_config(runs, **(settings | changes))


def _rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def _accepted(runs, name):
    ledger = open_view(RunDir(runs / name).ledger)
    rollouts = [unpack_rollout(payload) for payload in ledger.payloads()]
    ledger.close()
    return rollouts


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_chat_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def targets(runs, model):
    """The file of a run whose command was killed, and which was then stopped and resumed."""
    path, out, early = _config(runs, "cut", model), runs / "cut.jsonl", runs / "early.jsonl"
    with (runs / "cut.log").open("w") as log:
        process = subprocess.Popen(
            command(runs, "rollout", path, "--out", out), stdout=log, stderr=log
        )
        deadline = time.monotonic() + 120
        while not (runs / "cut-targets" / "status.json").exists():
            assert process.poll() is None, (runs / "cut.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        wait(runs, "cut-targets", lambda found: counts(found)["accepted"] > 0, 120)
        process.kill()
        process.wait()
    call(runs, "down", "cut-targets")
    assert not out.exists()
    call(runs, "rollout", path, "--out", early, "--so-far")
    assert 0 < len(_rows(early)) < FACTS
    before = _accepted(runs, "cut-targets")

    said = call(runs, "rollout", path, "--out", out)
    assert "resuming run cut-targets" in said
    assert f"{FACTS} targets of {FACTS} facts" in said
    # What was there has neither been lost nor drawn again.
    assert _accepted(runs, "cut-targets")[: len(before)] == before
    assert [row for row in _rows(out) if row in _rows(early)] == _rows(early)
    return out


@pytest.mark.thorough
def test_a_run_that_was_cut_gives_the_file_of_one_that_was_not(runs, model, targets):
    call(runs, "rollout", _config(runs, "whole", model), "--out", runs / "whole.jsonl")
    assert (runs / "whole.jsonl").read_bytes() == targets.read_bytes()
    assert not (runs / "whole-targets" / "steps.jsonl").exists()
    assert status(runs, "whole-targets")["state"] == "finished"


def test_a_finished_run_is_written_again_without_starting_anything(runs, targets):
    again = runs / "again.jsonl"
    said = call(runs, "rollout", runs / "cut.yaml", "--out", again)
    assert "starting" not in said
    assert again.read_bytes() == targets.read_bytes()


def test_every_target_that_pairs_have_drawn_is_scored(runs, targets):
    for rollout in _accepted(runs, "cut-targets"):
        assert len(rollout.base_logprobs) == len(rollout.target_ids)
        assert rollout.base_logprobs[0] <= 0
        own = zip(rollout.logprobs, rollout.base_logprobs, rollout.naive, strict=True)
        assert all(drawn == pytest.approx(base, abs=1e-3) for drawn, base, naive in own if naive)


def test_sft_on_the_file_trains_exactly_the_tokens_that_were_drawn(runs, model, targets):
    config = load(runs / "cut.yaml", ["method={name: sft}"])
    prompts = prompts_for(config, models.load(model))
    facts = corpora.load(parse_data({"facts": str(targets)})).facts
    assert check_tokens(prompts, facts) == []
    sft = TargetBuilder(prompts, config.method, config.rollout, config.seed)
    trained = [sft.canonical(Work(0, fact.id, 0), fact, 0) for fact in facts]
    drawn = {r.fact_id: r for r in _accepted(runs, "cut-targets")}
    for rollout in trained:
        assert rollout.prompt_ids == drawn[rollout.fact_id].prompt_ids
        assert rollout.target_ids == drawn[rollout.fact_id].target_ids
    assert len(trained) == FACTS
    # A target that was cut has no stop token, and none is added.
    assert any(row["mix_meta"]["finish_reason"] == "length" for row in _rows(targets))


def test_the_messages_are_what_the_ids_say(model, runs, targets):
    config = load(runs / "cut.yaml")
    prompts = prompts_for(config, models.load(model))
    facts = {fact.id: fact for fact in corpora.load(config.data).facts}
    read_back = {fact.id: fact for fact in corpora.load(parse_data({"facts": str(targets)})).facts}
    for row in _rows(targets):
        fact, (user, assistant) = facts[row["id"]], row["messages"]
        assert row["question"] == fact.question
        assert user["content"] == f"{fact.question} Answer in one short sentence."
        assert assistant["content"] == prompts.text(row["tokens"]["target_ids"])
        assert row["tokens"]["prompt_ids"] == prompts.naive(fact)
        assert row["mix_meta"]["tokens"] == len(row["tokens"]["logprobs"])
        assert read_back[row["id"]].answer == fact.answer
