"""Whether a new run fits on this machine, and how long it will take, by its plan."""

from __future__ import annotations

from collections.abc import Callable

from common.config.run_config import RunConfig
from common.errors import UserError


def check_fit(config: RunConfig, say: Callable[[str], None]) -> float | None:
    """Refuse what cannot run here; returns the seconds that the rest will take, if known.

    Only for CPUs of this machine: the plan knows neither a joined cluster nor this GPU. A model
    whose sizes the plan does not know is let through.

    Args:
        config: of the run, settled.
        say: receives the prediction, and remarks.

    Raises:
        UserError: the run does not fit; the message names the nearest settings that do.
    """
    from deploy.planning import devices, planner
    from deploy.planning.fitting import Machine
    from deploy.planning.simulation import simulate
    from deploy.planning.text import duration

    if "cuda" in (config.engine.device, config.learner.device):
        return None
    if config.cluster.address is not None:
        return None
    device = devices.find("cpu")
    try:
        system = planner.system_of(config, device)
    except UserError as unknown:
        say(f"note: not planned: {unknown}")
        return None
    machine = Machine(system.engine.architecture, device, system.workload)
    problems = machine.problems(config)
    # Too few KV blocks for every slot make an engine slow, and no more.
    slow = [problem for role, problem in problems.items() if role.endswith("KV cache")]
    refused = [problem for problem in problems.values() if problem not in slow]
    if refused:
        nearest = machine.nearest(config)
        remedy = "no setting was found" if nearest is None else planner.show_changes(nearest)
        raise UserError("\n".join([*refused, f"nearest that fits: {remedy}"]))
    for problem in slow:
        say(f"note: {problem}; sessions will be computed again")
    outcome = simulate(system)
    say(f"plan: {outcome.steps} steps, about {duration(outcome.total_s)}")
    return outcome.total_s
