"""Exports the targets of a run, from its folder alone, to a file for any trainer."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from actors.replay.work import trained_facts
from common import models
from common.config.run_config import is_writable, load
from common.corpora import released
from common.errors import UserError
from common.records import unpack_rollout
from common.rundir import RunDir, replacing
from deploy.report.summary import OpenLedger, ledger_file


@dataclass(frozen=True, slots=True)
class Exported:
    """Number of written targets and of facts; ``lost``: (fact id, outcome, reason)."""

    targets: int
    facts: int
    lost: list[tuple[str, str, str]]


def check_out(out: Path, *, force: bool) -> None:
    """Check that ``out`` can be written, before hours of work.

    Raises:
        UserError: ``out`` is a folder, exists without ``force``, or cannot be written.
    """
    if out.is_dir():
        raise UserError(f"--out {out}: a folder; name a file in it")
    if out.exists() and not force:
        raise UserError(f"--out {out}: exists; choose another file, or replace it with --force")
    folder = out.absolute().parent
    if not folder.is_dir() or not is_writable(folder):
        raise UserError(f"--out {out}: {folder} is not a writable folder")


def write_targets(run: RunDir, out: Path, open_ledger: OpenLedger = ledger_file) -> Exported:
    """Write the targets accepted so far, in the order of the facts, atomically.

    Raises:
        UserError: a fact of the run is no longer in its data.
    """
    from deploy.factories import prompts_for

    config = load(run.config)
    facts = {fact.id: fact for fact in trained_facts(config)}
    model = models.load(models.resolve(config.model))
    prompts, fingerprint = prompts_for(config, model), models.fingerprint(model.tokenizer)
    count = 0
    with open_ledger(run) as ledger:
        with replacing(out, mode=0o644) as file:
            for payload in ledger.targets():
                rollout = unpack_rollout(payload)
                fact = facts.get(rollout.fact_id)
                if fact is None:
                    raise UserError(
                        f"fact {rollout.fact_id} of run {run.name} is no longer in the data"
                    )
                record = released.record(
                    rollout,
                    fact,
                    prompts,
                    stop_token_ids=model.stop_token_ids,
                    temperature=config.rollout.temperature,
                    fingerprint=fingerprint,
                )
                file.write(json.dumps(record, ensure_ascii=False) + "\n")
                count += 1
        return Exported(count, len(facts), ledger.lost())
