"""The Ray actors of a group: placed, created, found again, kept warm, and killed."""

from __future__ import annotations

import contextlib
import json
import time
from typing import Any

from common.config.sections import ClusterSettings
from common.rundir import RunDir, read_json, write_atomic
from deploy.control.group_spec import GroupSpec
from deploy.control.role_kind import RoleKind
from deploy.control.warm_pool import WarmActors, WarmPool

_ANSWER_S = 60.0
# Idle actors may hold what a group waits for.
_PLACING_S = 10.0


class Members:
    """Actors that are detached and named, so that a new controller finds them.

    Args:
        spec: of their group.
        settings: the cluster section.
        run: its folder; None: no actors are kept for other runs.

    Attributes:
        actors: by the member's name; empty until all are there.
    """

    def __init__(self, spec: GroupSpec, settings: ClusterSettings, run: RunDir | None) -> None:
        self._spec = spec
        self._settings = settings
        self._pool = WarmPool(run.warm) if run is not None and run.warm.is_dir() else None
        self._borrowed = None if run is None else run.root / f".{spec.name}.warm.json"
        self._taken: WarmActors | None = None
        self._placement: Any = None
        self._placed: Any = None
        self._placing_since = 0.0
        self.actors: dict[str, Any] = {}

    @property
    def exist(self) -> bool:
        """Whether there are actors, or resources reserved for them."""
        return bool(self.actors) or self._placement is not None

    @property
    def wait_for_resources(self) -> bool:
        """Whether they are placed and not yet created."""
        return self._placement is not None and not self.actors

    def adopt(self) -> bool:
        """Find the actors of an earlier controller; False if one is missing, and none are left."""
        import ray

        spec = self._spec
        if (taken := self._read_borrowed()) is not None:
            self._taken, self._placement = taken, taken.placement_group()
            found = dict(zip(spec.members, taken.handles(), strict=False))
        else:
            found = {}
            for name in spec.members:
                with contextlib.suppress(ValueError):
                    found[name] = ray.get_actor(name)
            with contextlib.suppress(ValueError):
                self._placement = ray.util.get_placement_group(spec.name)
        self.actors = found
        if len(found) == len(spec.members):
            return True
        self.end()
        return False

    def advance(self) -> bool:
        """Take the next step of their start; True once all are there."""
        if self._placement is None:
            if self._take_warm():
                return True
            self._place()
        else:
            self._create()
        return bool(self.actors)

    def keep(self) -> bool:
        """Leave them, idle, for another run; False if they must be ended instead."""
        import ray

        if self._pool is None or not self._spec.warm_key or not self.actors:
            return False
        namespace = ray.get_runtime_context().namespace
        names = [(namespace, name) for name in self._spec.members]
        if self._taken is not None:
            names = self._taken.names
        warm = WarmActors(key=self._spec.warm_key, names=names, placement=self._placement.id.hex())
        self._forget()
        self._pool.put(self._spec.kind, warm)
        return True

    def end(self) -> None:
        """Kill the actors and release their resources."""
        import ray

        for actor in self.actors.values():
            ray.kill(actor)
        if self._placement is not None:
            ray.util.remove_placement_group(self._placement)
        self._forget()

    # -- private -----------------------------------------------------------

    def _forget(self) -> None:
        self._placement, self._placed, self._taken, self.actors = None, None, None, {}
        if self._borrowed is not None:
            self._borrowed.unlink(missing_ok=True)

    def _place(self) -> None:
        from ray.util.placement_group import placement_group

        spec = self._spec
        bundle = {"CPU": spec.cpus}
        if spec.gpus:
            bundle["GPU"] = spec.gpus
        if spec.kind is RoleKind.REPLAY:
            # With the disk of its ledger, and at hand for the controller.
            bundle["node:__internal_head__"] = 0.001
        elif self._settings.dedicated:
            bundle[f"mixsd_{spec.kind.value}"] = 0.001
        self._placement = placement_group(
            [bundle] * len(spec.members), strategy="PACK", name=spec.name, lifetime="detached"
        )
        self._placed = self._placement.ready()
        self._placing_since = time.monotonic()

    def _create(self) -> None:
        import ray
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        if not ray.wait([self._placed], timeout=0)[0]:
            if self._pool is not None and time.monotonic() > self._placing_since + _PLACING_S:
                self._pool.clear()
            return
        actors = {}
        for index, name in enumerate(self._spec.members):
            options = ray.remote(self._spec.actor).options(
                name=name,
                lifetime="detached",
                num_cpus=self._spec.cpus,
                num_gpus=self._spec.gpus,
                max_concurrency=8,
                scheduling_strategy=PlacementGroupSchedulingStrategy(self._placement, index),
            )
            try:
                actors[name] = options.remote(name, *self._spec.arguments)
            except ValueError:
                # A killed predecessor still holds the name.
                for actor in actors.values():
                    ray.kill(actor)
                return
        self.actors = actors

    def _take_warm(self) -> bool:
        """Take over idle actors; False if there are none that fit."""
        import ray

        if self._pool is None or not self._spec.warm_key:
            return False
        taken = self._pool.take(self._spec.kind, self._spec.warm_key)
        if taken is None:
            return False
        assert self._borrowed is not None
        write_atomic(self._borrowed, json.dumps(taken.to_json()))
        pairs = list(zip(self._spec.members, taken.handles(), strict=False))
        try:
            begun = [actor.reassign.remote(name, *self._spec.arguments) for name, actor in pairs]
            ray.get(begun, timeout=_ANSWER_S)
        except (ray.exceptions.RayError, ValueError):
            taken.end()
            self._borrowed.unlink(missing_ok=True)
            return False
        self._taken, self._placement = taken, taken.placement_group()
        self.actors = dict(pairs)
        return True

    def _read_borrowed(self) -> WarmActors | None:
        content = None if self._borrowed is None else read_json(self._borrowed)
        return None if content is None else WarmActors.from_json(content)
