"""What the sections of a configuration ask of each other. Each check raises ValueError."""

from __future__ import annotations

from common.config.run_settings import RunSettings


def check(config: RunSettings) -> None:
    """Refuse sections that do not fit each other.

    Raises:
        ValueError: names the keys, their values and a remedy.
    """
    for fits in (
        _only_the_student_ages,
        _draws_differ,
        _samples_differ,
        _fallback_differs,
        _student_keeps_up,
        _ipc_has_one_gpu_and_one_engine,
        _pairs_draw_every_token,
        _phases_follow_each_other,
        _one_gpu_is_enough,
        _early_stop_sees_recall,
        _penalty_has_whole_gradients,
        _teacher_has_whole_weights,
        _edits_are_of_whole_weights,
        _a_chain_is_recorded,
    ):
        fits(config)


def _only_the_student_ages(config: RunSettings) -> None:
    if config.replay.max_lag is not None and config.student is None:
        raise ValueError(
            f"replay.max_lag is {config.replay.max_lag} and bounds the age of the weights that "
            f"draw rollouts, but method {config.method.name} draws with the frozen reference; "
            "remove it"
        )


def _draws_differ(config: RunSettings) -> None:
    if config.student is not None or config.rollouts_per_fact == 1:
        return
    if not config.method.can_retry(0, config.rollout.temperature):
        raise ValueError(
            f"method.draws and method.redraw ask for {config.rollouts_per_fact} targets of each "
            "fact, but at rollout.temperature 0 all are the same unless both sides draw (0 < "
            "method.mix_rate < 1, where the method has it); raise the temperature, or set draws "
            "to 1 and redraw to once"
        )


def _samples_differ(config: RunSettings) -> None:
    samples = config.method.selection.samples
    if samples > 1 and not config.method.can_retry(0, config.rollout.temperature):
        raise ValueError(
            f"method.samples is {samples}, but at rollout.temperature "
            f"{config.rollout.temperature:g} all samples of a fact are the same; raise the "
            "temperature (1 samples the model's own distribution), or set samples to 1"
        )


def _fallback_differs(config: RunSettings) -> None:
    method = config.method
    if config.rollout.on_exhausted != "expert":
        return
    if method.expert_template is not None:
        problem = "shows the fact to the expert in a prompt of its own in every attempt"
    elif method.selection.samples > 1:
        problem = "draws every sample from the expert"
    else:
        return
    raise ValueError(
        f"rollout.on_exhausted is expert, but method {method.name} {problem}, so that fallback is "
        "one more of the same; set on_exhausted to canonical, drop or keep, and raise "
        "rollout.max_retries for more attempts"
    )


def _student_keeps_up(config: RunSettings) -> None:
    if config.student is None:
        return
    if not config.train:
        raise ValueError(
            f"train is false, but method {config.method.name} samples from the trained model; "
            "set train to true or choose another method"
        )
    if config.rollout.speculative_tokens:
        raise ValueError(
            f"rollout.speculative_tokens is {config.rollout.speculative_tokens}, but the student "
            "samples, and draft tokens are exact at temperature 0 only; set it to 0"
        )
    transfer = config.publish.transfer
    if transfer is not None and "cpu" in (config.engine.device, config.learner.device):
        raise ValueError(
            f"publish.transport is {transfer}, between processes on GPUs, but engine.device or "
            "learner.device is cpu; use memory"
        )
    lag, every = config.replay.max_lag, config.publish.every
    if lag is None:
        raise ValueError(
            f"method {config.method.name} trains on the student's own rollouts, so "
            "replay.max_lag must bound their age; 0 is strictly on-policy"
        )
    if every > lag + 1:
        raise ValueError(
            f"publish.every is {every}, so weights are up to {every - 1} steps old, more than "
            f"replay.max_lag={lag} allows; lower publish.every or raise replay.max_lag"
        )


