"""Manifests agree with the run's configuration and with the published schemas. Not run on
Kubernetes: there is no API server here."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from common.config.run_config import RunConfig, dump, load, parse
from common.errors import UserError
from deploy.cli.main import main
from deploy.kuberay import folder, manifests, sizing
from deploy.kuberay.sizing import METRICS_PORT, Site

ROOT = Path(__file__).parents[3]
SHIPPED = ROOT / "deploy" / "kuberay"
OVERLAYS = sorted((SHIPPED / "overlays").iterdir())
SCHEMAS = ROOT.parent / "shared" / "schemas" / "kuberay"


def _config(**changes: Any) -> RunConfig:
    settings = {
        "name": "Mine_1",
        "method": {"name": "mixsd"},
        "data": {"kgfact": {}},
        "rollout": {"actors": 3},
        "learner": {"ranks": 2},
        **changes,
    }
    return parse(settings, "test")


def _gpus(config: RunConfig, site: Site | None = None) -> dict[str, tuple[int, int]]:
    """(pods, GPUs per pod) by worker group, as in the manifest."""
    site = site or Site()
    spec = manifests.ray_cluster(config, site)["spec"]
    return {
        group["groupName"]: (
            group["replicas"],
            int(_container(group)["resources"]["limits"].get("nvidia.com/gpu", 0)),
        )
        for group in spec["workerGroupSpecs"]
    }


def _container(group: dict[str, Any]) -> dict[str, Any]:
    return group["template"]["spec"]["containers"][0]


def _files(overlay: Path) -> list[dict[str, Any]]:
    return [
        document
        for path in [*overlay.glob("*.yaml"), *(SHIPPED / "base").glob("*.yaml")]
        for document in yaml.safe_load_all(path.read_text())
        if document and "kind" in document
    ]


def test_pods_and_gpus_are_the_configurations():
    assert _gpus(_config()) == {"rollout": (3, 1), "learner": (1, 2), "evaluator": (1, 1)}


def test_an_engine_over_four_gpus_has_a_pod_of_four():
    config = _config(engine={"tensor_parallel_size": 4}, evaluator={"actors": 0})
    assert _gpus(config) == {"rollout": (3, 4), "learner": (1, 2)}


def test_ranks_fill_whole_nodes_where_they_can():
    config = _config(learner={"ranks": 16, "batch_size": 32})
    assert _gpus(config)["learner"] == (2, 8)
    config = _config(learner={"ranks": 10, "batch_size": 20})
    assert _gpus(config)["learner"] == (2, 5)
    assert _gpus(config, Site(gpus_per_node=4))["learner"] == (5, 2)


def test_a_cpu_run_requests_no_gpu():
    config = _config(engine={"device": "cpu"}, learner={"device": "cpu", "ranks": 1})
    assert {gpus for _, gpus in _gpus(config).values()} == {0}


def test_the_autoscaler_moves_rollout_pods_only_and_within_its_bound():
    spec = manifests.ray_cluster(_config(), Site(max_rollout=12))["spec"]
    bounds = {
        group["groupName"]: (group["minReplicas"], group["replicas"], group["maxReplicas"])
        for group in spec["workerGroupSpecs"]
    }
    assert bounds == {"rollout": (0, 3, 12), "learner": (1, 1, 1), "evaluator": (1, 1, 1)}


@pytest.mark.parametrize(
    "changes", [{"autoscale": {"max": 9}}, {"schedule": [{"after_s": 60, "actors": 9}]}]
)
def test_the_bound_follows_the_runs_own_scaling(changes):
    config = _config(rollout={"actors": 3, **changes})
    rollout = sizing.groups(config, Site())[0]
    assert (rollout.pods, rollout.most) == (3, 9)


def test_each_role_has_nodes_of_its_own_and_the_queue_stays_on_the_head():
    spec = manifests.ray_cluster(_config(), Site())["spec"]
    offered = [spec["headGroupSpec"], *spec["workerGroupSpecs"]]
    names = [json.loads(json.loads(group["rayStartParams"]["resources"])) for group in offered]
    roles = ("replay", "rollout", "learner", "evaluator")
    assert names == [{f"mixsd_{role}": 1} for role in roles]
    assert sizing.resolve(_config()).cluster.dedicated


@pytest.mark.parametrize(
    ("config", "site", "message"),
    [
        (_config(engine={"tensor_parallel_size": 16}), Site(), "tensor_parallel_size is 16"),
        (_config(), Site(max_rollout=2), "--max-rollout is 2, fewer than the 3 actors"),
    ],
)
def test_what_cannot_fit_is_refused(config, site, message):
    with pytest.raises(UserError, match=message):
        sizing.groups(config, site)


@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: path.name)
def test_the_shipped_overlays_are_what_render_writes(overlay):
    config = load(folder.CONFIG, folder.OVERLAYS[overlay.name])
    expected = folder.overlay(config, Site(), "../../base")
    assert {path.name: path.read_text() for path in overlay.iterdir()} == expected
    gpus, nodes = sizing.num_gpus(config, Site())
    assert (f"{gpus}gpu", nodes) == (overlay.name, gpus // 8)


# What "render k8s" sets: the cluster and the metrics of Kubernetes.
SET_BY_RENDER = {
    *("cluster.address", "cluster.autoscales", "cluster.dedicated", "metrics.host", "metrics.port")
}


@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: path.name)
def test_a_shipped_overlay_changes_only_what_it_names(overlay):
    source, shipped = load(folder.CONFIG), load(overlay / "config.yaml")
    named = {change.partition("=")[0] for change in folder.OVERLAYS[overlay.name]}
    settled = {"engine.dtype", "learner.dtype", "cluster.placement", "evaluator.fisher.device"}
    assert _changes(source, shipped) == named | SET_BY_RENDER | settled


@pytest.mark.parametrize(
    "path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.stem
)
def test_render_keeps_every_setting_but_those_of_kubernetes(path):
    config = load(path)
    rendered = parse(
        yaml.safe_load(folder.overlay(config, Site(), "../base")["config.yaml"]), "test"
    )
    # A device that is not set is a GPU there, and computes in bfloat16.
    auto = {f"{section}.{key}" for section in ("engine", "learner") for key in ("device", "dtype")}
    auto |= {"evaluator.fisher.device", "cluster.placement"}
    assert _changes(config, rendered) - auto == SET_BY_RENDER
    assert (rendered.engine.device, rendered.engine.dtype) == ("cuda", "bfloat16")


def _changes(before: RunConfig, after: RunConfig) -> set[str]:
    """Dotted names of the settings that differ."""

    def flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
        found = {}
        for key, value in settings.items():
            nested = isinstance(value, dict)
            found |= flat(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": value}
        return found

    old, new = (flat(config.model_dump(mode="json")) for config in (before, after))
    return {name for name in old.keys() | new.keys() if old.get(name) != new.get(name)}


@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: path.name)
def test_every_container_is_confined(overlay):
    job = yaml.safe_load((overlay / "job.yaml").read_text())["spec"]
    cluster = job["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    pods = [group["template"]["spec"] for group in groups] + [job["submitterPodTemplate"]["spec"]]
    for pod in pods:
        assert pod["securityContext"]["runAsNonRoot"]
        for container in pod["containers"]:
            security = container["securityContext"]
            assert security["readOnlyRootFilesystem"]
            assert not security["allowPrivilegeEscalation"]
            assert container["resources"]["limits"] == container["resources"]["requests"]
    assert cluster["authOptions"] == {"mode": "token", "secretName": "mixsd-ray-token"}


@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: path.name)
def test_monitor_policy_volume_and_pods_refer_to_each_other(overlay):
    found = {
        (doc["kind"], doc["metadata"]["name"]): doc for doc in _files(overlay) if "spec" in doc
    }
    cluster = next(doc for (kind, _), doc in found.items() if kind == "RayCluster")["spec"]
    head = _container(cluster["headGroupSpec"])
    ports = {port["name"]: port["containerPort"] for port in head["ports"]}
    assert ports["mixsd"] == METRICS_PORT
    for monitor in ("mixsd", "ray"):
        endpoint = found["PodMonitor", monitor]["spec"]["podMetricsEndpoints"][0]
        assert endpoint["port"] in ports
    labels = cluster["headGroupSpec"]["template"]["metadata"]["labels"].items()
    assert found["NetworkPolicy", "mixsd"]["spec"]["podSelector"]["matchLabels"].items() <= labels
    volumes = cluster["headGroupSpec"]["template"]["spec"]["volumes"]
    claims = [
        v["persistentVolumeClaim"]["claimName"] for v in volumes if "persistentVolumeClaim" in v
    ]
    assert claims == ["mixsd-runs"]
    assert ("PersistentVolumeClaim", "mixsd-runs") in found
    config_map = next(v["configMap"]["name"] for v in volumes if "configMap" in v)
    kustomization = yaml.safe_load((overlay / "kustomization.yaml").read_text())
    assert [made["name"] for made in kustomization["configMapGenerator"]] == [config_map]
    for name in kustomization["resources"]:
        assert (overlay / name).exists()


@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: path.name)
def test_ray_manifests_follow_kuberays_schemas(overlay):
    if not SCHEMAS.is_dir():
        pytest.skip(f"no schemas in {SCHEMAS}")
    jsonschema = pytest.importorskip("jsonschema")
    for name, schema in (("cluster", "rayclusters"), ("job", "rayjobs")):
        with gzip.open(SCHEMAS / f"{schema}.v1.json.gz") as file:
            strict = _strict(json.load(file))
        manifest = yaml.safe_load((overlay / f"{name}.yaml").read_text())
        # Checking the schema itself would take ten times as long.
        jsonschema.Draft202012Validator(strict).validate(manifest)


def test_core_manifests_follow_kubernetes_schemas():
    validate = pytest.importorskip("kubernetes_validate").validate
    core = [doc for doc in _files(OVERLAYS[0]) if doc["kind"] in CORE]
    # Pods are checked as such too, which KubeRay's own schema does not do in full.
    cluster = yaml.safe_load((OVERLAYS[0] / "cluster.yaml").read_text())["spec"]
    for group in [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]:
        core.append(
            {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, **group["template"]}
        )
    assert {doc["kind"] for doc in core} == CORE | {"Pod"}
    for document in core:
        validate(document, "1.34", strict=True)


CORE = {"PersistentVolumeClaim", "NetworkPolicy"}


def test_render_writes_a_folder_and_prints_what_it_needs(tmp_path):
    source = tmp_path / "run.yaml"
    source.write_text(dump(_config()))
    out = tmp_path / "k8s"
    result = CliRunner().invoke(main, ["render", "k8s", str(source), "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert "6 GPUs, 1 node(s) of 8" in result.output
    assert "--image mixsd-cluster:0.1.0 has no digest" in result.stderr
    assert (out / "base" / "kustomization.yaml").exists()
    written = load(out / "run" / "config.yaml")
    assert written.rollout.actors == 3
    assert written.metrics.port == METRICS_PORT
    again = CliRunner().invoke(
        main,
        [
            "render",
            "k8s",
            str(source),
            "--out",
            str(tmp_path / "no"),
            "--gpus-per-node",
            "1",
            "--set",
            "engine.tensor_parallel_size=2",
        ],
    )
    assert again.exit_code == 2
    assert not (tmp_path / "no").exists()


def _strict(schema: Any) -> Any:
    """The schema with unknown fields refused, as the API server prunes or refuses them."""
    if isinstance(schema, list):
        return [_strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    strict = {key: _strict(value) for key, value in schema.items()}
    if isinstance(strict.get("properties"), dict) and not schema.get(
        "x-kubernetes-preserve-unknown-fields"
    ):
        strict.setdefault("additionalProperties", False)
    return strict


def test_an_image_with_a_digest_is_not_warned_of_and_is_in_every_pod(tmp_path):
    source = tmp_path / "run.yaml"
    source.write_text(dump(_config()))
    image = f"registry.example/mixsd-cluster@sha256:{'0' * 64}"
    options = ["--out", str(tmp_path / "k8s"), "--image", image]
    result = CliRunner().invoke(main, ["render", "k8s", str(source), *options])
    assert result.stderr == ""
    job = (tmp_path / "k8s" / "run" / "job.yaml").read_text()
    # The head, three worker groups and the submitter.
    assert job.count(f"image: {image}") == 5
    assert job.count("image:") == 5
