"""The groups of a run, kept as the desired state asks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping

from common.config.run_config import RunConfig
from common.rundir import RunDir
from deploy.control import hand_on
from deploy.control.desired_state import Desired
from deploy.control.group import ActorGroup
from deploy.control.group_spec import GroupSpec, group_specs
from deploy.control.journal import Journal
from deploy.observability.run_status import RoleStatus


class GroupSet:
    """Makes a group for each desired one, and drains the others.

    Args:
        run: its folder.
        config: its configuration.
        model_dir: the resolved base model.
        journal: records events.
        before: roles under an earlier controller.
        make_group: makes the group of a specification, restarted so many times before.
        clock: seconds, monotonic.

    Attributes:
        groups: by name.
    """

    def __init__(
        self,
        run: RunDir,
        config: RunConfig,
        model_dir: str,
        journal: Journal,
        before: Mapping[str, RoleStatus],
        make_group: Callable[[GroupSpec, int], ActorGroup],
        clock: Callable[[], float],
    ) -> None:
        self._run = run
        self._config = config
        self._model_dir = model_dir
        self._journal = journal
        # Each is used once.
        self._before = dict(before)
        self._make_group = make_group
        self._clock = clock
        self.groups: dict[str, ActorGroup] = {}

    def sync(self, desired: Desired, is_trained: Callable[[], bool]) -> set[str]:
        """Make a group for each desired one; drain the others.

        Args:
            desired: what commands and scaling ask for.
            is_trained: whether training is over; called when the desired groups are there.

        Returns:
            Names of the evaluators beyond the desired number, on GPUs of rollout actors.
        """
        specs = self._specs(desired)
        self._add(specs)
        extra = self._handed_on(desired, is_trained)
        self._add(extra)
        wanted = {spec.name for spec in (*specs, *extra)}
        for name, group in list(self.groups.items()):
            if name in wanted:
                group.draining_since = None
            elif group.draining_since is None and group.exists:
                group.draining_since = self._clock()
                self._journal.event(f"{name} is drained")
            elif not group.exists:
                del self.groups[name]
        return {spec.name for spec in extra}

    def _specs(self, desired: Desired) -> list[GroupSpec]:
        return group_specs(self._config, desired, str(self._run.root), self._model_dir)

    def _add(self, specs: Iterable[GroupSpec]) -> None:
        for spec in specs:
            if spec.name not in self.groups:
                self.groups[spec.name] = self._group(spec)

    def _handed_on(self, desired: Desired, is_trained: Callable[[], bool]) -> list[GroupSpec]:
        """Evaluators on GPUs of rollout actors that are done; after training no new ones."""
        count = hand_on.num_evaluators(self._config, desired, self.groups)
        if count == 0:
            return []
        most = desired.model_copy(update={"evaluator": desired.evaluator + count})
        # Evaluators are the last of a run's groups.
        extra = self._specs(most)[-count:]
        known = self.groups.keys() | self._before.keys()
        if is_trained():
            gone = {name for name, g in self.groups.items() if not g.exists and not g.done}
            return [spec for spec in extra if spec.name in known - gone]
        if new := sum(spec.name not in known for spec in extra):
            self._journal.event(hand_on.announcement(new, self.groups))
        return extra

    def _group(self, spec: GroupSpec) -> ActorGroup:
        before = self._before.pop(spec.name, None)
        group = self._make_group(spec, before.restarts if before else 0)
        if before is not None and before.state == "done":
            group.done_at = -math.inf
        return group
