"""KubeRay manifests of one run: its pods, GPUs and bounds follow from its configuration.

The base beside this file holds what is the same for every run. Here are the
``RayJob`` that brings up a cluster, runs ``up`` in it and ends, and the same
cluster as a lasting ``RayCluster``. Pure: dictionaries in the shape of YAML.
Not run on Kubernetes; checked against KubeRay's schemas.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

from common.config.run_config import RunConfig
from common.errors import UserError

METRICS_PORT = 9464
_HEAD = "127.0.0.1:6379"
_LABELS = {"app.kubernetes.io/part-of": "mixsd"}
_TOKEN_SECRET = "mixsd-ray-token"
_RUNS, _CONFIG = "/runs", "/etc/mixsd"
_CONTAINER_SECURITY = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
}
_POD_SECURITY = {
    "runAsNonRoot": True,
    "runAsUser": 1000,
    "runAsGroup": 1000,
    "fsGroup": 1000,
    # Without this a large volume's files are all visited at every start.
    "fsGroupChangePolicy": "OnRootMismatch",
    "seccompProfile": {"type": "RuntimeDefault"},
}


@dataclass(frozen=True, slots=True)
class Site:
    """What the cluster offers; not part of a run's configuration.

    ``max_rollout``: most rollout pods that the autoscaler may reach; None: what the run's own
    actors, autoscaling and schedule reach.
    """

    image: str = "mixsd-cluster:0.1.0"
    gpus_per_node: int = 8
    cpus_per_gpu: int = 8
    memory_gib_per_gpu: int = 96
    max_rollout: int | None = None


@dataclass(frozen=True, slots=True)
class WorkerGroup:
    """Worker pods of one kind, each with ``gpus`` GPUs; between ``least`` and ``most`` of them."""

    name: str
    pods: int
    gpus: int
    least: int
    most: int


def resolve(config: RunConfig) -> RunConfig:
    """The configuration as it runs in the cluster: on GPUs, metrics open to Prometheus."""
    return config.model_copy(
        update={
            "engine": config.engine.model_copy(update={"device": _device(config.engine.device)}),
            "learner": config.learner.model_copy(update={"device": _device(config.learner.device)}),
            "cluster": config.cluster.model_copy(update={"address": _HEAD, "dedicated": True}),
            "metrics": config.metrics.model_copy(update={"host": "0.0.0.0", "port": METRICS_PORT}),
        }
    )


def groups(config: RunConfig, site: Site) -> list[WorkerGroup]:
    """Worker groups whose GPUs are exactly what the run's actors ask for.

    Raises:
        UserError: an engine is larger than a node.
    """
    engine_gpus = config.engine.tensor_parallel_size if _on_gpu(config.engine.device) else 0
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
    # Ranks share nodes as far as they go evenly, so that they talk over NVLink.
    per_pod = max(n for n in range(1, min(ranks, site.gpus_per_node) + 1) if ranks % n == 0)
    learner_gpus = per_pod if _on_gpu(config.learner.device) else 0
    pods, evaluators = ranks // per_pod, config.evaluator.actors
    found = [
        # Once all rollouts are in, idle pods go and give their GPUs back.
        WorkerGroup("rollout", actors, engine_gpus, least=0, most=most),
        WorkerGroup("learner", pods, learner_gpus, least=pods, most=pods),
    ]
    if evaluators:
        found.append(WorkerGroup("evaluator", evaluators, engine_gpus, evaluators, evaluators))
    return found


def ray_cluster(config: RunConfig, site: Site) -> dict[str, Any]:
    """A lasting cluster for the run."""
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayCluster",
        "metadata": {"name": _name(config), "labels": _LABELS},
        "spec": _cluster_spec(config, site),
    }


def ray_job(config: RunConfig, site: Site) -> dict[str, Any]:
    """A cluster that runs ``up`` and is taken down when the run has ended."""
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayJob",
        "metadata": {"name": _name(config), "labels": _LABELS},
        "spec": {
            "entrypoint": f"mixsd-cluster up {_CONFIG}/config.yaml --runs {_RUNS}",
            "submissionMode": "K8sJobMode",
            "shutdownAfterJobFinishes": True,
            "ttlSecondsAfterFinished": 600,
            # 'up' resumes, so a further try continues the run.
            "backoffLimit": 2,
            "rayClusterSpec": _cluster_spec(config, site),
            "submitterPodTemplate": _submitter(site),
        },
    }


def kustomization(config: RunConfig, base: str) -> dict[str, Any]:
    """Ties base, job and configuration together."""
    return {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [base, "job.yaml", "prometheus-rule.yaml"],
        "configMapGenerator": [
            {"name": _config_map(config), "files": ["config.yaml"]},
        ],
        "generatorOptions": {"disableNameSuffixHash": True},
    }


def prometheus_rule(rules: list[dict[str, Any]]) -> dict[str, Any]:
    """The shipped rule groups for the Prometheus operator."""
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "mixsd", "labels": _LABELS},
        "spec": {"groups": rules},
    }


def _cluster_spec(config: RunConfig, site: Site) -> dict[str, Any]:
    return {
        "rayVersion": "2.60.0",
        "authOptions": {"mode": "token", "secretName": _TOKEN_SECRET},
        "enableInTreeAutoscaling": True,
        "autoscalerOptions": {
            "version": "v2",
            "idleTimeoutSeconds": 300,
            "resources": _resources(cpus=1, memory_gib=1),
            "securityContext": _CONTAINER_SECURITY,
        },
        "headGroupSpec": {
            # The queue stays beside the controller; nothing that computes is placed here.
            "rayStartParams": {
                "dashboard-host": "0.0.0.0",
                "num-cpus": "2",
                "resources": _offers("replay"),
            },
            "template": _pod(
                "head",
                site,
                _resources(cpus=4, memory_gib=16),
                ports={"gcs": 6379, "dashboard": 8265, "mixsd": METRICS_PORT, "metrics": 8080},
                config_map=_config_map(config),
            ),
        },
        "workerGroupSpecs": [_worker_group(group, site) for group in groups(config, site)],
    }


def _worker_group(group: WorkerGroup, site: Site) -> dict[str, Any]:
    share = max(1, group.gpus)
    resources = _resources(
        cpus=site.cpus_per_gpu * share,
        memory_gib=site.memory_gib_per_gpu * share,
        gpus=group.gpus,
    )
    return {
        "groupName": group.name,
        "replicas": group.pods,
        "minReplicas": group.least,
        "maxReplicas": group.most,
        "rayStartParams": {
            "num-cpus": str(site.cpus_per_gpu * share),
            "resources": _offers(group.name),
        },
        "template": _pod("worker", site, resources, ports={"metrics": 8080}),
    }


def _offers(role: str) -> str:
    # KubeRay puts the value on a shell's command line as it stands, hence quoted twice.
    return json.dumps(json.dumps({f"mixsd_{role}": 1}))


def _pod(
    kind: str,
    site: Site,
    resources: dict[str, Any],
    ports: dict[str, int],
    config_map: str | None = None,
) -> dict[str, Any]:
    volumes = {
        "runs": {"persistentVolumeClaim": {"claimName": "mixsd-runs"}},
        # The root file system is read-only; Ray, vLLM and Triton write below HOME and /tmp.
        "tmp": {"emptyDir": {"sizeLimit": "64Gi"}},
        "shm": {"emptyDir": {"medium": "Memory", "sizeLimit": "16Gi"}},
    }
    mounts = {"runs": _RUNS, "tmp": "/tmp", "shm": "/dev/shm"}
    if config_map is not None:
        volumes["config"] = {"configMap": {"name": config_map}}
        mounts["config"] = _CONFIG
    return {
        "metadata": {"labels": _LABELS},
        "spec": {
            "securityContext": _POD_SECURITY,
            # The autoscaler in the head talks to the API server; nobody else does.
            **({} if kind == "head" else {"automountServiceAccountToken": False}),
            "containers": [
                {
                    "name": f"ray-{kind}",
                    "image": site.image,
                    "env": [
                        {"name": "HOME", "value": "/tmp"},
                        {"name": "HF_HOME", "value": f"{_RUNS}/.cache/huggingface"},
                    ],
                    "ports": [
                        {"name": name, "containerPort": port} for name, port in ports.items()
                    ],
                    "resources": resources,
                    "securityContext": _CONTAINER_SECURITY,
                    "volumeMounts": [
                        {"name": name, "mountPath": path} for name, path in mounts.items()
                    ],
                }
            ],
            "volumes": [{"name": name, **source} for name, source in volumes.items()],
        },
    }


def _submitter(site: Site) -> dict[str, Any]:
    return {
        "metadata": {"labels": _LABELS},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "securityContext": _POD_SECURITY,
            "containers": [
                {
                    "name": "submit",
                    "image": site.image,
                    "env": [{"name": "HOME", "value": "/tmp"}],
                    "resources": _resources(cpus=1, memory_gib=1),
                    "securityContext": _CONTAINER_SECURITY,
                    "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
                }
            ],
            "volumes": [{"name": "tmp", "emptyDir": {}}],
        },
    }


def _resources(cpus: int, memory_gib: int, gpus: int = 0) -> dict[str, Any]:
    amounts = {"cpu": str(cpus), "memory": f"{memory_gib}Gi"}
    if gpus:
        amounts["nvidia.com/gpu"] = str(gpus)
    # Equal requests and limits: a pod that trains must not be evicted for its neighbours.
    return {"requests": amounts, "limits": dict(amounts)}


def _name(config: RunConfig) -> str:
    # Kubernetes takes lower case, digits and dashes; KubeRay adds suffixes of its own.
    name = "".join(c if c.isalnum() else "-" for c in config.name.lower())
    return f"mixsd-{name}"[:40].strip("-")


def _config_map(config: RunConfig) -> str:
    return f"{_name(config)}-config"


def _device(device: str) -> str:
    return "cuda" if device == "auto" else device


def _on_gpu(device: str) -> bool:
    return _device(device) == "cuda"


def num_gpus(config: RunConfig, site: Site) -> tuple[int, int]:
    """GPUs of the run, and the fewest nodes that hold them."""
    total = sum(group.pods * group.gpus for group in groups(config, site))
    return total, math.ceil(total / site.gpus_per_node)
