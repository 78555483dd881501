"""Memory by part, by hand."""

import pytest

from common.config.learner import LearnerSettings
from deploy.planning.architecture import resolve
from deploy.planning.learner_memory import (
    CHUNK_NUMBERS,
    CHUNK_TENSORS,
    NLL_CHUNK_NUMBERS,
    learner_state,
)
from deploy.planning.memory import needs, processes_of

PARAMETERS = resolve("Qwen/Qwen3-8B").parameters


def role(system, name):
    found = processes_of(system.config, system.engine.architecture, system.device, system.workload)
    return next(need for need in found if need.role == name)


def test_qwen3_8b_weights_take_two_bytes_a_parameter(system):
    assert role(system("8b", device="h100"), "rollout").parts["weights"] == 2 * PARAMETERS


def test_a_teacher_has_an_engine_of_its_own_unless_the_students_applies_an_adapter(system):
    taught = ("method={name: opsd, teacher: engine, support: tail, top_k: 64}",)
    full = role(system("8b", *taught, "replay.max_lag=0", device="h100"), "rollout")
    assert full.parts["weights"] == 2 * 2 * PARAMETERS
    adapted = role(
        system("8b", *taught, "replay.max_lag=0", "learner.lora={}", device="h100"),
        "rollout",
    )
    assert adapted.parts["weights"] == 2 * PARAMETERS


@pytest.mark.parametrize(
    ("name", "over", "size"),
    # The embedding of Qwen3-8B, two bytes a weight; that of SmolLM2 has 54 MiB, less than a buffer.
    [("8b", ["methods/opsd"], 2 * 151_936 * 4096), ("opsd-smoke", [], 2**28)],
)
def test_by_ipc_the_learner_has_a_buffer_and_the_engine_a_copy_of_it(system, name, over, size):
    one = ("rollout.actors=1", "learner.ranks=1", "engine.device=cuda", "learner.device=cuda")
    by_file = system(name, *one, "cluster.placement=shared", over=over, device="h100")
    by_ipc = system(name, *one, "publish.transport=ipc", over=over, device="h100")
    for part in ("learner", "rollout"):
        packed = {"packed weights": size}
        assert role(by_ipc, part).parts == role(by_file, part).parts | packed
    assert role(by_ipc, "evaluator").parts == role(by_file, "evaluator").parts


def test_tensor_parallel_engines_share_weights_and_heads(system):
    one = role(system("8b", device="h100"), "rollout")
    two = role(system("8b", "engine.tensor_parallel_size=2", device="h100"), "rollout")
    assert two.parts["weights"] == PARAMETERS
    assert two.parts["KV cache"] == one.parts["KV cache"] // 2


# Bytes a parameter of one of 4 ranks: bfloat16 weights 2 and gradients 2; master,
# two moments and the step's gradient in float32: 16.
@pytest.mark.parametrize(
    ("stage", "weights", "gradients", "optimizer"),
    [(0, 2, 2, 16), (1, 2, 2, 4), (2, 2, 0.5, 4), (3, 0.5, 0.5, 4)],
)
def test_zero_shards_more_at_each_stage(stage, weights, gradients, optimizer):
    state = learner_state(1000, LearnerSettings(dtype="bfloat16", ranks=4, zero_stage=stage))
    assert state == {
        "weights": weights * 1000,
        "gradients": gradients * 1000,
        "optimizer": optimizer * 1000,
    }


def test_float32_needs_no_master_copy():
    state = learner_state(1000, LearnerSettings(dtype="float32"))
    # Weights and gradients 4 each, two moments of 4.
    assert state == {"weights": 4000, "gradients": 4000, "optimizer": 8000}


def test_adapters_alone_have_gradients_and_an_optimizer():
    state = learner_state(1000, LearnerSettings(dtype="bfloat16", lora={"rank": 1}), trained=10)
    # 1,010 weights of 2; 10 gradients of 2, 10 states of 16.
    assert state == {"weights": 2020, "gradients": 20, "optimizer": 160}


def test_what_is_offloaded_is_not_on_the_device():
    def state(stage, offload):
        gpu = {"device": "cuda", "dtype": "bfloat16", "zero_stage": stage, "offload": offload}
        return tuple(learner_state(4 * 10**9, LearnerSettings(**gpu)).values())

    assert state(1, "optimizer") == (8 * 10**9, 8 * 10**9, 0)
    assert state(2, "optimizer") == (8 * 10**9, 0, 0)
    # Of offloaded weights a billion is there at a time.
    assert state(3, "parameters") == (2 * 10**9, 0, 0)


def test_an_8b_model_with_adapters_fits_a_gpu_of_80_gb(system):
    made = system("8b", "learner.ranks=1", "learner.lora={rank: 16}", device="h100")
    learner = role(made, "learner")
    assert learner.fits
    assert learner.total < 30 * 2**30


