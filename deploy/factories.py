"""Builds objects that several roles and commands need from a run's configuration."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

from common import corpora, models
from common.config.run_config import RunConfig
from common.methods import Divergence
from common.prompts import Prompts, preset
from common.rundir import RunDir
from common.weight_sync.store import SHARED_MEMORY, WeightStore

if TYPE_CHECKING:
    from learner.teacher_inputs import TeacherInputBuilder


def prompts_for(config: RunConfig, model: models.Model) -> Prompts:
    """The run's prompt renderer."""
    templates, end = preset(config.prompts), model.stop_token_ids[0]
    fingerprint = models.fingerprint(model.tokenizer)
    return Prompts(model.tokenizer, templates, end, config.rollout.verify, fingerprint)


def teacher_inputs_for(config: RunConfig, model_dir: Path) -> TeacherInputBuilder | None:
    """Builds the teacher inputs of the learner; renders x+, which no record contains."""
    loss = config.method.loss
    if not isinstance(loss, Divergence):
        return None
    from learner.teacher_inputs import forward_inputs, top_k_inputs

    if loss.teacher == "engine":
        return top_k_inputs(loss.top_k)
    prompts = prompts_for(config, models.load(model_dir))
    facts = {fact.id: fact for fact in corpora.load(config.data).facts}
    return forward_inputs(
        functools.cache(lambda fact_id: prompts.expert(facts[fact_id])), config.learner
    )


def weight_store_of(config: RunConfig, run: RunDir) -> WeightStore:
    """Where the student's weights are published: the run folder if a cluster is joined."""
    return WeightStore(run, SHARED_MEMORY if config.cluster.address is None else None)
