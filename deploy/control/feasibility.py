"""Whether a new run fits where it will take place, and how long it will take, by its plan."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from common.config.run_config import RunConfig
from common.errors import UserError
from common.hardware import Hardware
from deploy.planning.devices import Device
from deploy.planning.simulation import SimulationResult, simulate


def device_of(config: RunConfig, here: Hardware, say: Callable[[str], None]) -> Device | None:
    """What the run's roles compute on.

    None if it cannot be planned: the CPUs of a joined cluster, and a GPU that is not in the list
    of devices.

    Raises:
        UserError: there is no GPU for a role that is to have one, or there are too few.
    """
    from deploy.planning import devices

    used = {"engine": config.engine.device}
    if config.train:
        used["learner"] = config.learner.device
    on_gpu = [section for section, device in used.items() if device == "cuda"]
    joined = config.cluster.address is not None
    if not on_gpu:
        return None if joined else devices.find("cpu")
    if here.gpus == 0 and config.cluster.autoscales:
        say("note: not planned: the cluster has no GPU yet")
        return None
    if here.gpus == 0:
        where = "the cluster" if joined else "this machine"
        raise UserError(
            f"{on_gpu[0]}.device is cuda, but {where} has no GPU that torch can use"
            f"{f' ({here.remark})' if here.remark else ''}; set it to auto or cpu, or see "
            "'mixsd-cluster doctor'"
        )
    if len(on_gpu) < len(used):
        say("note: not planned: engine and learner compute on different devices")
        return None
    found = devices.of_gpu(here.gpu, here.gpu_bytes)
    if found is None:
        _check_unknown(config, here)
        say(f"note: not planned: no figures of a {here.gpu}")
        return None
    # One GPU is sold with several sizes, and some of it is not there to use.
    return replace(found, memory_bytes=here.gpu_bytes)


def _check_unknown(config: RunConfig, here: Hardware) -> None:
    """Refuse what cannot run on GPUs of which only number and size are known."""
    if config.num_gpus() > here.gpus and not config.cluster.autoscales:
        raise UserError(
            f"the roles need {config.num_gpus()} GPUs, there are {here.gpus}; see cluster.placement"
        )
    missing = {"gpu_memory_utilization", "kv_cache_gib"} - config.engine.model_fields_set
    if config.cluster.placement == "shared" and missing:
        raise UserError(
            f"cluster.placement is shared, and no figures of a {here.gpu} are known to divide its "
            f"memory by; set {' and '.join(f'engine.{key}' for key in sorted(missing))}"
        )


def check_fit(
    config: RunConfig, hardware: Hardware, device: Device | None, say: Callable[[str], None]
) -> tuple[RunConfig, SimulationResult | None]:
    """Refuse what cannot run there; a model whose sizes are not known is let through.

    Args:
        config: of the run, settled.
        hardware: of this machine, or of the joined cluster.
        device: that :func:`device_of` has found; None: nothing is checked.
        say: receives the prediction, and remarks.

    Returns:
        ``config``, with the shares of roles that are on one GPU; and how the run will go, if known.

    Raises:
        UserError: the run does not fit; the message names the nearest settings that do.
    """
    from deploy.planning import planner, sharing
    from deploy.planning.fitting import Machine
    from deploy.planning.memory import processes_of
    from deploy.planning.text import duration

    if device is None:
        return config, None
    try:
        system = planner.system_of(config, device)
    except UserError as unknown:
        say(f"note: not planned: {unknown}")
        return config, None
    sizes = system.engine.architecture, device, system.workload
    machine = Machine(*sizes, None if config.cluster.autoscales else hardware.gpus)
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
    if not device.is_cpu and config.cluster.placement != "exclusive":
        if config.cluster.placement == "shared":
            config = sharing.divide(config, *sizes)
        for line in sharing.table(processes_of(config, *sizes), config, device):
            say(line)
    outcome = simulate(system)
    say(f"plan: {outcome.steps} steps, about {duration(outcome.total_s)}")
    return config, outcome


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
