"""Gives a new ledger the targets of another run that drew the same."""

from __future__ import annotations

import contextlib
from itertools import islice
from pathlib import Path

from common import durable
from common.ledger.order import FirstEpoch
from common.ledger.outcomes import Accepted
from common.ledger.transitions import Ledger
from common.ledger.view import open_view

# In one transaction.
_ROLLOUTS = 256


def copy_targets(
    source: Path, path: Path, *, epochs: int, seed: int, first_epoch: FirstEpoch
) -> bool:
    """Make a ledger at ``path`` with the outcomes of ``source``, in their order of arrival.

    The steps of ``source`` are not copied: its rollouts are new to the learner of ``path``. A kill
    leaves no part of a ledger.

    Args:
        source: ledger that no process has open for writing.
        path: of the new ledger; nothing may be there.
        epochs, seed, first_epoch: of the new ledger, as in :class:`Ledger`.

    Returns:
        False, and no ledger, if ``source`` has work without an outcome.

    Raises:
        UserError: ``source`` is in use, missing or damaged.
    """
    temporary = path.with_name(f".{path.name}.partial")
    for left_over in path.parent.glob(f"{temporary.name}*"):
        left_over.unlink()
    with contextlib.closing(open_view(source)) as view:
        if not view.counts().settled:
            return False
        with contextlib.closing(
            Ledger(temporary, epochs=epochs, seed=seed, first_epoch=first_epoch)
        ) as ledger:
            ledger.add_work(view.work_items())
            outcomes = view.settled_work()
            while some := list(islice(outcomes, _ROLLOUTS)):
                ledger.insert_many(
                    [
                        Accepted(one.fact_id, one.draw, one.payload, one.attempts)
                        for one in some
                        if one.payload is not None
                    ]
                )
                for one in some:
                    if one.payload is None:
                        reason = one.reason or ""
                        ledger.exhaust(one.fact_id, one.draw, reason, attempts=one.attempts)
    durable.sync(temporary)
    durable.rename(temporary, path)
    return True
