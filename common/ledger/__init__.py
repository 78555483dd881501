"""The ledger of a run: work items, rollouts and exposures in one SQLite file.

An *exposure* is one training example: one rollout of a fact, trained in one epoch.

``view`` reads and ``transitions`` changes the ledger. Of the parts of a change, ``leases``
assigns work to owners and ``outcomes`` ends it, ``learners`` admits one learner at a time, and
``suspects`` finds what kills it. ``copying`` starts a ledger with the targets of another run.
``order`` defines the sequence of exposures; ``schema`` has the tables and opens files. None of them
uses clocks (callers pass ``now``), processes or models.
"""

from common.ledger.copying import copy_targets
from common.ledger.learners import StaleLearner
from common.ledger.outcomes import Accepted, Quarantined
from common.ledger.schema import LedgerError, LedgerUnavailable
from common.ledger.transitions import Ledger
from common.ledger.view import Counts, Exposure, LedgerReader, LedgerView, Order, open_view

__all__ = [
    "Accepted",
    "Counts",
    "Exposure",
    "Ledger",
    "LedgerError",
    "LedgerReader",
    "LedgerUnavailable",
    "LedgerView",
    "Order",
    "Quarantined",
    "StaleLearner",
    "copy_targets",
    "open_view",
]
