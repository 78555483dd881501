"""The ledger's tables, and how its file is opened, checked and kept durable.

Durability. The file is in WAL mode with synchronous=NORMAL: a transaction is
acknowledged once it is in the operating system's hands, so killing processes
loses nothing, at no fsync a transaction. A power cut can lose the newest
transactions (never consistency). :meth:`Ledger.commit` alone waits for the
disk, once a checkpoint; a ledger that a power cut put behind the learner's
newest checkpoint says so (:attr:`Counts.last_step`), and the learner resumes
from an older one. FULL would cost 1.3 ms a transaction (measured) to save work
that is only drawn again.

Checkpoints of the WAL are ours (:func:`checkpoint`), and empty it: outside of
one, or of one that a reader cut off, no frame of the WAL is in the main file
already, so a WAL cut short at any byte, or lost, leaves an older state and never
a mixture of two.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from common.errors import UserError

VERSION = 2
_WAL_LIMIT_BYTES = 32 * 2**20

# Totals are kept by triggers, inside the transaction that changes them, so that
# reading them costs the same at any size and no code path can forget one.
_SCHEMA = """
CREATE TABLE totals (
    id INTEGER PRIMARY KEY CHECK (id = 0),
    work INTEGER NOT NULL DEFAULT 0,
    leased INTEGER NOT NULL DEFAULT 0,
    accepted INTEGER NOT NULL DEFAULT 0,
    first_attempt INTEGER NOT NULL DEFAULT 0,
    exhausted INTEGER NOT NULL DEFAULT 0,
    quarantined INTEGER NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL DEFAULT 0,
    waiting INTEGER NOT NULL DEFAULT 0,
    waiting_bytes INTEGER NOT NULL DEFAULT 0,
    sampled INTEGER NOT NULL DEFAULT 0,
    trained INTEGER NOT NULL DEFAULT 0,
    stale INTEGER NOT NULL DEFAULT 0,
    committed_step INTEGER NOT NULL DEFAULT 0
);
INSERT INTO totals (id) VALUES (0);

CREATE TABLE run (seed INTEGER NOT NULL, first_epoch TEXT NOT NULL);

CREATE TABLE owners (name TEXT PRIMARY KEY, deadline REAL NOT NULL) WITHOUT ROWID;

CREATE TABLE work (
    id INTEGER PRIMARY KEY,                -- 1 … W without gaps; never deleted
    fact_id TEXT NOT NULL,
    draw INTEGER NOT NULL,
    owner TEXT,                            -- NULL: not leased
    crowd INTEGER NOT NULL DEFAULT 0,      -- most items leased together with it; 0: any number
    deaths INTEGER NOT NULL DEFAULT 0,     -- owners that died holding nothing else
    attempts INTEGER NOT NULL DEFAULT 0,
    outcome TEXT CHECK (outcome IN ('accepted', 'exhausted', 'quarantined')),
    reason TEXT,
    UNIQUE (fact_id, draw)
);
CREATE INDEX work_pending ON work (deaths, crowd DESC, id)
    WHERE outcome IS NULL AND owner IS NULL;
CREATE INDEX work_owner ON work (owner) WHERE owner IS NOT NULL;
CREATE INDEX work_lost ON work (id) WHERE outcome IN ('exhausted', 'quarantined');

CREATE TABLE rollouts (
    id INTEGER PRIMARY KEY,                -- order of arrival
    work_id INTEGER NOT NULL UNIQUE REFERENCES work (id),
    policy_version INTEGER NOT NULL,
    payload BLOB NOT NULL
);

-- A step is a stretch of the run's one sequence of exposures (see order.py): from where the step
-- before it ended to (epoch, place). So no exposure can belong to two steps, and epochs cost
-- nothing on disk.
CREATE TABLE steps (
    step INTEGER PRIMARY KEY,
    epoch INTEGER NOT NULL,
    place INTEGER NOT NULL,                -- of its last exposure in that epoch, from 1
    exposures INTEGER NOT NULL,
    firsts INTEGER NOT NULL,               -- of these, in epoch 0
    first_bytes INTEGER NOT NULL           -- payload bytes of those
);

CREATE TRIGGER work_added AFTER INSERT ON work BEGIN
    UPDATE totals SET work = work + 1;
