"""The targets of a run as a file for any trainer, from the run's folder alone."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from common import corpora, models
from common.config import run_config as configuration
from common.corpora import released
from common.errors import UserError
from common.ledger import open_view
from common.records import unpack_rollout
from common.rundir import RunDir, replacing


@dataclass(frozen=True, slots=True)
class Exported:
    """How many targets were written, of how many facts; ``lost``: (fact id, outcome, reason)."""

    targets: int
    facts: int
    lost: list[tuple[str, str, str]]


def check_out(out: Path, *, force: bool) -> None:
    """Refuse a place where the file could not be written at the end, before hours of work.

    Raises:
        UserError: a folder, an existing file without ``force``, or nowhere to write.
    """
    if out.is_dir():
        raise UserError(f"--out {out}: a folder; name a file in it")
    if out.exists() and not force:
        raise UserError(f"--out {out}: exists; choose another file, or replace it with --force")
    folder = out.absolute().parent
    if not folder.is_dir() or not configuration.is_writable(folder):
        raise UserError(f"--out {out}: {folder} is no folder that can be written to")


def write_targets(run: RunDir, out: Path) -> Exported:
    """Write what the run has accepted so far, in the order of its facts, all or nothing.

    Raises:
        UserError: the run's facts are not those that it began with.
    """
    from deploy.factories import prompts_for

    config = configuration.load(run.config)
    facts = {fact.id: fact for fact in corpora.load(config.data).facts}
    model = models.load(models.resolve(config.model))
    prompts, fingerprint = prompts_for(config, model), models.fingerprint(model.tokenizer)
    count, ledger = 0, open_view(run.ledger)
    try:
        with replacing(out, mode=0o644) as file:
            for payload in ledger.targets():
                rollout = unpack_rollout(payload)
                fact = facts.get(rollout.fact_id)
                if fact is None:
                    raise UserError(
                        f"fact {rollout.fact_id} of run {run.name} is no longer in the data"
                    )
                row = released.row(
                    rollout,
                    fact,
                    prompts,
                    stop_token_ids=model.stop_token_ids,
                    temperature=config.rollout.temperature,
                    fingerprint=fingerprint,
                )
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
                count += 1
        return Exported(count, len(facts), ledger.lost())
    finally:
        ledger.close()
