"""Writes the kustomize folder of a run; as a program, rewrites the shipped overlays."""

from __future__ import annotations

import shutil
from pathlib import Path

import yaml

from common.config.run_config import RunConfig, load
from deploy.kuberay import manifests
from deploy.kuberay.sizing import Site, resolve

_SHIPPED = Path(__file__).parent
_RULES = _SHIPPED.parent / "observability" / "prometheus" / "rules"
# The shipped overlays are one configuration, changed as little as their GPUs need, so that none
# keeps a value which the configuration has given up.
CONFIG = _SHIPPED.parents[1] / "configs" / "8b.yaml"
OVERLAYS = {
    "8gpu": ("name=kgfact-8b-8gpu",),
    "32gpu": ("name=kgfact-8b-32gpu", "rollout.actors=15", "learner.ranks=16"),
}


def write(config: RunConfig, site: Site, out: Path) -> None:
    """Write ``out/base`` and ``out/run``; nothing is written if the run cannot fit."""
    files = overlay(config, site, "../base")
    shutil.copytree(_SHIPPED / "base", out / "base", dirs_exist_ok=True)
    (out / "run").mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (out / "run" / name).write_text(text, encoding="utf-8")


def overlay(config: RunConfig, site: Site, base: str) -> dict[str, str]:
    """Files of a run's overlay by name; ``base`` is the path of the base from the overlay."""
    settings = resolve(config)
    rules = [
        group
        for path in sorted(_RULES.glob("*.yml"))
        for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]
    ]
    return {
        # Only what was set, so that the file reads like a hand-written one.
        "config.yaml": _text(settings.model_dump(mode="json", exclude_unset=True)),
        "kustomization.yaml": _text(manifests.kustomization(settings, base)),
        "job.yaml": _text(manifests.ray_job(settings, site)),
        "cluster.yaml": _text(manifests.ray_cluster(settings, site)),
        "prometheus-rule.yaml": _text(manifests.prometheus_rule(rules)),
    }


def _text(manifest: dict[str, object]) -> str:
    class Plain(yaml.SafeDumper):
        def ignore_aliases(self, data: object) -> bool:
            return True

    text: str = yaml.dump(manifest, Dumper=Plain, sort_keys=False, width=100)
    return text


if __name__ == "__main__":
    for gpus, changes in OVERLAYS.items():
        for file, content in overlay(load(CONFIG, changes), Site(), "../../base").items():
            (_SHIPPED / "overlays" / gpus / file).write_text(content, encoding="utf-8")
