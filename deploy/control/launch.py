"""Checks, starts and stops a run."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from common.config import run_config
from common.config.auto import is_settled, settle
from common.config.learner import LearnerSettings
from common.config.run_config import RunConfig
from common.config.sections import EngineSettings
from common.errors import RunError, UserError
from common.hardware import Hardware, detect
from common.ledger import open_view
from common.rundir import RunDir, read_json, write_atomic
from common.weight_sync.store import WeightStore
from deploy.cluster import ray_cluster
from deploy.cluster.nodes import hardware_of, wait_for_gpus
from deploy.cluster.run_lock import STARTING, RunLock
from deploy.control import continuing, desired_state
from deploy.control.feasibility import check_fit, device_of, with_patience
from deploy.control.identity import Identity, check_identity, identify
from deploy.observability.liveness import has_controller
from deploy.observability.prometheus import targets
from deploy.observability.run_status import RunStatus
from deploy.observability.time_left import record_plan
from learner import families
from learner.checkpoint_folder import CheckpointFolder
from learner.editing.support import edited_layers

_STOP_S = 30.0
_LEAVE_S = 10.0
_PLACEMENTS = {
    "phases": "targets, then training, then evaluation; one role at a time",
    "shared": "all roles at once, on one GPU",
}


def is_live(run: RunDir) -> bool:
    """Whether a controller still works on the run."""
    status = RunStatus.load(run)
    return status is not None and status.live and has_controller(run, status.updated)


def settled(config: RunConfig, run: RunDir) -> RunConfig:
    """``config`` without ``auto``, and with what ``continues`` stands for.

    As the run was started with, else by where it will run.

    Raises:
        UserError: a setting does not fit to the hardware, the cluster cannot be joined, or the
            run to continue cannot be.
    """
    recorded = run_config.load(run.config) if run.config.exists() else None
    config = continuing.resolve(config, run.root.parent, recorded)
    if recorded is not None or is_settled(config) or config.cluster.address is None:
        return settle(config, detect(), recorded)
    with ray_cluster.connected(run, config.cluster.address) as ray:
        return settle(config, hardware_of(ray))


def check_folder(config: RunConfig, run: RunDir) -> str:
    """How ``up`` will start the run: ``new``, ``resume`` or ``finished``.

    Raises:
        UserError: the folder cannot be written, the run is live, or it was
            made with another configuration.
    """
    if not run_config.is_writable(run.root):
        raise UserError(f"{run.root}: cannot be written; choose another --runs folder")
    if not run.config.exists():
        return "new"
    if is_live(run):
        raise UserError(
            f"run {run.name} is in use; follow it with 'mixsd-cluster status {run.name} --follow'"
        )
    # An older version may have recorded "auto".
    if settle(run_config.load(run.config), detect()) != config:
        raise UserError(
            f"run name {run.name} is in use by a run with another configuration ({run.config}); "
            "choose another with --set name=…, or remove that folder"
        )
    status = read_json(run.status)
    return "finished" if status is not None and status["state"] == "finished" else "resume"


def start(
    config: RunConfig,
    run: RunDir,
    say: Callable[[str], None],
    *,
    accept_older_ledger: bool = False,
    host: RunDir | None = None,
) -> None:
    """Validate data and model, write the run folder, start cluster and controller.

    Args:
        config: of the run.
        run: its folder.
        say: receives a line for each stage.
        accept_older_ledger: resume although checkpoints are ahead of the ledger; they are
            moved aside.
        host: whose Ray head the run uses, unless it joins a cluster; None: one of its own.

    Raises:
        UserError: an input is invalid, or the folder's content does not fit to it.
        RunError: Ray or the controller did not start.
    """
    is_new, planned = not run.config.exists(), None
    if is_new:
        # Before a large model is downloaded.
        hardware = _hardware(config, run, say)
        device = device_of(config, hardware, say)
    folder, identity = _check_inputs(config, say)
    config = with_patience(config, folder)
    if is_new:
        config, planned = check_fit(config, hardware, device, say)
    run.create()
    with _starting(run):
        # Another command may have started or ended the run since this one looked.
        state = check_folder(config, run)
        if state == "finished":
            raise UserError(f"run {run.name} has been finished by another command")
        ray_cluster.stop_local(run)
        # A new run has one already if its targets were drawn by another.
        for remark in check_identity(run, identity):
            say(f"note: {remark}")
        if state == "resume":
            for remark in fit_ledger(run, accept_older_ledger):
                say(f"note: {remark}")
        elif planned is not None:
            record_plan(run, planned.total_s, planned.total_s - planned.trained_s)
        write_atomic(run.config, run_config.dump(config))
        desired_state.reset(run)
        _announce(run)
        if config.cluster.address is None and host is not None:
            ray_cluster.lend(host, run)
        elif config.cluster.address is None:
            say("starting Ray …")
            ray_cluster.start_local(run, config.cluster)
            say("Ray started on loopback, token authentication on")
        say("starting the controller …")
        url = _start_controller(config, run, folder)
    say(f"status page {url.removesuffix('metrics')} (for Prometheus: {url})")


def _hardware(config: RunConfig, run: RunDir, say: Callable[[str], None]) -> Hardware:
    """The hardware that the run will have, once it is there."""
    if config.cluster.address is None:
        return detect()
    with ray_cluster.connected(run, config.cluster.address) as ray:
        wait_for_gpus(ray.nodes, config, say)
        return hardware_of(ray)


def _check_inputs(config: RunConfig, say: Callable[[str], None]) -> tuple[Path, Identity]:
    """Read facts and model and check that they fit; (the model's folder, their identity)."""
    from actors.evaluation.evaluator import check_retrieval
    from actors.replay.work import trained_facts
    from common import corpora, files, fisher_folder, models
    from common.corpora import canonical
    from common.prompts import check_answers, check_lengths, check_tokens, preset

    say("reading facts and model …")
    corpus = corpora.load(config.data, config.earlier)
    trained = trained_facts(config)
    generic = len(trained) - len(corpus.facts)
    beside = f", {generic} generic prompts" if generic else ""
    say(f"{len(corpus.facts)} facts{beside}, {len(corpus.retrieval)} retrieval items")
    for remark in corpus.remarks:
        say(f"note: {remark}")
    continuing.check_checkpoint(config)
    for line in continuing.check_batches(config, corpus):
        say(line)
    folder = models.resolve(config.model, say=say)
    model = models.load(folder)
    say(f"model {folder}")
    if config.train:
        families.check(files.read_json(folder / "config.json"))
        if config.method.penalty is not None and config.method.penalty.fisher is not None:
            fisher_folder.check(config.method.penalty.fisher, folder)
        if config.method.edit is not None:
            edited_layers(files.read_json(folder / "config.json"), config.method.edit)
    from deploy.factories import prompts_for

    prompts = prompts_for(config, model)
    context = config.engine.max_model_len
    check_answers(prompts, corpus.facts)
    for remark in canonical.check(prompts, corpus.facts):
        say(f"note: {remark}")
    for remark in check_tokens(prompts, corpus.facts):
        say(f"note: {remark}")
    check_lengths(prompts, trained, config.rollout.max_tokens, context)
    measured = config.evaluator_engine.max_model_len
    check_retrieval(prompts, corpus, config.evaluator, measured)
    learner = (
        f"{config.learner.ranks} learner rank(s) (ZeRO-{config.learner.zero_stage})"
        if config.train
        else "no learner"
    )
    say(f"roles: {config.rollout.actors} rollout, {learner}, {config.evaluator.actors} evaluator")
    engine, learner = _computes(config.engine), _computes(config.learner)
    alike = engine == learner or not config.train
    say(f"computing: {engine}" if alike else f"computing: engines {engine}, learner {learner}")
    if (placement := config.cluster.placement) != "exclusive":
        say(f"placement: {placement} ({_PLACEMENTS[placement]})")
    if config.cluster.address is None and (remark := detect().remark):
        say(f"note: {remark}")
    return folder, identify(trained, preset(config.prompts), model)


def _computes(settings: EngineSettings | LearnerSettings) -> str:
    device = "CPU" if settings.resolved_device == "cpu" else "GPU"
    return f"{settings.resolved_dtype} on {device}"


@contextlib.contextmanager
def _starting(run: RunDir) -> Iterator[None]:
    """Only one command at a time starts a run."""
    lock = RunLock(run, STARTING)
    if not lock.acquire(wait=False):
        raise UserError(f"run {run.name} is being started by another command")
    try:
        yield
    finally:
        lock.release()


def fit_ledger(run: RunDir, accept_older: bool) -> list[str]:
    """Check that no checkpoint is ahead of the ledger; with ``accept_older`` move such aside.

    Returns:
        One line for each that was moved.

    Raises:
        UserError: the ledger is damaged, or behind a checkpoint that may not be moved.
    """
    last_step = 0
    if run.ledger.exists():
        with contextlib.closing(open_view(run.ledger)) as ledger:
            last_step = ledger.counts().last_step
    checkpoints = CheckpointFolder(run.checkpoints)
    if not accept_older:
        checkpoints.check_ledger(last_step)
    return [
        f"checkpoint {folder.name} is ahead of the ledger and moves to "
        f"{checkpoints.set_aside(folder)}"
        for folder in checkpoints.ahead_of(last_step)
    ]


def _start_controller(config: RunConfig, run: RunDir, folder: Path) -> str:
    from deploy.control.controller import NAME, Controller

    with ray_cluster.connected(run, config.cluster.address) as ray:
        controller = (
            ray.remote(Controller)
            .options(
                name=NAME,
                lifetime="detached",
                num_cpus=0,
                max_concurrency=4,
                max_restarts=-1,
                # On the head, so that metrics are served at the address of the cluster.
                resources={"node:__internal_head__": 0.001},
            )
            .remote(str(run.root.resolve()), str(folder))
        )
        try:
            url: str = ray.get(controller.url.remote(), timeout=config.cluster.patience_s)
        except ray.exceptions.RayError as error:
            raise RunError(f"the controller did not start: {error}") from error
        return url


def _announce(run: RunDir) -> None:
    """Set the status to starting: a controller exits if the run has ended."""
    status = read_json(run.status)
    if status is not None:
        write_atomic(
            run.status, json.dumps({**status, "state": "starting", "cause": "", "roles": {}})
        )


def stop(run: RunDir) -> bool:
    """Stop a run in order; False if nothing of it was running."""
    config = run_config.load(run.config)
    live = is_live(run)
    if live:
        desired_state.change(run, config, {"stopped": True})
        deadline = time.monotonic() + _STOP_S
        while is_live(run) and time.monotonic() < deadline:
            time.sleep(0.2)
    # A killed controller could not remove the run from the list of live runs.
    targets.withdraw(run, config.metrics)
    WeightStore(run).remove()
    if config.cluster.address is not None and not live:
        return False  # the cluster may no longer exist
    return leave(run) or live


def leave(run: RunDir) -> bool:
    """Leave the cluster of a run that has ended; True if it was the run's own and still ran.

    On a joined cluster the controller kills its actors and then itself after the
    final status; actors that remain are killed here.

    Raises:
        RunError: an actor on a joined cluster cannot be killed.
    """
    address = run_config.load(run.config).cluster.address
    if address is None and not (ray_cluster.is_lent(run) and ray_cluster.head_pid(run)):
        return ray_cluster.stop_local(run)
    with ray_cluster.connected(run, address) as ray:
        _end_actors(run, ray, address)
    if address is None:
        ray_cluster.stop_local(run)
    return False


def _end_actors(run: RunDir, ray: Any, address: str | None) -> None:
    """Kill the actors of a run that do not end by themselves."""
    if not _wait_empty(ray):
        for name in ray.util.list_named_actors():
            # An actor that ended meanwhile is no longer found.
            with contextlib.suppress(ValueError):
                ray.kill(ray.get_actor(name))
        if not _wait_empty(ray):
            names = ", ".join(ray.util.list_named_actors())
            raise RunError(f"{address or 'Ray'}: actors of run {run.name} do not end: {names}")


def _wait_empty(ray: Any) -> bool:
    """Wait until the namespace has no named actor; False if it still has one."""
    deadline = time.monotonic() + _LEAVE_S
    while ray.util.list_named_actors():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True
