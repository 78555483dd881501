"""The ledger's tables, and how its file is opened, checked and kept durable.

Durability. The file is in WAL mode with synchronous=NORMAL: a transaction is acknowledged once
the operating system has it, without an fsync, so killing processes loses nothing. A power cut
can lose the newest transactions, but never consistency. What the learner relies on waits for
the disk: a step's exposures, since another rank may ask for them after the power has been cut,
and :meth:`Ledger.prepare` before a checkpoint gets its name, so that the ledger is never behind
the checkpoints. That costs 1.3 ms a transaction (measured); for the rollout actors' calls it
would be too much, and what they lose can be drawn again.

WAL checkpoints are explicit (:func:`checkpoint`) and empty the WAL. Except during one, or after
one that a reader interrupted, the main file has no frame of the WAL. So a WAL that is lost or
truncated at any byte leaves an older state, never a mixture of two.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from common.errors import UserError

VERSION = 4
# A queue that was killed a moment ago may still have the file.
_PATIENCE_S = 10.0
_WAL_LIMIT_BYTES = 32 * 2**20
# A permuted epoch reads the file at random; memory-mapped it is 1.5 times as fast (measured).
# For the writer, which samples, only: what a reader scans would all be resident in its process.
_MAPPED = "PRAGMA mmap_size=2147418112"

# Totals are kept by triggers, inside the transaction that changes them, so that
# reading them takes constant time and no code path can forget one.
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
    poisoned INTEGER NOT NULL DEFAULT 0,
    skipped INTEGER NOT NULL DEFAULT 0,
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
    group_size INTEGER NOT NULL DEFAULT 0, -- most items leased together with it; 0: any number
    deaths INTEGER NOT NULL DEFAULT 0,     -- owners that died holding nothing else
    attempts INTEGER NOT NULL DEFAULT 0,
    outcome TEXT CHECK (outcome IN ('accepted', 'exhausted', 'quarantined')),
    reason TEXT,
    UNIQUE (fact_id, draw)
);
CREATE INDEX work_pending ON work (deaths, group_size DESC, id)
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

CREATE TABLE learners (
    generation INTEGER PRIMARY KEY,        -- only the newest may move the steps
    token TEXT NOT NULL UNIQUE,            -- of its own choice, so that it may register twice
    restored INTEGER,                      -- the step from which it continues, once it has asked
    got INTEGER NOT NULL DEFAULT 0,        -- the last step whose batch it has
    trained INTEGER NOT NULL DEFAULT 0     -- the last step that it has taken
);

-- The exposures among which one may kill the learner; at most one row (see suspects.py).
CREATE TABLE suspects (
    first_epoch INTEGER NOT NULL,
    first_place INTEGER NOT NULL,
    last_epoch INTEGER NOT NULL,
    last_place INTEGER NOT NULL,
    exposures INTEGER NOT NULL,
    deaths INTEGER NOT NULL,               -- of learners that trained exactly these
    is_split INTEGER NOT NULL
);

CREATE TABLE poison (
    work_id INTEGER PRIMARY KEY REFERENCES work (id),
    epoch INTEGER NOT NULL,                -- its first exposure that is left out
    place INTEGER NOT NULL,
    skipped INTEGER NOT NULL,              -- how many of its exposures are left out
    reason TEXT NOT NULL,
    is_confirmed INTEGER NOT NULL          -- a step was trained since
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
CREATE TRIGGER rollout_left_out AFTER INSERT ON poison BEGIN
    UPDATE totals SET
        poisoned = poisoned + 1, skipped = skipped + NEW.skipped,
        waiting = waiting - (NEW.epoch = 0),
        waiting_bytes = waiting_bytes - (NEW.epoch = 0)
            * (SELECT length(payload) FROM rollouts WHERE work_id = NEW.work_id);
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
    """A call violates the protocol; the state is unchanged."""


class LedgerUnavailable(LedgerError):
    """The storage failed (disk full, I/O error); the state is unchanged. Try again later."""


def open_file(path: Path, seed: int, first_epoch: str) -> sqlite3.Connection:
    """Open or create a ledger for writing; until it is closed nobody else can open it.

    Raises:
        UserError: the file is in use, not a ledger of this version and this run, or damaged.
    """
    with _explained(path):
        # 16 KiB pages: rollouts of 1–3 KB fill them well.
        # Exclusively, so that the WAL needs no shared memory: that exists on one host only, and
        # two processes that do not see each other's would ruin the file.
        connection = _connect(
            str(path),
            "PRAGMA page_size=16384",
            "PRAGMA locking_mode=EXCLUSIVE",
            "PRAGMA journal_mode=WAL",
            _MAPPED,
        )
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute("PRAGMA wal_autocheckpoint=0")
        if not connection.execute("SELECT 1 FROM sqlite_master").fetchone():
            connection.executescript(
                f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version={VERSION}; COMMIT;"
            )
        _check(path, connection)
        # Steps are intervals of an order that these two define, so the file stores them.
        if not (known := connection.execute("SELECT seed, first_epoch FROM run").fetchone()):
            connection.execute("INSERT INTO run VALUES (?, ?)", (seed, first_epoch))
        elif known != (seed, first_epoch):
            raise UserError(
                f"{path}: started with seed {known[0]} and replay.first_epoch {known[1]}, not "
                f"{seed} and {first_epoch}; start the run under another name"
            )
        checkpoint(path, connection, limit=0)
    return connection


def open_for_reading(path: Path) -> sqlite3.Connection:
    """Open a ledger that no process has open for writing.

    Raises:
        UserError: the file is missing, in use, not a ledger of this version, or damaged.
    """
    if not path.exists():
        raise UserError(
            f"{path}: the ledger is missing; put its newest copy there, without it the run's "
            "targets are unknown"
        )
    with _explained(path):
        connection = _connect(f"{path.absolute().as_uri()}?mode=ro")
        _check(path, connection)
    return connection


def checkpoint(path: Path, connection: sqlite3.Connection, limit: int = _WAL_LIMIT_BYTES) -> None:
    """Move the WAL into the main file and empty it, if it has grown over ``limit`` bytes.

    The data is safe in the WAL too, so after a failure the next call tries again.
    """
    with contextlib.suppress(OSError, sqlite3.OperationalError):
        if path.with_name(path.name + "-wal").stat().st_size > limit:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _connect(name: str, *pragmas: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        name,
        isolation_level=None,
        check_same_thread=False,
        uri=name.startswith("file:"),
        timeout=_PATIENCE_S,
    )
    for pragma in (*pragmas, "PRAGMA cache_size=-65536"):
        connection.execute(pragma)
    return connection


def _check(path: Path, connection: sqlite3.Connection) -> None:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version != VERSION:
        raise UserError(
            f"{path}: a ledger of format {version}, not {VERSION}; finish that run with the "
            "release that started it, or start one under another name"
        )
    found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        raise sqlite3.DatabaseError(found.splitlines()[-1])


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            raise UserError(
                f"{path}: in use by another process; if no run of this name is live, its queue "
                "may be left over: 'mixsd-cluster down' ends it"
            ) from error
        raise UserError(f"{path}: cannot be opened ({error})") from error
    except sqlite3.DatabaseError as error:
        raise damaged(path, str(error)) from error


def damaged(path: Path, problem: str) -> UserError:
    """The error for a file that cannot be trusted."""
    return UserError(
        f"{path}: the ledger is damaged ({problem}); put its newest copy in its place and resume "
        "with --accept-older-ledger, or start the run under another name"
    )