def _ipc_has_one_gpu_and_one_engine(config: RunSettings) -> None:
    if not (reason := config.needs_one_gpu):
        return
    cluster, actors = config.cluster, config.rollout.most_actors
    if cluster.placement not in ("auto", "shared"):
        problem = f"cluster.placement is {cluster.placement}; set it to shared"
    elif cluster.address is not None:
        problem = f"cluster.address is {cluster.address}, which may have several nodes; remove it"
    elif config.needs_own_gpus:
        problem = f"{config.needs_own_gpus}; set it to 1"
    elif actors > 1:
        problem = f"rollout.actors, its schedule or autoscale.max is {actors}; set it to 1"
    elif config.student_adapter is not None:
        problem = "learner.lora sends adapters alone; set publish.adapters to false"
    else:
        return
    raise ValueError(f"{reason}, but {problem}, or use memory")


def _pairs_draw_every_token(config: RunSettings) -> None:
    if config.engine.mixing == "paired" and config.rollout.speculative_tokens:
        raise ValueError(
            f"rollout.speculative_tokens is {config.rollout.speculative_tokens}, but "
            "engine.mixing is paired, whose rows draw one token at a time; set the first to 0, "
            "or the second to sessions"
        )


def _phases_follow_each_other(config: RunSettings) -> None:
    if config.cluster.placement == "phases" and (reason := config.needs_all_at_once):
        raise ValueError(f"cluster.placement is phases, but {reason}; use shared or exclusive")


def _one_gpu_is_enough(config: RunSettings) -> None:
    if config.cluster.placement == "shared" and (reason := config.needs_own_gpus):
        raise ValueError(f"cluster.placement is shared, but {reason}; use exclusive")


def _early_stop_sees_recall(config: RunSettings) -> None:
    evaluator = config.evaluator
    if not config.learner.early_stop or not config.train:
        return
    if evaluator.actors == 0 or not {"recall", "in_domain"} & set(evaluator.always):
        raise ValueError(
            "learner.early_stop waits for the first peak of recall, so evaluator.actors must "
            "be at least 1 and evaluator.suites must include recall or in_domain, at all "
            "checkpoints"
        )
    if evaluator.select not in ("ours", "paper"):
        raise ValueError(
            "learner.early_stop ends training at the first peak, but evaluator.select is "
            f"{evaluator.select}; use ours or paper, or turn early_stop off"
        )


def _penalty_has_whole_gradients(config: RunSettings) -> None:
    if config.method.penalty is None:
        return
    learner, name = config.learner, config.method.name
    if learner.zero_stage > 0:
        raise ValueError(
            f"learner.zero_stage is {learner.zero_stage}, but method {name} adds to each weight's "
            "gradient, which DeepSpeed holds in parts; set it to 0"
        )
    if learner.lora is not None:
        raise ValueError(
            f"learner.lora is set, but method {name} holds the model's own weights near the "
            "reference's, and adapters leave them as they are; remove learner.lora"
        )


def _teacher_has_whole_weights(config: RunSettings) -> None:
    divergence = config.method.loss.divergence
    if divergence is None or divergence.weights == "base":
        return
    if config.learner.zero_stage == 3:
        raise ValueError(
            f"method.teacher_weights is {divergence.weights}, but at learner.zero_stage 3 no rank "
            "has the student's whole weights for the teacher; set zero_stage to 2 or less, or "
            "teacher_weights to base"
        )


def _edits_are_of_whole_weights(config: RunSettings) -> None:
    """A closed-form edit takes no gradient steps on weights, and repeats nothing."""
    if config.method.edit is None or not config.train:
        return
    learner = config.learner
    wanted = {"epochs": 1, "ranks": 1, "zero_stage": 0, "lora": None, "average": None}
    for key, value in wanted.items():
        if (found := getattr(learner, key)) != value:
            raise ValueError(
                f"learner.{key} is {'set' if key == 'lora' else found}, but method "
                f"{config.method.name} edits each fact once, in closed form, on one rank that has "
                f"whole weights; {'remove it' if value is None else f'set it to {value}'}"
            )


def _a_chain_is_recorded(config: RunSettings) -> None:
    if config.continues is None and config.chain:
        raise ValueError(
            "chain is what 'up' records of the run that continues names; remove it, or set "
            "continues"
        )
    if config.continues is None and (asked := {"earlier", "edited"} & set(config.evaluator.names)):
        raise ValueError(
            f"evaluator.suites has {min(asked)}, which asks facts of earlier batches, but "
            "continues names no run; remove the suite, or set continues"
        )
