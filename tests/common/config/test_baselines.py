"""Settings of the baselines that act on the loss, and what they ask of the learner."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.config.run_config import parse
from common.errors import UserError
from common.methods import NLL, Canonical, Divergence, PenalizedNLL, WeightPenalty

RAW = {"name": "x", "data": {"kgfact": {}}}
EWC = {"name": "ewc", "strength": 100, "fisher": "/f"}
L2SP = {"name": "l2_sp", "strength": 0.01}
EMA = {"name": "context_distill", "teacher_weights": "ema"}


def config(method, **learner):
    return parse({**RAW, "method": method, "learner": learner}, "x")


@pytest.mark.parametrize("method", [EWC, L2SP, {"name": "kl_sft", "strength": 1}])
def test_the_baselines_train_on_canonical_answers_which_no_attempt_changes(method):
    chosen = config(method).method
    assert (chosen.target(3), chosen.can_retry(0, 1.0)) == (Canonical(), False)


def test_each_baseline_adds_one_term_to_the_loss_of_sft():
    kl = config({"name": "kl_sft", "strength": 2, "divergence": "forward"}).method
    assert kl.loss == PenalizedNLL(2, Divergence("forward", prompt="naive"))
    assert kl.penalty is None
    l2_sp, ewc = config(L2SP).method, config(EWC).method
    assert (l2_sp.loss, l2_sp.penalty) == (NLL(), WeightPenalty(0.01))
    assert (ewc.loss, ewc.penalty) == (NLL(), WeightPenalty(100, Path("/f")))


@pytest.mark.parametrize("name", ["kl_sft", "l2_sp", "ewc"])
@pytest.mark.parametrize(("strength", "message"), [(None, "required"), (0, "greater than 0")])
def test_a_strength_is_required_and_positive(name, strength, message):
    method = {**EWC, "name": name} if name == "ewc" else {"name": name}
    method = {**method, "strength": strength}
    if strength is None:
        del method["strength"]
    with pytest.raises(UserError, match=rf"method\.strength: .*{message}"):
        config(method)


@pytest.mark.parametrize("method", [EWC, L2SP])
def test_a_penalty_on_weights_needs_whole_gradients_of_the_model(method):
    for stage in (1, 2, 3):
        with pytest.raises(UserError, match=rf"learner\.zero_stage is {stage}, .*set it to 0"):
            config(method, zero_stage=stage)
    with pytest.raises(UserError, match=r"learner\.lora is set, .*remove learner\.lora"):
        config(method, lora={"rank": 4})


def test_a_penalty_on_the_distribution_takes_any_stage_and_adapters():
    method = {"name": "kl_sft", "strength": 1}
    for stage in range(4):
        assert config(method, zero_stage=stage, lora={"rank": 4}).learner.zero_stage == stage


@pytest.mark.parametrize("weights", ["live", "ema"])
def test_a_teacher_that_follows_the_student_is_in_the_learner_with_whole_weights(weights):
    method = {**EMA, "teacher_weights": weights}
    assert config(method, zero_stage=2).method.loss.weights == weights
    with pytest.raises(UserError, match=rf"teacher_weights is {weights}, .*zero_stage to 2 or"):
        config(method, zero_stage=3)
    with pytest.raises(UserError, match=rf"teacher_weights is {weights}, .*teacher to learner"):
        config({**method, "teacher": "engine", "support": "tail"})


def test_the_average_of_a_teacher_keeps_a_share_of_itself_below_one():
    assert config({**EMA, "ema_decay": 0.9}).method.loss.ema_decay == 0.9
    for decay in (0, 1):
        with pytest.raises(UserError, match=r"method\.ema_decay: "):
            config({**EMA, "ema_decay": decay})
