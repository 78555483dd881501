"""Who owes what: work, rollouts and exposures, in one SQLite file.

``view`` reads, ``transitions`` changes; ``leases`` says who gets which work,
``order`` which exposure comes next; ``schema`` holds the tables and opens
files. None of them knows clocks (callers pass ``now``), processes or models.
"""

from common.ledger.schema import LedgerError, LedgerUnavailable
from common.ledger.transitions import Accepted, Ledger
from common.ledger.view import Counts, Exposure, LedgerView, open_view

__all__ = [
    "Accepted",
    "Counts",
    "Exposure",
    "Ledger",
    "LedgerError",
    "LedgerUnavailable",
    "LedgerView",
    "open_view",
]
