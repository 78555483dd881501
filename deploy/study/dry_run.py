"""``study --dry-run``: the cells of a study with their predicted time and cost."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from common.config.run_config import RunConfig
from deploy.planning import planner
from deploy.planning.fitting import Machine
from deploy.planning.simulation import simulate
from deploy.planning.text import duration
from deploy.study.cells import Cell
from deploy.study.folder import Study
from deploy.study.sharing import targets_key


@dataclass(frozen=True, slots=True)
class CellPlan:
    """The prediction for one cell.

    Args:
        cell: the cell.
        seconds: of its run, without the time to draw targets that it gets from another cell.
        gpus: in use meanwhile.
        shares_with: the cell whose targets it gets; empty: it draws its own.
        problems: why it does not fit.
    """

    cell: Cell
    seconds: float
    gpus: int
    shares_with: str
    problems: tuple[str, ...]


def plans(study: Study, device: str | None) -> Iterator[CellPlan]:
    """The prediction for every cell, in order.

    Args:
        study: its cells.
        device: of every process, as in ``plan``; None: the one that a cell requests.

    Raises:
        UserError: a model or a corpus cannot be read.
    """
    first: dict[str, str] = {}
    known: dict[str, tuple[float, float, int, tuple[str, ...]]] = {}
    for cell in study.cells:
        alike = _alike(cell.config)
        if alike not in known:
            known[alike] = _predict(cell.config, device)
        total, drawn, gpus, problems = known[alike]
        key = targets_key(cell.config)
        donor = first.setdefault(key, cell.name) if key is not None else cell.name
        shared = donor if donor != cell.name else ""
        yield CellPlan(cell, total - drawn if shared else total, gpus, shared, problems)


def lines(study: Study, device: str | None) -> Iterator[str]:
    """The predictions as text; what is shared besides targets is not subtracted."""
    found = list(plans(study, device))
    width = max(len(one.cell.name) for one in found)
    yield f"{'cell':<{width}}  {'time':>14}  {'GPUs':>4}  {'GPU-hours':>9}  targets"
    for one in found:
        hours = f"{one.gpus * one.seconds / 3600:.3g}" if one.gpus else "-"
        targets = f"of {one.shares_with}" if one.shares_with else "drawn"
        yield (
            f"{one.cell.name:<{width}}  {duration(one.seconds):>14}  {one.gpus or '-':>4}  "
            f"{hours:>9}  {targets}"
        )
        for problem in one.problems:
            yield f"  DOES NOT FIT: {problem}"
    seconds = sum(one.seconds for one in found)
    gpu_hours = sum(one.gpus * one.seconds for one in found) / 3600
    cost = f", {gpu_hours:,.3g} GPU-hours" if gpu_hours else ""
    yield (
        f"{len(found)} cells: {duration(seconds)} one at a time{cost}; base scores and warm "
        "engines, which cells share, save some of it"
    )
    if study.lr_seeds is not None:
        yield (
            f"lr_seeds: every learning rate is tried at {len(study.lr_seeds)} seeds only; of the "
            "other cells each arm runs those of the chosen rate"
        )


def _alike(config: RunConfig) -> str:
    """What a prediction depends on; the same for cells that differ in numbers that cost nothing."""
    learner = config.learner.model_copy(update={"lr": 1e-5})
    return config.model_copy(update={"learner": learner}).model_dump_json(exclude={"name", "seed"})


def _predict(config: RunConfig, device: str | None) -> tuple[float, float, int, tuple[str, ...]]:
    """(Seconds in all, of these until all targets are drawn, GPUs, problems)."""
    system = planner.system_of(config, planner.find_device(config, device))
    machine = Machine(system.engine.architecture, system.device, system.workload, None)
    outcome = simulate(system)
    gpus = 0 if system.device.is_cpu else config.num_gpus()
    problems = tuple(machine.problems(config).values())
    return outcome.total_s, outcome.generated_s, gpus, problems
