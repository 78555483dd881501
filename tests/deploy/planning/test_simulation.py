"""The simulated run: invariants at any speed, and agreement with measured runs."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.planning import planner
from deploy.planning.queue_costs import QueueCosts, actors_per_queue
from deploy.planning.scaling import plot, sweep
from deploy.planning.simulation import simulate


def test_the_prediction_is_within_30_percent_of_the_measured_run(system):
    # 'make demo' on two idle cores: 154 s, of which ten until the controller was up.
    one_thread = system("smoke", "cluster.threads=1")
    assert simulate(one_thread).total_s == pytest.approx(144, rel=0.3)


def test_so_is_that_without_bfloat16_units(system):
    # On two cores with AVX2 alone, in float32 with two threads a process.
    assert simulate(system("smoke", fast_dtype="float32")).total_s == pytest.approx(304, rel=0.3)


def test_idle_cores_shorten_the_work_of_who_computes(system):
    fixed, elastic = system("smoke", "cluster.threads=1"), system("smoke")
    assert simulate(elastic).total_s < simulate(fixed).total_s


def test_in_phases_nothing_overlaps_and_the_work_is_the_same(system):
    at_once, turns = (
        simulate(system("smoke", f"cluster.placement={placement}"))
        for placement in ("exclusive", "phases")
    )
    assert turns.total_s > turns.trained_s > turns.generated_s
    assert (turns.steps, turns.accepted) == (at_once.steps, at_once.accepted)


def test_a_learner_step_is_near_the_measured_one(system):
    made = system("smoke")
    # Batches of 20 examples of 80 tokens: 440 tokens/s, 0.39 s a step of it the optimizer's.
    tokens = made.learner.tokens(made.workload)
    seconds = 0.39 + tokens / (1600 / (1600 / 440 - 0.39))
    assert made.learner.step(made.workload) == pytest.approx(seconds, rel=0.1)


def test_every_fact_is_settled_and_trained_each_epoch(system):
    overrides = ("rollout.max_retries=3", "rollout.on_exhausted=drop")
    made = system("smoke", *overrides, acceptance=0.2)
    outcome = simulate(made)
    assert outcome.accepted + outcome.exhausted == made.facts
    assert outcome.exhausted > 0
    assert outcome.steps == -(-outcome.accepted * 12 // 10)


def test_draws_once_are_trained_in_every_epoch_and_redrawn_ones_in_theirs(system):
    # 40 facts, 12 epochs, batches of 10.
    outcomes = [
        simulate(system("smoke", *overrides, acceptance=1.0))
        for overrides in (
            (),
            ("method.draws=2",),
            ("method.redraw=epoch",),
            ("method.draws=2", "method.redraw=epoch"),
        )
    ]
    assert [outcome.accepted for outcome in outcomes] == [40, 80, 480, 960]
    assert [outcome.steps for outcome in outcomes] == [48, 96, 48, 96]


@pytest.mark.parametrize("batch_size", [10, 200])
def test_redrawing_actors_keep_one_epoch_ahead_unless_the_learner_comes_later(system, batch_size):
    overrides = ("method.redraw=epoch", f"learner.batch_size={batch_size}", "evaluator.actors=0")
    streamed = simulate(system("smoke", *overrides, acceptance=1.0, cores=8))
    # When the last rollout comes, the learner has at most two epochs, or a batch, to go.
    assert streamed.backlog <= max(80, batch_size)
    in_phases = (*overrides, "cluster.placement=phases")
    drawn = simulate(system("smoke", *in_phases, acceptance=1.0, cores=8))
    assert (drawn.backlog, drawn.steps) == (480, streamed.steps)


def test_a_simulated_run_ends_at_max_steps_and_draws_no_more_than_they_train(system):
    # 40 facts in 12 epochs; 7 steps of 10 need all of them, 2 steps 20.
    long = simulate(system("smoke", "learner.max_steps=7"))
    assert (long.steps, long.accepted) == (7, simulate(system("smoke")).accepted)
    short = simulate(system("smoke", "learner.max_steps=2"))
    assert short.steps == 2
    # The slots that were filled before the twentieth rollout came still finish.
    assert 20 <= short.accepted < long.accepted
    phases = simulate(system("smoke", "learner.max_steps=2", "cluster.placement=phases"))
    assert (phases.steps, phases.trained_s > phases.generated_s) == (2, True)


def test_no_attempt_is_drawn_for_canonical_targets(system):
    outcome = simulate(system("sft-smoke"))
    assert (outcome.attempts, outcome.accepted) == (0, 40)


def test_the_same_system_gives_the_same_outcome(system):
    assert simulate(system("smoke")) == simulate(system("smoke"))


def test_attempts_follow_the_acceptance(system):
    made = system("smoke", "rollout.max_retries=8", acceptance=0.5)
    # (1 - 0.5^9) / 0.5
    assert made.workload.attempts == pytest.approx(1.99609375)
    many = simulate(replace(made, facts=2000))
    assert many.attempts / 2000 == pytest.approx(made.workload.attempts, rel=0.1)


def test_compared_samples_are_all_drawn_and_the_accepted_ones_scored(system):
    overrides = ("method={name: best_of_n, samples: 4}", "rollout.temperature=1")
    made = system("smoke", *overrides, "rollout.max_retries=2", acceptance=0.5)
    # 4 + 0.5^4 (1 + 0.5); 4 · 0.5 expected accepted ones, less the 4 · 0.5^4 that are alone.
    assert made.workload.attempts == pytest.approx(4.09375)
    assert made.workload.comparisons == pytest.approx(1.75)
    many = simulate(replace(made, facts=2000))
    assert many.attempts / 2000 == pytest.approx(4.09375, rel=0.02)
    first = system("smoke", *overrides, "method.choose=first", "rollout.max_retries=2")
    assert (first.workload.num_compared, first.workload.max_retries) == (1, 5)
    assert first.workload.comparisons == 0


def test_a_rewriting_prompt_is_planned_with_its_own_length(system):
    made = system("smoke", "method={name: sdft}")
    short = system("smoke", "method={name: sdft, rewrite: '{question} {canonical}'}")
    longer = made.workload.expert_tokens - short.workload.expert_tokens
    # 128 characters more, at 3.8 a token.
    assert longer == pytest.approx(128 / 3.8, abs=1)


def test_rehearsed_prompts_are_work_that_is_drawn_and_trained_but_no_facts(system):
    # 40 facts and 40 · 0.2 / 0.8 = 10 prompts, 12 epochs, batches of 10.
    made = system("smoke", "method={name: rehearsal, share: 0.2}")
    outcome = simulate(made)
    assert (made.facts, planner.make_plan(made).facts) == (50, 40)
    assert (outcome.attempts, outcome.accepted, outcome.steps) == (10, 50, 60)
    assert made.workload.attempts == 0.2


def test_actors_wait_when_the_queue_holds_too_much(system):
    made = system("sft-smoke", "learner.epochs=1", "evaluator.actors=0", cores=8)
    free = simulate(replace(made, facts=1000))
    replay = made.config.replay.model_copy(update={"max_bytes": 2**16})
    bounded = made.config.model_copy(update={"replay": replay})
    held = simulate(replace(made, config=bounded, facts=1000))
    # 65,536 bytes are some 110 rollouts, and what was leased before still comes.
    assert held.backlog < 200 < free.backlog
    assert held.accepted == free.accepted == 1000


@given(st.floats(0.01, 1e4), st.floats(0.01, 1e3))
def test_the_queue_is_under_its_load_with_as_many_actors_as_it_serves(rate, iterations):
    costs = QueueCosts()
    each = actors_per_queue(rate, iterations, costs)
    calls = each * min(rate, iterations)
    busy = calls * (costs.lease_s + costs.insert_s) + each * rate * costs.rollout_s
    assert each == 1 or busy <= 0.7 + 1e-9


def test_an_actor_of_twenty_iterations_and_a_hundred_rollouts_a_second_leaves_room_for_eight():
    # 20 · 3.5 ms and 100 · 0.1 ms: busy 80 ms of a second each.
    assert actors_per_queue(100.0, 20.0, QueueCosts()) == 8


def test_many_actors_saturate_the_queue(system, tmp_path):
    made = system("8b", "rollout.slots=16", device="h100")
    study = sweep(made, [1, 32])
    assert [point.queue_saturated for point in study.points] == [False, True]
    assert study.queue_limit == 32
    plot(study, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 10_000


def test_a_sweep_has_more_actors_than_a_shared_gpu_allows(system):
    made = system("opsd-smoke", "engine.device=cuda", "publish.transport=ipc", device="h100")
    assert [point.actors for point in sweep(made, [1, 2]).points] == [1, 2]


def test_actors_that_share_cores_gain_little(system):
    made = system("smoke")
    shared = sweep(made, [1, 4], cores=2).points
    alone = sweep(made, [1, 4]).points
    assert shared[1].rollouts_per_s < 2.2 * shared[0].rollouts_per_s
    assert alone[1].rollouts_per_s > 3 * alone[0].rollouts_per_s
