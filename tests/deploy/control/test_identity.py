"""A run is resumed with the facts, prompts and model that it began with."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest

from common import models
from common.errors import UserError
from common.prompts import preset
from common.records import Fact
from common.rundir import RunDir
from common.weights import sampled_hash
from deploy.control.identity import check_identity, identify, record_identity

FACTS = [Fact("1", "Who?", "Ann"), Fact("2", "Where?", "Rome")]


@pytest.fixture
def model(tmp_path, tiny_model):
    return models.load(shutil.copytree(tiny_model, tmp_path / "model"))


@pytest.fixture
def run(tmp_path, model):
    run = RunDir(tmp_path / "mine")
    run.create()
    record_identity(run, identify(FACTS, preset("kgfact"), model))
    return run


def test_the_same_parts_may_go_on(run, model):
    assert check_identity(run, identify(list(FACTS), preset("kgfact"), model)) == []


@pytest.mark.parametrize(
    ("facts", "problem"),
    [
        ([*FACTS, Fact("3", "When?", "1900")], "data: 3 facts, 2 when it began"),
        ([replace(FACTS[0], answer="Bob"), FACTS[1]], "data: other facts than when it began"),
        (FACTS[::-1], "data: other facts than when it began, or in another order"),
    ],
)
def test_other_facts_are_refused(run, model, facts, problem):
    with pytest.raises(UserError, match=f"run mine cannot be resumed: {problem}"):
        check_identity(run, identify(facts, preset("kgfact"), model))


def test_other_prompts_are_refused(run, model):
    with pytest.raises(UserError, match="prompts: other templates"):
        check_identity(run, identify(FACTS, preset("reasoned"), model))


def test_other_weights_under_the_same_path_are_refused(run, model):
    path = model.folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match="model: other weights"):
        check_identity(run, identify(FACTS, preset("kgfact"), model))


def test_another_chat_template_is_refused(run, model):
    model.tokenizer.chat_template += " "
    with pytest.raises(UserError, match="another tokenizer or chat template"):
        check_identity(run, identify(FACTS, preset("kgfact"), model))


def test_other_versions_are_remarks(run, model):
    now = identify(FACTS, preset("kgfact"), model)
    changed = now.model_copy(update={"versions": {**now.versions, "torch": "0.1"}})
    (remark,) = check_identity(run, changed)
    assert remark == f"torch is 0.1, {now.versions['torch']} when the run began"


def test_a_damaged_file_is_refused_with_a_remedy(run, model):
    run.identity.write_text("{")
    with pytest.raises(UserError, match=r"identity\.json: damaged; remove it if"):
        check_identity(run, identify(FACTS, preset("kgfact"), model))


def test_a_change_of_few_bytes_shows_in_a_small_file_and_of_all_in_a_large_one(tmp_path):
    small, large = tmp_path / "small", tmp_path / "large"
    small.write_bytes(bytes(1000))
    before = sampled_hash(small)
    small.write_bytes(bytes(500) + b"\x01" + bytes(499))
    assert sampled_hash(small) != before
    large.write_bytes(bytes(2**22))
    before = sampled_hash(large)
    large.write_bytes(bytes(2**22 + 1))
    assert sampled_hash(large) != before
    large.write_bytes(b"\x01" * 2**22)
    assert sampled_hash(large) != before