END;
CREATE TRIGGER work_changed AFTER UPDATE OF owner, outcome ON work BEGIN
    UPDATE totals SET
        leased = leased + (NEW.owner IS NOT NULL) - (OLD.owner IS NOT NULL),
        accepted = accepted + (NEW.outcome IS 'accepted') - (OLD.outcome IS 'accepted'),
        first_attempt = first_attempt + (NEW.outcome IS 'accepted' AND NEW.attempts = 1)
            - (OLD.outcome IS 'accepted' AND OLD.attempts = 1),
        exhausted = exhausted + (NEW.outcome IS 'exhausted') - (OLD.outcome IS 'exhausted'),
        quarantined = quarantined + (NEW.outcome IS 'quarantined')
            - (OLD.outcome IS 'quarantined'),
        attempts = attempts + NEW.attempts - OLD.attempts;
END;
CREATE TRIGGER rollout_added AFTER INSERT ON rollouts BEGIN
    UPDATE totals SET
        waiting = waiting + 1, waiting_bytes = waiting_bytes + length(NEW.payload);
END;
-- Only a rollout that was never exposed is ever dropped.
CREATE TRIGGER rollout_dropped AFTER DELETE ON rollouts BEGIN
    UPDATE totals SET
        waiting = waiting - 1, waiting_bytes = waiting_bytes - length(OLD.payload),
        stale = stale + 1;
END;
CREATE TRIGGER step_added AFTER INSERT ON steps BEGIN
    UPDATE totals SET
        sampled = sampled + NEW.exposures, waiting = waiting - NEW.firsts,
        waiting_bytes = waiting_bytes - NEW.first_bytes;
END;
CREATE TRIGGER step_returned AFTER DELETE ON steps BEGIN
    UPDATE totals SET
        sampled = sampled - OLD.exposures, waiting = waiting + OLD.firsts,
        waiting_bytes = waiting_bytes + OLD.first_bytes;
END;
"""


class LedgerError(RuntimeError):
    """A caller broke the protocol; the state is unchanged."""


class LedgerUnavailable(LedgerError):
    """The storage refused (disk full, I/O error); the state is unchanged. Try again later."""


def open_file(path: Path, seed: int, first_epoch: str) -> sqlite3.Connection:
    """Open or create a ledger for writing.

    Raises:
        UserError: not a ledger of this version and this run, or damaged beyond its WAL.
    """
    with _explained(path):
        # 16 KiB pages: a rollout of 1–3 KB leaves little of one unused.
        connection = _connect(str(path), "PRAGMA page_size=16384", "PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute("PRAGMA wal_autocheckpoint=0")
        if not connection.execute("SELECT 1 FROM sqlite_master").fetchone():
            connection.executescript(
                f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version={VERSION}; COMMIT;"
            )
        _check(path, connection)
        # Steps are stretches of an order that these two define, so they are the file's own.
        if not (known := connection.execute("SELECT seed, first_epoch FROM run").fetchone()):
            connection.execute("INSERT INTO run VALUES (?, ?)", (seed, first_epoch))
        elif known != (seed, first_epoch):
            raise UserError(
                f"{path}: begun with seed {known[0]} and replay.first_epoch {known[1]}, not "
                f"{seed} and {first_epoch}; start the run under another name"
            )
        checkpoint(path, connection, limit=0)
    return connection


def open_for_reading(path: Path) -> sqlite3.Connection:
    """Open a ledger that another process may be writing.

    Raises:
        UserError: no such file, not a ledger of this version, or damaged.
    """
    with _explained(path):
        connection = _connect(f"{path.absolute().as_uri()}?mode=ro")
        _check(path, connection)
    return connection


def checkpoint(path: Path, connection: sqlite3.Connection, limit: int = _WAL_LIMIT_BYTES) -> None:
    """Move the WAL into the main file and empty it, if it has grown over ``limit`` bytes.

    What it moves is safe where it is, so a failure only means: later.
    """
    with contextlib.suppress(OSError, sqlite3.OperationalError):
        if path.with_name(path.name + "-wal").stat().st_size > limit:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _connect(name: str, *pragmas: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        name, isolation_level=None, check_same_thread=False, uri=name.startswith("file:")
    )
    # A permuted epoch reads all over the file; mapped, it does so 1.5 times as fast (measured).
    for pragma in (*pragmas, "PRAGMA cache_size=-65536", "PRAGMA mmap_size=2147418112"):
        connection.execute(pragma)
    return connection


def _check(path: Path, connection: sqlite3.Connection) -> None:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version != VERSION:
        raise UserError(
            f"{path}: a ledger of format {version}, not {VERSION}; finish that run with the "
            "release that began it, or start one under another name"
        )
    found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        raise sqlite3.DatabaseError(found.splitlines()[-1])


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        raise UserError(f"{path}: cannot be opened ({error})") from error
    except sqlite3.DatabaseError as error:
        raise UserError(
            f"{path}: the ledger is damaged ({error}); restore the file from a copy, or start "
            "the run under another name"
        ) from error
