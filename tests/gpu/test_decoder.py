"""Mixed decoding on the lane's device."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.gpu
RUNNERS = ("V1", "V2")
SECOND_RUNNER = "vLLM's second model runner is for CUDA"
# Nats. Float32 rounds log-probabilities of this model by 1e-5; with factors of TF32 in the
# attention, emulated on a CPU, they were off by 0.015.
ROUNDING, ROUNDING_TF32 = 1e-4, 3e-2


@pytest.mark.parametrize("precision", ["", "tf32"], ids=["as shipped", "with TF32"])
@pytest.mark.parametrize("runner", RUNNERS)
def test_tokens_are_the_oracles_but_for_near_ties(check, cuda_only, runner, precision):
    if runner == "V2":
        cuda_only(SECOND_RUNNER)
    if precision:
        cuda_only("CPUs have no TF32")
    figures = check("decoder.tokens_at_0", runner=runner, precision=precision)
    assert_oracle(figures, runner, ROUNDING_TF32 if precision else ROUNDING)


def test_so_are_those_of_the_other_attention_for_float32(check, cuda_only):
    cuda_only("CPUs have one attention")
    figures = check("decoder.tokens_at_0", runner="V1", attention="FLEX_ATTENTION")
    assert figures["attention"] == ["FLEX_ATTENTION"]
    assert_oracle(figures, "V1", ROUNDING)


@pytest.mark.parametrize(("mixing", "runner"), [("paired", "V1"), ("portable", "V2")])
def test_so_are_those_of_steps_that_vllm_schedules_ahead(check, device, mixing, runner):
    figures = check("decoder.tokens_at_0", mixing=mixing)
    assert figures["schedules_ahead"] == (device == "cuda")
    assert_oracle(figures, runner if device == "cuda" else "V1", ROUNDING)


def assert_oracle(figures, runner, rounding):
    assert figures["runner"] == runner
    assert figures["prompts"] == 500
    assert figures["wrong_ends"] == 0
    assert figures["largest_logprob_error"] <= rounding
    assert figures["largest_gap"] <= rounding, figures["differences"]


@pytest.mark.parametrize("runner", RUNNERS)
def test_rollouts_stay_the_same_where_blocks_requests_or_steps_are_short(check, cuda_only, runner):
    if runner == "V2":
        cuda_only(SECOND_RUNNER)
    figures = check("decoder.pressure", runner=runner)
    for short in ("few_blocks", "few_requests", "small_steps"):
        found = figures[short]
        assert found["differing_at_0"] == found["differing_at_1"] == 0, short
        assert found["blocks_lost"] == 0, short
    assert figures["few_blocks"]["evicted"] > 0
    assert figures["few_requests"]["evicted"] > 0


@pytest.mark.parametrize("runner", RUNNERS)
def test_sampled_rollouts_have_the_oracles_mixture_and_do_not_depend_on_how_they_were_drawn(
    check, cuda_only, runner
):
    if runner == "V2":
        cuda_only(SECOND_RUNNER)
    figures = check("decoder.sampled", runner=runner)
    assert figures["p_value"] > 1e-6
    assert figures["p_value_top_k_top_p"] > 1e-6
    assert set(figures["differing"].values()) == {0}, figures["differing"]
