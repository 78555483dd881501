"""Resolves ``continues``: which checkpoint a run teaches further, and the chain behind it.

Resolved once, when the run begins; its recorded configuration names the checkpoint, so that a
resumed run has the same model whatever has happened to the earlier run since.
"""

from __future__ import annotations

from pathlib import Path

from common.config import run_config
from common.config.chain import Link
from common.config.run_config import RunConfig
from common.corpora import Corpus
from common.errors import UserError, shown
from common.rundir import RunDir
from common.weights import weights_hash
from deploy.control import identity
from deploy.observability.run_status import RunStatus
from deploy.report.summary import chosen, evaluations
from learner.checkpoint import CheckpointDamaged, existing, read_manifest

EARLIER = "earlier"


def resolve(config: RunConfig, runs: Path, recorded: RunConfig | None = None) -> RunConfig:
    """``config`` with the model and the chain that ``continues`` stands for.

    The suite ``earlier`` is added to ``evaluator.suites``, unless it is there. ``model`` may be
    the model that the chain began with, as in a file that extends that of the first run.

    Args:
        config: as it was written; without ``continues`` it stays as it is.
        runs: folder of all runs.
        recorded: of the run, if it exists: what it began with stays.

    Raises:
        UserError: there is no such run, it has not finished, its selected checkpoint is gone, or
            ``model`` is another one.
    """
    if config.continues is None or config.chain:
        return config
    named = [(runs / config.continues).absolute(), Path(config.continues).absolute()]
    if recorded is not None and recorded.chain and recorded.chain[-1].run in named:
        chain = recorded.chain
    else:
        chain = _chain(_find(config.continues, named, runs))
    first, last = chain[0], chain[-1]
    if "model" in config.model_fields_set and config.model != first.model:
        raise UserError(
            f"model: {shown(config.model)}, but continues {last.run.name} is a chain that began "
            f"with {first.model}; remove model, or continues"
        )
    raw = config.model_dump(mode="json", exclude_unset=True)
    if EARLIER not in config.evaluator.names:
        suites = [one.model_dump(mode="json") for one in config.evaluator.suites]
        raw.setdefault("evaluator", {})["suites"] = [*suites, EARLIER]
    raw |= {
        "continues": str(last.run),
        "model": str(last.checkpoint),
        "chain": [link.model_dump(mode="json", exclude_unset=True) for link in chain],
    }
    return run_config.parse(raw, f"run {config.name}")


def check_checkpoint(config: RunConfig) -> None:
    """Check that the checkpoint that a run continues from is still what it was.

    Raises:
        UserError: it is gone or has other weights.
    """
    if not config.chain:
        return
    last = config.chain[-1]
    try:
        weights = weights_hash(read_manifest(last.checkpoint).files)
        problem = "" if weights == last.weights else f"has weights {weights}, not {last.weights}"
    except CheckpointDamaged as damage:
        problem = f"is gone or damaged ({damage})"
    if problem:
        raise UserError(
            f"continues: checkpoint {last.checkpoint}, which this run continues from, {problem}; "
            "bring it back, or start another run with --set name=…"
        )


def check_batches(config: RunConfig, corpus: Corpus) -> list[str]:
    """Check that the earlier batches have the facts that they were taught with.

    Returns:
        A line for each batch, and remarks.

    Raises:
        UserError: a batch has others.
    """
    lines = []
    for number, link in enumerate(config.chain, 1):
        batch = [one for one in corpus.earlier if one.batch == number]
        facts = [one.fact for one in batch]
        if link.facts and identity.hash_facts(facts) != link.facts:
            raise UserError(
                f"continues: the data of run {link.run.name}, batch {number} of the chain, has "
                "other facts than when they were taught; bring the old ones back"
            )
        hold = sum(one.holds for one in batch)
        lines.append(f"batch {number} ({link.run.name}): {len(facts)} facts, {hold} still hold")
    replacing = sum(bool(fact.replaces) for fact in corpus.facts)
    if replacing and not config.chain:
        lines.append(f"note: {replacing} facts replace others, but the run continues none")
    return lines


def _find(name: str, places: list[Path], runs: Path) -> RunDir:
    for place in places:
        if (place / "config.yaml").is_file():
            return RunDir(place)
    known = sorted(path.parent.name for path in runs.glob("*/config.yaml"))
    raise UserError(
        f"continues: no run {shown(name)} in {runs}, and no run folder of that path; there are: "
        f"{', '.join(known) or 'none'}"
    )


def _chain(run: RunDir) -> tuple[Link, ...]:
    """The links up to and including ``run``."""
    status = RunStatus.load(run)
    if status is None or status.state != "finished":
        state = "has not started" if status is None else f"is {status.state}"
        raise UserError(
            f"continues: run {run.name} {state}, and only a finished run can be continued; "
            f"finish it with 'mixsd-cluster up'"
        )
    config = run_config.load(run.config)
    selection = chosen(config, evaluations(run))
    found = {checkpoint.step: checkpoint for checkpoint in existing(run.checkpoints)}
    if selection is None and found:
        step = max(found)
    elif selection is not None and selection.step in found:
        step = selection.step
    else:
        wanted = "" if selection is None else f" of step {selection.step}, its selected one"
        raise UserError(
            f"continues: run {run.name} has no checkpoint{wanted}; there are: "
            f"{', '.join(f'step_{step}' for step in sorted(found)) or 'none'}. Keep it with "
            "learner.keep_exports"
        )
    began = identity.read(run)
    return (
        *config.chain,
        Link(
            run=run.root.absolute(),
            model=config.model,
            checkpoint=found[step].folder.absolute(),
            weights=found[step].weights_hash,
            data=config.data,
            facts="" if began is None else began.facts,
        ),
    )
