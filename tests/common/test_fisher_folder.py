"""Which folders of Fisher information a run may use."""

from __future__ import annotations

import json

import pytest

from common.errors import UserError
from common.fisher_folder import FACTS, check
from common.weights import folder_hash


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


def write(tmp_path, facts):
    (tmp_path / FACTS).write_text(json.dumps(facts))
    return tmp_path


def test_a_folder_of_the_models_weights_is_accepted(tmp_path, model):
    facts = {"weights": folder_hash(model), "benchmarks": {"mmlu": 8, "piqa": 8}, "examples": 16}
    found = check(write(tmp_path, facts), model)
    assert (found.examples, found.benchmarks) == (16, {"mmlu": 8, "piqa": 8})


def test_one_of_other_weights_is_refused_though_its_shapes_may_fit(tmp_path, model):
    folder = write(tmp_path, {"weights": "0123", "benchmarks": {}, "examples": 1})
    with pytest.raises(UserError, match=r"of weights 0123, but model .*evaluator\.fisher=\{\}"):
        check(folder, model)


def test_a_folder_that_is_missing_or_incomplete_is_refused_with_the_way_to_one(tmp_path, model):
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(UserError, match=r"no fisher\.json in it, .*evaluator\.fisher=\{\}"):
            check(folder, model)


def test_a_damaged_file_of_facts_is_named(tmp_path, model):
    with pytest.raises(UserError, match=r"fisher\.json: 'weights' is missing"):
        check(write(tmp_path, {"benchmarks": {}, "examples": 1}), model)
    (tmp_path / FACTS).write_text("{")
    with pytest.raises(UserError, match=r"fisher\.json"):
        check(tmp_path, model)
