"""Whether a new run fits on this machine, and how long it will take, by its plan."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from common.config.run_config import RunConfig
from common.errors import UserError
from common.hardware import Hardware, detect
from deploy.planning.devices import Device
from deploy.planning.simulation import SimulationResult, simulate


def check_fit(config: RunConfig, say: Callable[[str], None]) -> SimulationResult | None:
    """Refuse what cannot run here; returns how the rest will go, if known.

    Only for this machine: the plan does not know a joined cluster. A model whose sizes are not
    known, and a GPU that is not in the list of devices, are let through.

    Args:
        config: of the run, settled.
        say: receives the prediction, and remarks.

    Raises:
        UserError: the run does not fit; the message names the nearest settings that do.
    """
    from deploy.planning import planner
    from deploy.planning.fitting import Machine
    from deploy.planning.text import duration

    if config.cluster.address is not None:
        return None
    device = _device(config, detect(), say)
    if device is None:
        return None
    try:
        system = planner.system_of(config, device)
    except UserError as unknown:
        say(f"note: not planned: {unknown}")
        return None
    machine = Machine(system.engine.architecture, device, system.workload, detect().gpus)
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
    return outcome


def with_patience(config: RunConfig, folder: Path) -> RunConfig:
    """``config`` with a timeout for the start of a role, unless it has one.

    Two minutes for the packages; the weights from a disk of 100 MB/s; four minutes to compile CUDA
    graphs (8B: 170 s the first time), three to compile DeepSpeed's CPU Adam (72 s on two cores).
    """
    cluster = config.cluster
    if cluster.start_timeout_s is not None:
        return config
    seconds = cluster.patience_s + sum(p.stat().st_size for p in folder.glob("*.safetensors")) / 1e8
    if config.engine.device == "cuda" and not config.engine.enforce_eager:
        seconds += 240
    if config.learner.offload != "none":
        seconds += 180
    patient = cluster.model_copy(update={"start_timeout_s": float(round(seconds))})
    return config.model_copy(update={"cluster": patient})


def _device(config: RunConfig, here: Hardware, say: Callable[[str], None]) -> Device | None:
    """What the run's roles compute on; None if it cannot be planned."""
    from deploy.planning import devices

    used = {"engine": config.engine.device}
    if config.train:
        used["learner"] = config.learner.device
    on_gpu = [section for section, device in used.items() if device == "cuda"]
    if not on_gpu:
        return devices.find("cpu")
    if here.gpus == 0:
        raise UserError(
            f"{on_gpu[0]}.device is cuda, but this machine has no GPU that torch can use"
            f"{f' ({here.remark})' if here.remark else ''}; set it to auto or cpu, or see "
            "'mixsd-cluster doctor'"
        )
    if len(on_gpu) < len(used):
        say("note: not planned: engine and learner compute on different devices")
        return None
    found = devices.of_gpu(here.gpu, here.gpu_bytes)
    if found is None and config.num_gpus() > here.gpus:
        raise UserError(f"the roles need {config.num_gpus()} GPUs, the machine has {here.gpus}")
    if found is None:
        say(f"note: not planned: no figures of a {here.gpu}")
    return found
