"""The student's engines as vLLM's trainer sees them: one client over all rollout actors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from common.config.run_config import RunConfig
from common.rundir import RunDir
from common.weight_sync.transfer_receiver import LAST_CALL
from common.weights import BitSum
from deploy.control import desired_state
from deploy.control.role_kind import RoleKind

_ANSWER_S = 10.0


# Process and node of a rollout actor; restarted, it is another.
Member = tuple[int, str]


class WeightSyncClient:
    """Rollout actors of a run by name; structurally vLLM's ``VLLMWeightSyncClient``.

    Calls block until every member has made them, or raise what one of them raised.
    """

    def __init__(self, run: RunDir, config: RunConfig) -> None:
        self._run = run
        self._config = config
        self._handles: list[Any] = []
        self._last: tuple[int, Mapping[str, BitSum]] = (0, {})

    def available(self) -> dict[str, Member]:
        """The rollout actors whose engines are up."""
        count = desired_state.read(self._run, self._config).rollout
        found = {}
        for name in (RoleKind.ROLLOUT.group_name(index) for index in range(count)):
            if (member := self._ask(name)) is not None:
                found[name] = member
        return found

    def join(self, members: Mapping[str, Any]) -> int:
        """Talk to these from now on; returns their GPUs, each a rank of the group."""
        import ray

        self._handles = [ray.get_actor(name) for name in members]
        return len(self._handles) * self._config.engine.tensor_parallel_size

    def expect(self, version: int, sums: Mapping[str, BitSum]) -> None:
        """What the next transfer ends with; ``sums`` are read when it has ended."""
        self._last = (version, sums)

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        """Prepare every engine; those of an NCCL group join it, each at ranks of its own."""
        width, first = self._config.engine.tensor_parallel_size, init_info.get("rank_offset")
        infos = [dict(init_info) for _ in self._handles]
        if first is not None:
            for index, info in enumerate(infos):
                info["rank_offset"] = first + index * width
        self._call("init_weight_transfer_engine", [(info,) for info in infos])

    def start_weight_update(self) -> None:
        """Returns when no engine has a request under the old weights."""
        self._call("start_weight_update")

    def update_weights(self, update_info: Any) -> None:
        """Returns when every engine has received what is sent meanwhile, or is in the buffer."""
        self._call("update_weights", [(update_info,)] * len(self._handles))

    def finish_weight_update(self, weight_version: str | None = None) -> None:
        """Returns when every engine draws under the new weights, and holds what was sent."""
        version, sums = self._last
        self._call(LAST_CALL, [(version, dict(sums))] * len(self._handles))

    def _call(self, method: str, arguments: list[tuple[Any, ...]] | None = None) -> None:
        import ray

        given = arguments or [()] * len(self._handles)
        ray.get(
            [
                handle.transfer.remote(method, *each)
                for handle, each in zip(self._handles, given, strict=True)
            ]
        )

    def _ask(self, name: str) -> Member | None:
        import ray

        try:
            report = ray.get(ray.get_actor(name).poll.remote(), timeout=_ANSWER_S)
        except (ValueError, ray.exceptions.RayError):
            return None
        return (report.pid, report.node) if report.state == "working" else None
