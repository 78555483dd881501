"""Opens a run's ledger for reading: the file, or the queue of a live run, which has it alone."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from common.config import run_config
from common.ledger import LedgerReader
from common.rundir import RunDir
from deploy.cluster import ray_cluster
from deploy.control.launch import is_live
from deploy.control.queue_client import QueueClient
from deploy.report.summary import ledger_file

_PATIENCE_S = 60.0


@contextlib.contextmanager
def open_ledger(run: RunDir) -> Iterator[LedgerReader]:
    """The ledger of ``run``, whether it is live or not.

    Raises:
        UserError: the file is missing or damaged, or the cluster does not answer.
    """
    if not is_live(run):
        with ledger_file(run) as ledger:
            yield ledger
        return
    with ray_cluster.connected(run, run_config.load(run.config).cluster.address):
        yield QueueClient(_PATIENCE_S)