def test_each_slot_holds_a_naive_and_an_expert_context(system):
    made = system("8b", "rollout.slots=1", "rollout.max_tokens=100", device="h100")
    naive = max(item.naive for item in made.workload.items) + 100
    expert = max(item.expert for item in made.workload.items) + 100
    blocks = -(-naive // 16) + -(-expert // 16)
    assert role(made, "rollout").parts["KV cache"] == blocks * 16 * 144 * 1024


def test_a_pure_expert_has_no_naive_context(system):
    mixed = role(system("8b", device="h100"), "rollout").parts["KV cache"]
    pure = system("8b", "method.mix_rate=0", device="h100")
    assert role(pure, "rollout").parts["KV cache"] < mixed


def test_gradient_checkpointing_keeps_less(system):
    kept, again = (
        role(system("8b", f"learner.gradient_checkpointing={flag}", device="h100"), "learner")
        for flag in ("false", "true")
    )
    assert again.parts["activations"] < kept.parts["activations"] / 10
    assert again.parts["weights"] == kept.parts["weights"]


def test_on_cpu_all_processes_share_the_machine(system):
    made = system("smoke", "rollout.actors=2")
    found = needs(made.config, made.engine.architecture, made.device, made.workload)
    machine = next(need for need in found if need.role == "machine")
    engine = role(made, "rollout")
    # The whole pool counts, not only what the slots fill of it.
    each = engine.total - engine.parts["KV cache"] + 2**30
    assert machine.parts["rollout"] == 2 * each


def test_in_phases_the_machine_holds_one_role_at_a_time(system):
    made = system("smoke", "cluster.placement=phases")
    found = needs(made.config, made.engine.architecture, made.device, made.workload)
    roles = {need.role: list(need.parts) for need in found if not need.role.endswith("cache")}
    assert roles == {name: [name] for name in ("rollout", "evaluator", "learner")}


def test_a_divergence_adds_a_frozen_reference_and_bounds_the_logits(system):
    sft = role(system("8b", "method={name: sft}", device="h100"), "learner").parts
    taught = "method={name: context_distill}"
    made = system("8b", taught, device="h100")
    parts = role(made, "learner").parts
    assert "teacher" not in sft
    assert parts["teacher"] == 2 * PARAMETERS
    arch = made.engine.architecture
    assert parts["logits"] <= 4 * (12 * 2**23 + arch.vocabulary * arch.hidden)
    lora = system("8b", taught, "learner.lora={rank: 8}", device="h100")
    assert "teacher" not in role(lora, "learner").parts
    scored = system("8b", taught, "method.teacher=engine", "method.support=tail", device="h100")
    assert "teacher" not in role(scored, "learner").parts


def test_a_teacher_that_follows_the_student_holds_an_average_or_nothing(system):
    def held(weights, *overrides):
        taught = f"method={{name: context_distill, teacher_weights: {weights}}}"
        return role(system("8b", taught, *overrides, device="h100"), "learner").parts

    assert "teacher" not in held("live")
    # Float32, and what the forward pass uses in bfloat16.
    assert held("ema")["teacher"] == 6 * PARAMETERS
    lora = system("8b", "learner.lora={rank: 8}", device="h100")
    adapter = lora.engine.architecture.adapter(lora.config.learner.lora)
    assert held("ema", "learner.lora={rank: 8}")["teacher"] == 6 * adapter


def test_a_penalty_holds_the_references_weights_and_its_fisher_information(system):
    def held(method):
        made = system("8b", f"method={method}", "learner.zero_stage=0", device="h100")
        return role(made, "learner").parts

    assert "penalty" not in held("{name: sft}")
    assert held("{name: l2_sp, strength: 1}")["penalty"] == 2 * PARAMETERS
    assert held("{name: ewc, strength: 1, fisher: /f}")["penalty"] == (2 + 4) * PARAMETERS
    kl = held("{name: kl_sft, strength: 1}")
    assert kl["teacher"] == 2 * PARAMETERS
    assert "penalty" not in kl


def test_the_chunk_of_a_divergence_is_the_learner_s():
    from learner import divergences, losses

    assert (CHUNK_NUMBERS, CHUNK_TENSORS) == (divergences.CHUNK_NUMBERS, divergences.CHUNK_TENSORS)
    assert NLL_CHUNK_NUMBERS == losses.CHUNK_NUMBERS


def test_the_fisher_takes_the_base_in_float32_and_a_float32_sum_a_parameter(system):
    plain = role(system("smoke"), "evaluator")
    made = system("smoke", "evaluator.fisher={}")
    arch = made.engine.architecture
    grad, logits = 4 * arch.vocabulary * arch.hidden, 256 * arch.vocabulary * 10
    found = role(made, "evaluator")
    assert found.parts.pop("Fisher") == 8 * arch.parameters + grad + logits
    assert found.parts == plain.parts


def test_on_a_gpu_it_needs_what_the_engine_leaves(system):
    # 80 GB hold an engine at 0.9, or an 8 B model in float32, but not both.
    made = system("8b", "evaluator.fisher={engine: keep}", device="h100")
    assert not role(made, "evaluator Fisher").fits
    in_turn = system("8b", "evaluator.fisher={}", device="h100")
    assert role(in_turn, "evaluator Fisher").fits
    assert role(in_turn, "evaluator Fisher").total > 4 * 8e9
    on_cpu = system("8b", "evaluator.fisher.device=cpu", device="h100")
    with pytest.raises(StopIteration):
        role(on_cpu, "evaluator Fisher")


def test_an_edit_has_neither_gradients_nor_moments_but_covariances(system):
    edit = ("method={name: memit}", "learner.epochs=1")
    learner = role(system("smoke", *edit, fast_dtype="float32"), "learner")
    arch = resolve("packaged")
    assert {"gradients", "optimizer"}.isdisjoint(learner.parts)
    assert learner.parts["weights"] == 4 * arch.parameters
    # SmolLM2's MLP is 1,536 wide: five covariances in float64, and two copies of one.
    assert learner.parts["covariances"] == 7 * 8 * 1536**2
