"""KubeRay manifests of one run, built from its configuration.

``base/`` beside this file holds what is the same for every run. This module builds
the ``RayJob`` that brings up a cluster, runs ``up`` in it and ends, and the same
cluster as a permanent ``RayCluster``. Pure: a manifest is a dictionary in the shape of
its YAML. Not run on Kubernetes; checked against KubeRay's schemas.
"""

from __future__ import annotations

import json
from typing import Any

from common.config.run_config import RunConfig
from deploy.kuberay.sizing import METRICS_PORT, Site, WorkerGroup, groups

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
    # Without this, every start changes the owner of each file of the volume.
    "fsGroupChangePolicy": "OnRootMismatch",
    "seccompProfile": {"type": "RuntimeDefault"},
}


Manifest = dict[str, Any]


def ray_cluster(config: RunConfig, site: Site) -> Manifest:
    """A permanent cluster for the run."""
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayCluster",
        "metadata": {"name": _name(config), "labels": _LABELS},
        "spec": _cluster_spec(config, site),
    }


def ray_job(config: RunConfig, site: Site) -> Manifest:
    """A cluster that runs ``up`` and is deleted when the run has ended."""
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayJob",
        "metadata": {"name": _name(config), "labels": _LABELS},
        "spec": {
            "entrypoint": f"mixsd-cluster up {_CONFIG}/config.yaml --runs {_RUNS}",
            "submissionMode": "K8sJobMode",
            "shutdownAfterJobFinishes": True,
            "ttlSecondsAfterFinished": 600,
            # 'up' resumes, so a retry continues the run.
            "backoffLimit": 2,
            "rayClusterSpec": _cluster_spec(config, site),
            "submitterPodTemplate": _submitter(site),
        },
    }


def kustomization(config: RunConfig, base: str) -> Manifest:
    """The kustomization of base, job and configuration."""
    return {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [base, "job.yaml", "prometheus-rule.yaml"],
        "configMapGenerator": [
            {"name": _config_map(config), "files": ["config.yaml"]},
        ],
        "generatorOptions": {"disableNameSuffixHash": True},
    }


def prometheus_rule(rules: list[Manifest]) -> Manifest:
    """The shipped rule groups for the Prometheus operator."""
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "mixsd", "labels": _LABELS},
        "spec": {"groups": rules},
    }


def _cluster_spec(config: RunConfig, site: Site) -> Manifest:
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
            # The queue runs beside the controller; no compute role is placed here.
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


def _worker_group(group: WorkerGroup, site: Site) -> Manifest:
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
    # KubeRay puts the value on a shell command line unchanged, so it is quoted twice.
    return json.dumps(json.dumps({f"mixsd_{role}": 1}))


def _pod(
    kind: str,
    site: Site,
    resources: Manifest,
    ports: dict[str, int],
    config_map: str | None = None,
) -> Manifest:
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
            # Only the autoscaler, in the head, talks to the API server.
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


def _submitter(site: Site) -> Manifest:
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


def _resources(cpus: int, memory_gib: int, gpus: int = 0) -> Manifest:
    amounts = {"cpu": str(cpus), "memory": f"{memory_gib}Gi"}
    if gpus:
        amounts["nvidia.com/gpu"] = str(gpus)
    # Equal requests and limits: a training pod must not be evicted for its neighbors.
    return {"requests": amounts, "limits": dict(amounts)}


def _name(config: RunConfig) -> str:
    # Kubernetes allows lower case, digits and dashes; KubeRay adds its own suffixes.
    name = "".join(c if c.isalnum() else "-" for c in config.name.lower())
    return f"mixsd-{name}"[:40].strip("-")


def _config_map(config: RunConfig) -> str:
    return f"{_name(config)}-config"
