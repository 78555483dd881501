"""Service times: the cost of picks, packing, and which roof limits."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.planning.roofline import AttemptCost, PackedRow, last_pick
from learner.packing import Block, Row


def test_the_last_of_two_fair_picks_is_at_one_and_a_quarter():
    # Second with 1/2, first alone with 1/4, none with 1/4.
    assert last_pick(0.5, 2) == 2 * 0.5 + 1 * 0.25


@given(st.floats(0.05, 0.95), st.integers(1, 8))
def test_the_last_pick_agrees_with_all_sequences_of_picks(rate, length):
    expected = 0.0
    for picks in product((0, 1), repeat=length):
        chance = rate ** sum(picks) * (1 - rate) ** (length - sum(picks))
        expected += chance * max((i + 1 for i, pick in enumerate(picks) if pick), default=0)
    assert last_pick(rate, length) == pytest.approx(expected)


@pytest.mark.parametrize("rate", [0, 1])
def test_a_pure_side_computes_every_token_once(system, rate):
    work = replace(system("smoke").workload, mix_rate=float(rate))
    assert AttemptCost(work).passes(20) == 1


def test_mixing_evenly_costs_nearly_two_passes(system):
    work = replace(system("smoke").workload, mix_rate=0.5)
    # Each side's last pick is one before the end on average.
    assert AttemptCost(work).passes(20) == pytest.approx((19 + 19) / 20, abs=1e-5)


def test_prompts_of_a_side_that_is_never_picked_are_free(system):
    work = replace(system("smoke").workload, mix_rate=0.0)
    item = work.items[0]
    assert AttemptCost(work).prefill(item) == item.expert


def test_decoding_on_a_gpu_is_bound_by_reading_the_weights(system):
    engine = system("8b", device="h100").engine
    read = engine.architecture.parameters * 2 / engine.device.bandwidth
    one = engine.iteration(1, 1, 0) - engine.device.iteration_s - engine.device.request_s
    assert one == pytest.approx(read)


def test_prefill_on_a_gpu_is_bound_by_arithmetic(system):
    engine = system("8b", device="h100").engine
    flops = engine.architecture.forward_flops(8192, 0, 0)
    seconds = engine.iteration(0, 0, 0, 8192) - engine.device.iteration_s
    assert seconds == pytest.approx(flops / engine.device.body_flops)


@pytest.mark.parametrize(
    ("dtype", "steps", "computed", "drawn", "seconds"),
    [
        ("bfloat16", 50, 3_799, 1_810, 5.0),  # plain decoding
        ("bfloat16", 52, 7_456, 2_104, 6.8),  # mixed
        ("bfloat16", 137, 19_729, 7_380, 19.7),  # mixed, with retries
        ("float32", 50, 3_829, 1_840, 13.6),
        ("float32", 52, 7_465, 2_103, 18.8),
    ],
)
def test_the_cpu_device_reproduces_measurements_of_the_packaged_model(
    system, dtype, steps, computed, drawn, seconds
):
    engine = system("smoke", f"engine.dtype={dtype}", device="cpu").engine
    # Contexts were 30 to 130 tokens.
    predicted = steps * engine.iteration(drawn / steps, computed / steps, 80)
    assert predicted == pytest.approx(seconds, rel=0.1)


@pytest.mark.parametrize(
    ("steps", "computed", "drawn", "seconds"),
    [(50, 3_829, 1_840, 16.6), (52, 7_465, 2_103, 29.4)],
)
def test_so_does_the_one_without_bfloat16_units(system, steps, computed, drawn, seconds):
    engine = system("smoke", fast_dtype="float32").engine
    predicted = steps * engine.iteration(drawn / steps, computed / steps, 80)
    assert predicted == pytest.approx(seconds, rel=0.1)


def test_the_learner_packs_the_batch_as_the_real_one_does(system):
    learner = system("smoke").learner
    work = system("smoke").workload
    rows = learner.rows(work)
    assert learner.tokens(work) == sum(row.tokens for row in rows[0])
    two = replace(learner, settings=learner.settings.model_copy(update={"ranks": 2}))
    # One row holds the batch, so each rank has half of it.
    assert [len(rank) for rank in two.rows(work)] == [1, 1]


def test_attention_sees_a_block_and_the_prompt_that_it_shares():
    # A shared prompt of four tokens, two continuations of three: 16 + 2 · 3 · (3 + 4).
    blocks = (Block(0, 4), Block(4, 7, ((0, 4),)), Block(7, 10, ((0, 4),)))
    row = Row(*(np.arange(n) for n in (10, 10, 6, 6)), blocks, (0, 1))
    assert PackedRow.of(row) == PackedRow(tokens=10, targets=6, context=5.8)


def test_two_rollouts_of_a_prompt_pay_for_it_once_if_rows_share_prompts(system):
    made = system("opsd-smoke", "method.samples=2", "learner.batch_size=2")
    apart = system("opsd-smoke", "method.samples=1", "learner.batch_size=1")
    naive, target = made.workload.items[0].naive, made.workload.items[0].target
    # The last token of a target is predicted and never read.
    assert made.learner.tokens(made.workload) == naive + 2 * (target - 1)
    assert apart.learner.tokens(apart.workload) == naive + target - 1


def test_a_teacher_in_the_learner_adds_one_forward_pass_over_the_expert_prompts(system):
    made = system("opsd-smoke", "learner.batch_size=1", "method.samples=1")
    alone = replace(made.workload, reads_teacher=False)
    item, learner = made.workload.items[0], made.learner
    tokens = item.expert + item.target - 1
    flops = learner.architecture.forward_flops(tokens, item.target, (tokens + 1) / 2)
    # Attention is counted as whole blocks, twice what a causal row needs.
    most = learner.architecture.forward_flops(tokens, item.target, tokens)
    extra = learner.step(made.workload) - learner.step(alone)
    device = learner.device
    passes = device.pass_s * learner.architecture.layers
    assert flops / device.train_flops < extra - passes <= most / device.train_flops * 1.001


def test_a_reference_that_sees_the_plain_prompt_reads_the_students_rows(system):
    made = system("smoke", "method={name: kl_sft, strength: 1}", "learner.batch_size=1")
    alone = replace(made.workload, reads_teacher=False)
    item, learner = made.workload.items[0], made.learner
    tokens = item.naive + item.target - 1
    flops = learner.architecture.forward_flops(tokens, item.target, tokens)
    extra = learner.step(made.workload) - learner.step(alone)
    passes = learner.device.pass_s * learner.architecture.layers
    assert extra - passes == pytest.approx(flops / learner.device.train_flops)


def test_float32_is_slower(system):
    slow = system("smoke", "learner.dtype=float32")
    assert slow.learner.step(slow.workload) > system("smoke").learner.step(slow.workload)


def test_zero_3_pays_for_its_gathers(system):
    two, three = (system("8b", f"learner.zero_stage={stage}", device="h100") for stage in (2, 3))
    assert three.learner.step(three.workload) > two.learner.step(two.workload)


def test_a_suite_that_is_not_planned_is_left_out(system):
    made = system("smoke", "evaluator.suites=[recall, mmlu, {suite: retrieval, at: selected}]")
    assert set(made.engine.suites(made.config.evaluator, made.workload)) == {"recall"}


def test_frozen_matrices_cost_two_passes_of_three(system):
    full, lora = (
        system("8b", "learner.ranks=1", *more, device="h100").learner
        for more in ((), ("learner.lora={rank: 16}",))
    )
    row = PackedRow(tokens=4096, targets=100, context=0)
    assert lora._passes(row, 2.0, 3.5) == pytest.approx(
        full._passes(row, 3.0, 3.5) * 2 / 3, rel=0.05
    )
    assert lora._row(row) < full._row(row)


def test_an_offloaded_optimizer_is_slow(system):
    offload = ("learner.zero_stage=2", "learner.offload=optimizer")
    made = system("8b", *offload, device="h100")
    plain = system("8b", "learner.zero_stage=2", device="h100")
    assert made.learner.step(made.workload) > 2 * plain.learner.step(plain.workload)
