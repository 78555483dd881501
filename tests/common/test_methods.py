import pytest

from common.config.run_config import parse
from common.errors import UserError
from common.methods import (
    METHODS,
    NLL,
    SFT,
    Canonical,
    ContextDistill,
    Divergence,
    Mixed,
    MixSD,
)


def mixsd(**settings):
    return MixSD(**{"mix_rate": 0.8, **settings})


def test_every_attempt_mixes_at_the_same_rate_unless_told_otherwise():
    assert {mixsd().target(attempt) for attempt in range(5)} == {Mixed(0.8)}
    assert mixsd(protect_answer=True).target(0) == Mixed(0.8, protect_answer=True)


def test_back_off_begins_after_the_given_number_of_failures_and_compounds():
    method = mixsd(lambda_backoff={"after": 2, "factor": 0.5})
    rates = [method.target(attempt).mix_rate for attempt in range(5)]
    assert rates == [0.8, 0.8, 0.4, 0.2, 0.1]
    method = mixsd(lambda_backoff={"after": 1, "factor": 0})
    assert [method.target(attempt).mix_rate for attempt in range(3)] == [0.8, 0.0, 0.0]


@pytest.mark.parametrize(
    ("settings", "attempt", "temperature", "can_retry"),
    [
        ({"mix_rate": 0.5}, 0, 0.0, True),
        ({"mix_rate": 0.0}, 0, 0.0, False),
        ({"mix_rate": 1.0}, 0, 0.0, False),
        ({"mix_rate": 0.0}, 0, 1.0, True),
        ({"mix_rate": 1.0}, 0, 1.0, True),
        # Back-off takes a pure naive side apart, and ends in a pure expert.
        ({"mix_rate": 1.0, "lambda_backoff": {"after": 3, "factor": 0.5}}, 0, 0.0, True),
        ({"mix_rate": 0.5, "lambda_backoff": {"after": 1, "factor": 0}}, 0, 0.0, True),
        ({"mix_rate": 0.5, "lambda_backoff": {"after": 1, "factor": 0}}, 1, 0.0, False),
    ],
)
def test_an_attempt_that_would_repeat_itself_is_not_made(settings, attempt, temperature, can_retry):
    assert mixsd(**settings).can_retry(attempt, temperature) is can_retry


def test_sft_takes_the_canonical_answer_once():
    assert (SFT().target(3), SFT().can_retry(0, 1.0)) == (Canonical(), False)


def test_a_setting_of_back_off_is_checked_and_named():
    raw = {"name": "x", "data": {"kgfact": {}}}
    for backoff, message in (
        ({"after": 0, "factor": 0.5}, r"method\.lambda_backoff\.after: .* not 0"),
        ({"after": 1, "factor": 1}, r"method\.lambda_backoff\.factor: .* not 1"),
        ({"after": 1}, r"method\.lambda_backoff\.factor: this setting is required"),
        ({"after": 1, "facto": 0}, r"facto: no such setting; did you mean .*factor"),
    ):
        with pytest.raises(UserError, match=message):
            parse({**raw, "method": {"name": "mixsd", "lambda_backoff": backoff}}, "x")


def test_targets_of_context_distillation_are_canonical_or_mixed():
    assert ContextDistill().target(2) == Canonical()
    mixed = ContextDistill(targets="mixed", mix_rate=0.4)
    assert mixed.target(2) == Mixed(0.4)
    assert [ContextDistill().can_retry(0, 1.0), mixed.can_retry(0, 0.0)] == [False, True]
    assert not ContextDistill(targets="mixed", mix_rate=0).can_retry(0, 0.0)


def test_only_distillation_asks_a_teacher():
    assert {MixSD().loss, SFT().loss} == {NLL()}
    loss = ContextDistill(divergence="jsd", weight=0.25, support="tail", top_k=8).loss
    assert loss == Divergence("jsd", 0.25, "tail", 8, "learner")


def test_engines_that_score_a_few_tokens_give_no_whole_vocabulary():
    raw = {"name": "x", "data": {"kgfact": {}}}
    method = {"name": "context_distill", "teacher": "engine"}
    with pytest.raises(UserError, match=r"method\.support is full, but method\.teacher engine"):
        parse({**raw, "method": method}, "x")
    assert parse({**raw, "method": {**method, "support": "tail"}}, "x").method.loss.top_k == 64


def test_every_method_that_may_be_named_is_listed():
    assert {"mixsd", "sft", "context_distill"} <= set(METHODS)
