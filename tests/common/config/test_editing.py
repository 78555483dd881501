"""Method memit: its settings, and what the learner's must be for it."""

import pytest

from common.config.run_config import parse
from common.errors import UserError
from common.methods import MEMIT, NLL, SFT, Canonical

GIVEN = {"name": "run", "data": {"kgfact": {}}, "method": {"name": "memit"}}


def test_it_edits_canonical_targets_that_are_drawn_once():
    method = parse({**GIVEN, "learner": {"epochs": 1}}, "test").method
    assert (method.target(0), method.can_retry(0, 1.0)) == (Canonical(), False)
    assert (method.loss, method.draws_per_epoch) == (NLL(), 1)
    assert (method.edit.tokens, method.edit.preserve) == (20_000, 1.0)
    assert SFT().edit is None


@pytest.mark.parametrize(
    ("learner", "message"),
    [
        ({}, r"learner\.epochs is 30, but method memit edits each fact once.*; set it to 1"),
        ({"epochs": 1, "ranks": 2}, r"learner\.ranks is 2.*; set it to 1"),
        ({"epochs": 1, "zero_stage": 1}, r"learner\.zero_stage is 1.*; set it to 0"),
        ({"epochs": 1, "lora": {}}, r"learner\.lora is set.*; remove it"),
        ({"epochs": 1, "average": 0.9}, r"learner\.average is 0\.9.*; remove it"),
    ],
)
def test_settings_of_gradient_steps_are_refused(learner, message):
    with pytest.raises(UserError, match=message):
        parse({**GIVEN, "learner": learner}, "test")


def test_without_a_learner_its_settings_do_not_matter():
    assert parse({**GIVEN, "train": False}, "test").learner.epochs == 30


@pytest.mark.parametrize("layers", [(3, 2), (-1, 2)])
def test_edited_layers_are_a_span(layers):
    with pytest.raises(ValueError, match=r"method.layers is .* give \[first, last\]"):
        MEMIT(layers=layers)
