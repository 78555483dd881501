"""Builds objects that several roles and commands need from a run's configuration."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from common import corpora, files, models
from common.config.learner import LearnerSettings
from common.config.run_config import RunConfig
from common.errors import UserError
from common.hardware import num_cores
from common.prompts import Prompts, preset
from common.rundir import RunDir
from common.weight_sync.store import SHARED_MEMORY, WeightStore

# Assumed: to wake and join more takes longer than the small matrices that a CPU is used for.
_MOST_THREADS = 16

if TYPE_CHECKING:
    from learner.editing.engine import EditingEngine
    from learner.teacher_inputs import TeacherInputBuilder


def prompts_for(config: RunConfig, model: models.Model) -> Prompts:
    """The run's prompt renderer."""
    templates, end = preset(config.prompts), model.stop_token_ids[0]
    fingerprint = models.fingerprint(model.tokenizer)
    return Prompts(
        model.tokenizer,
        templates,
        end,
        config.rollout.verify,
        fingerprint,
        expert=config.method.expert_template,
    )


def teacher_inputs_for(config: RunConfig, model_dir: Path) -> TeacherInputBuilder | None:
    """Builds the teacher inputs of the learner; renders x+, which no record contains."""
    divergence = config.method.loss.divergence
    if divergence is None:
        return None
    from learner.teacher_inputs import forward_inputs, same_inputs, top_k_inputs

    if divergence.teacher == "engine":
        return top_k_inputs(divergence.top_k)
    if divergence.prompt == "naive":
        return same_inputs
    prompts = prompts_for(config, models.load(model_dir))
    facts = {fact.id: fact for fact in corpora.load(config.data).facts}
    return forward_inputs(
        functools.cache(lambda fact_id: prompts.expert(facts[fact_id])), config.learner
    )


def editing_engine_for(
    config: RunConfig, model_dir: Path, settings: LearnerSettings, log: Callable[[str], None]
) -> EditingEngine:
    """The learner's engine of a method that edits; finds the subjects in the prompts.

    Raises:
        UserError: the model cannot be edited, or ``method.text`` is unreadable or too short.
    """
    from learner.editing.engine import EditingEngine
    from learner.editing.sites import sites_of

    edit, model = config.method.edit, models.load(model_dir)
    assert edit is not None
    prompts = prompts_for(config, model)
    return EditingEngine(
        model_dir,
        settings,
        edit,
        seed=config.seed,
        sites=sites_of(prompts, corpora.load(config.data).facts),
        text_ids=_text_ids(prompts, edit.text, edit.tokens) if edit.text else [],
        log=log,
    )


def _text_ids(prompts: Prompts, path: Path, count: int) -> list[int]:
    """The first ``count`` tokens of a file for the covariance of an edit."""
    # A token has a few characters, so a whole book need not be encoded.
    ids = prompts.encode(files.read_text(path)[: 16 * count])[:count]
    if len(ids) < count:
        raise UserError(
            f"method.text {path} has {len(ids)} tokens, less than method.covariance_tokens "
            f"{count}; give a longer text or lower the number"
        )
    return ids


def weight_store_of(config: RunConfig, run: RunDir) -> WeightStore:
    """Where the student's weights are published: the run folder if a cluster is joined."""
    return WeightStore(run, SHARED_MEMORY if config.cluster.address is None else None)


def limit_threads(config: RunConfig, processes: int = 1) -> None:
    """Set the threads of this process' computations on CPU; call before heavy imports.

    Roles take turns: actors draw while nothing is trained yet, and wait while the learner
    trains. So each has threads for every core, less only what its own ``processes`` on this
    machine take at the same time.
    """
    if "cpu" in (config.engine.resolved_device, config.learner.resolved_device):
        threads = config.cluster.threads
        share = max(1, min(num_cores(), _MOST_THREADS) // processes)
        os.environ["OMP_NUM_THREADS"] = str(share if threads == "auto" else threads)
        # Threads that spin while they wait for each other keep cores from other processes: with
        # them, a learner beside one busy process was 1.6 times slower than with one thread.
        os.environ["OMP_WAIT_POLICY"] = "passive"
