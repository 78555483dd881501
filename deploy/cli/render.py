"""Commands that write files for other systems from a run's configuration."""

from __future__ import annotations

from pathlib import Path

import click

from deploy.cli.options import WITH, echo, reported


@click.group()
def render() -> None:
    """Write files for other systems from a run's configuration."""


@render.command()
@click.argument("config", type=click.Path(path_type=Path))
@WITH
@click.option("--set", "overrides", multiple=True, metavar="A.B=C", help="Override a setting.")
@click.option(
    "--out", type=click.Path(path_type=Path), help="Folder to write; k8s/NAME if not given."
)
@click.option(
    "--image",
    default="mixsd-cluster:0.1.0",
    show_default=True,
    help="Image of all pods; NAME@sha256:… is the same one on every node.",
)
@click.option("--gpus-per-node", default=8, show_default=True, type=click.IntRange(1))
@click.option("--cpus-per-gpu", default=8, show_default=True, type=click.IntRange(1))
@click.option("--memory-per-gpu", default=96, show_default=True, type=click.IntRange(1), help="GiB")
@click.option("--max-rollout", type=click.IntRange(1), help="Bound of the autoscaler.")
@reported
def k8s(
    config: Path,
    overlays: tuple[Path, ...],
    overrides: tuple[str, ...],
    out: Path | None,
    image: str,
    gpus_per_node: int,
    cpus_per_gpu: int,
    memory_per_gpu: int,
    max_rollout: int | None,
) -> None:
    """Write a kustomize folder for KubeRay with the pods and GPUs of CONFIG."""
    from common.config import run_config
    from deploy.kuberay import folder
    from deploy.kuberay.sizing import Site, num_gpus

    settings = run_config.load(config, overrides, overlays)
    site = Site(image, gpus_per_node, cpus_per_gpu, memory_per_gpu, max_rollout)
    out = out or Path("k8s") / settings.name
    folder.write(settings, site, out)
    gpus, nodes = num_gpus(settings, site)
    if "@sha256:" not in image:
        echo(
            f"warning: --image {image} has no digest: nodes may run different images of that name; "
            "push it and give NAME@sha256:…",
            err=True,
        )
    echo(f"{out}: {gpus} GPUs, {nodes} node(s) of {gpus_per_node}")
    echo(f"kubectl apply -k {out / 'run'}")
