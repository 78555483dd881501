"""Idle actors of runs that have ended, which the next run of the same kind takes over.

An engine takes longer to start than a small run takes to train. In a study, whose runs follow each
other on one Ray head, a group that is done leaves its actors here with their engines. They are
files in a folder: what a killed controller has not taken stays there for the next one.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from common.config.run_config import RunConfig
from common.json_model import JsonModel
from common.rundir import read_json, write_atomic
from deploy.control.role_kind import RoleKind


class WarmActors(JsonModel):
    """The actors of one group.

    Args:
        key: see :func:`warm_key`.
        names: (namespace, name) of each member, in order.
        placement: id of their placement group, in hexadecimal.
    """

    key: str
    names: list[tuple[str, str]]
    placement: str

    def handles(self) -> list[Any]:
        """Those that live, in order."""
        import ray

        found = []
        for namespace, name in self.names:
            try:
                found.append(ray.get_actor(name, namespace=namespace))
            except ValueError:
                continue
        return found

    def placement_group(self) -> Any:
        """Their placement group."""
        from ray._raylet import PlacementGroupID
        from ray.util.placement_group import PlacementGroup

        return PlacementGroup(PlacementGroupID.from_hex(self.placement))

    def end(self) -> None:
        """Kill them, and release their resources."""
        import ray

        for actor in self.handles():
            ray.kill(actor)
        ray.util.remove_placement_group(self.placement_group())


class WarmPool:
    """The actors that wait in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, kind: RoleKind, actors: WarmActors) -> None:
        """Leave actors that have no work."""
        path = self._folder / f"{kind.value}-{uuid.uuid4().hex}.json"
        write_atomic(path, json.dumps(actors.to_json()))

    def take(self, kind: RoleKind, key: str) -> WarmActors | None:
        """Actors of this kind and key, from now on the caller's; others of the kind are ended.

        They would keep memory that the caller's own are about to need.
        """
        for actors in self._claimed(kind.value):
            if actors.key == key and len(actors.handles()) == len(actors.names):
                return actors
            actors.end()
        return None

    def clear(self) -> None:
        """End all that wait."""
        for actors in self._claimed("*"):
            actors.end()

    def _claimed(self, kind: str) -> Iterator[WarmActors]:
        for path in sorted(self._folder.glob(f"{kind}-*.json")):
            claimed = path.with_name(f".{path.name}")
            try:
                path.rename(claimed)
            except FileNotFoundError:
                # Another controller was faster.
                continue
            content = read_json(claimed)
            claimed.unlink()
            if content is not None:
                yield WarmActors.from_json(content)


def warm_key(kind: RoleKind, config: RunConfig, model_dir: str) -> str:
    """A hash of what an idle actor must have been started with; empty: it cannot be used again.

    Engines that get new weights, and the learner that sends them, stay with their run.
    """
    if kind is RoleKind.REPLAY or config.cluster.placement == "phases":
        return ""
    if kind is not RoleKind.EVALUATOR and config.student is not None:
        return ""
    parts: dict[RoleKind, list[Any]] = {
        RoleKind.ROLLOUT: [
            config.engine.model_dump(mode="json"),
            config.rollout.slots,
            config.rollout.speculative_tokens,
            config.rollout.actors,
        ],
        RoleKind.EVALUATOR: [
            config.evaluator_engine.model_dump(mode="json"),
            config.evaluator.slots,
            config.evaluator.actors,
        ],
        RoleKind.LEARNER: [
            config.learner.ranks,
            config.learner.device,
            config.learner.zero_stage,
            config.learner.offload,
            config.learner_share,
        ],
    }
    cluster = [config.cluster.placement, config.cluster.threads, config.cluster.dedicated]
    content = json.dumps([kind.value, model_dir, cluster, parts[kind]], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]
