"""Pods and GPUs of one run on Kubernetes, from its configuration."""

from __future__ import annotations

import math
from dataclasses import dataclass

from common.config.auto import settle
from common.config.run_config import RunConfig
from common.errors import UserError
from common.hardware import Hardware

METRICS_PORT = 9464
_HEAD = "127.0.0.1:6379"
# What "auto" stands for: nothing is known of the nodes' CPUs.
_HARDWARE = Hardware("cuda", cpu_dtype="float32")


@dataclass(frozen=True, slots=True)
class Site:
    """What the Kubernetes cluster offers; not part of a run's configuration.

    ``max_rollout``: the autoscaler's limit on rollout pods; None: the most that the run's
    own actors, autoscaling and schedule reach.
    """

    image: str = "mixsd-cluster:0.1.0"
    gpus_per_node: int = 8
    cpus_per_gpu: int = 8
    memory_gib_per_gpu: int = 96
    max_rollout: int | None = None


@dataclass(frozen=True, slots=True)
class WorkerGroup:
    """Worker pods of one kind, between ``least`` and ``most`` of them, each with ``gpus`` GPUs."""

    name: str
    pods: int
    gpus: int
    least: int
    most: int


def resolve(config: RunConfig) -> RunConfig:
    """The configuration as it runs in the cluster: on GPUs, with metrics open to Prometheus."""
    config = settle(config, _HARDWARE)
    return config.model_copy(
        update={
            "cluster": config.cluster.model_copy(
                update={"address": _HEAD, "dedicated": True, "autoscales": True}
            ),
            "metrics": config.metrics.model_copy(update={"host": "0.0.0.0", "port": METRICS_PORT}),
        }
    )


def groups(config: RunConfig, site: Site) -> list[WorkerGroup]:
    """Worker groups whose GPUs are exactly those that the run's actors request.

    Raises:
        UserError: an engine is larger than a node.
    """
    engine_gpus = config.engine.tensor_parallel_size if config.engine.device != "cpu" else 0
    if engine_gpus > site.gpus_per_node:
        raise UserError(
            f"engine.tensor_parallel_size is {engine_gpus}, more than the {site.gpus_per_node} "
            "GPUs of a node (--gpus-per-node); lower it"
        )
    actors, ranks = config.rollout.actors, config.learner.ranks
    needed = max(
        actors,
        *(step.actors for step in config.rollout.schedule),
        config.rollout.autoscale.max if config.rollout.autoscale else 0,
    )
    most = needed if site.max_rollout is None else site.max_rollout
    if most < needed:
        raise UserError(
            f"--max-rollout is {most}, fewer than the {needed} actors that the run may reach "
            f"(rollout.actors, autoscale, schedule); raise it to {needed}"
        )
    # Ranks share nodes where they divide evenly, so that they communicate over NVLink.
    per_pod = max(n for n in range(1, min(ranks, site.gpus_per_node) + 1) if ranks % n == 0)
    learner_gpus = per_pod if config.learner.device != "cpu" else 0
    pods, evaluators = ranks // per_pod, config.evaluator.actors
    found = [
        # Once all rollouts are in, idle pods are removed and their GPUs freed.
        WorkerGroup("rollout", actors, engine_gpus, least=0, most=most),
        WorkerGroup("learner", pods, learner_gpus, least=pods, most=pods),
    ]
    if evaluators:
        found.append(WorkerGroup("evaluator", evaluators, engine_gpus, evaluators, evaluators))
    return found


def num_gpus(config: RunConfig, site: Site) -> tuple[int, int]:
    """GPUs of the run, and the fewest nodes that hold them."""
    total = sum(group.pods * group.gpus for group in groups(config, site))
    return total, math.ceil(total / site.gpus_per_node)
