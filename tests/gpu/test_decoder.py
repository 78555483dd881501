"""Mixed decoding on the lane's device."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.gpu
RUNNERS = ("V1", "V2")
SECOND_RUNNER = "vLLM's second model runner is for CUDA"
# Nats. Float32 rounds log-probabilities of this model by 1e-5; with TF32 in the attention they are
# off by 0.015 (tf32.emulated).
ROUNDING, ROUNDING_TF32 = 1e-4, 3e-2


@pytest.mark.parametrize("precision", ["", "ieee"], ids=["as shipped", "without TF32"])
@pytest.mark.parametrize("runner", RUNNERS)
def test_tokens_are_the_oracles_but_for_near_ties(check, cuda_only, device, runner, precision):
    if runner == "V2":
        cuda_only(SECOND_RUNNER)
    if precision:
        cuda_only("CPUs have no TF32")
    figures = check("decoder.tokens_at_0", runner=runner, precision=precision)
    rounding = ROUNDING_TF32 if device == "cuda" and not precision else ROUNDING
    assert_oracle(figures, runner, rounding)


def test_so_are_those_of_the_other_attention_for_float32(check, cuda_only):
    cuda_only("CPUs have one attention")
    figures = check(
        "decoder.tokens_at_0", runner="V1", attention="FLEX_ATTENTION", precision="ieee"
    )
    assert figures["attention"] == ["FLEX_ATTENTION"]
    assert_oracle(figures, "V1", ROUNDING)


def assert_oracle(figures, runner, rounding):
    assert figures["runner"] == runner
    assert figures["prompts"] == 500
    assert figures["wrong_ends"] == 0
    assert figures["largest_logprob_error"] <= rounding
    assert figures["largest_gap"] <= rounding, figures["differences"]


def test_tf32_in_the_attention_alone_would_change_the_88th_prompt_and_none_before_it(check):
    """As on an H100, at λ 0. It is computed on the CPU; the factors are cut, not rounded."""
    figures = check("tf32.emulated")
    assert [one["key"] for one in figures["differences"] if one["rate"] == 0] == ["t87"]
    assert ROUNDING < figures["largest_gap"] < ROUNDING_TF32
    assert ROUNDING < figures["largest_logprob_error"] < ROUNDING_TF32


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
