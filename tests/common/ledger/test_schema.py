"""What is left after kills, cut files and damage."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import UserError
from common.ledger import Accepted, Ledger, open_view, schema

OPTIONS = {"epochs": 2, "seed": 0}


@pytest.fixture(scope="module")
def history(tmp_path_factory):
    """A ledger's main file and WAL as a kill leaves them, and every state it went through."""
    folder = tmp_path_factory.mktemp("history")
    ledger = Ledger(folder / "ledger.db", **OPTIONS)
    states = [ledger.counts()]

    def then(_):
        states.append(ledger.counts())

    then(ledger.add_work((str(fact), 0) for fact in range(30)))
    learner = ledger.register("learner")
    then(ledger.restore(learner, 0))
    for turn in range(10):
        held = ledger.lease("x", 3, now=turn, duration=10)
        then(held)
        then(ledger.insert_many([Accepted(w.fact_id, 0, bytes(900), 1) for w in held]))
        then(ledger.sample(learner, turn + 1, 2))
        if turn % 3 == 2:
            then(ledger.commit(learner, turn + 1))
    main, wal = (folder / "ledger.db").read_bytes(), (folder / "ledger.db-wal").read_bytes()
    ledger.close()
    return main, wal, states


def reopen(folder, main, wal):
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / "ledger.db").write_bytes(main)
    if wal is not None:
        (folder / "ledger.db-wal").write_bytes(wal)
    ledger = Ledger(folder / "ledger.db", **OPTIONS)
    counts = ledger.counts()
    assert counts == ledger.recount()
    ledger.close()
    return counts


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_wal_cut_short_anywhere_leaves_an_older_state(tmp_path_factory, history, data):
    main, wal, states = history
    cut = data.draw(st.integers(0, len(wal)))
    assert reopen(tmp_path_factory.getbasetemp() / "cut", main, wal[:cut]) in states


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_damaged_wal_leaves_an_older_state(tmp_path_factory, history, data):
    main, wal, states = history
    at = data.draw(st.integers(0, len(wal) - 1))
    damaged = wal[:at] + bytes([wal[at] ^ data.draw(st.integers(1, 255))]) + wal[at + 1 :]
    assert reopen(tmp_path_factory.getbasetemp() / "damaged", main, damaged) in states


def test_a_lost_wal_leaves_the_state_of_the_last_opening(tmp_path, history):
    main, wal, states = history
    assert reopen(tmp_path / "lost", main, None) == states[0]
    assert reopen(tmp_path / "whole", main, wal) == states[-1]


@pytest.mark.parametrize(
    ("start", "junk"), [(0, b"not a database"), (100, bytes(60)), (16384, b"\xff" * 16384)]
)
def test_a_damaged_main_file_is_refused_with_a_remedy(tmp_path, history, start, junk):
    main, _, _ = history
    with pytest.raises(
        UserError, match=r"ledger\.db: the ledger is damaged .*; put its newest copy"
    ):
        reopen(tmp_path / "junk", main[:start] + junk + main[start + len(junk) :], None)


def test_totals_that_differ_from_the_tables_are_refused(tmp_path):
    """SQLite's own check cannot know: 3 of 10 facts would never be drawn."""
    path = tmp_path / "ledger.db"
    ledger = Ledger(path, **OPTIONS)
    ledger.add_work((str(fact), 0) for fact in range(10))
    ledger.close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE totals SET work = 7")
    connection.close()
    with pytest.raises(UserError, match=r"damaged \(its totals .*work=7.*its tables .*work=10"):
        Ledger(path, **OPTIONS)


def test_a_main_file_cut_short_is_refused(tmp_path, history):
    with pytest.raises(UserError, match="the ledger is damaged"):
        reopen(tmp_path / "short", history[0][:-20_000], None)


def test_another_database_and_another_run_are_refused(tmp_path):
    sqlite3.connect(tmp_path / "other.db").execute("CREATE TABLE work (id)").connection.close()
    with pytest.raises(UserError, match=r"other\.db: a ledger of format 0, not 4"):
        Ledger(tmp_path / "other.db", **OPTIONS)
    Ledger(tmp_path / "mine.db", **OPTIONS).close()
    with pytest.raises(
        UserError, match=r"started with seed 0 and replay\.first_epoch arrival, not 1"
    ):
        Ledger(tmp_path / "mine.db", epochs=2, seed=1)


def test_a_folder_or_a_missing_file_is_refused(tmp_path):
    with pytest.raises(UserError, match="cannot be opened"):
        Ledger(tmp_path, **OPTIONS)
    with pytest.raises(UserError, match="the ledger is missing; put its newest copy there"):
        open_view(tmp_path / "none.db")


def test_a_view_reads_what_the_writer_has_closed_and_cannot_change_anything(tmp_path):
    ledger = Ledger(tmp_path / "ledger.db", **OPTIONS)
    ledger.add_work([("a", 0)])
    ledger.close()
    view = open_view(tmp_path / "ledger.db")
    assert view.counts().work == 1
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        view._db.execute("DELETE FROM work")
    view.close()


def test_while_one_writes_nobody_else_opens_it(tmp_path, monkeypatch):
    """Its WAL has no index in shared memory, which would not reach other hosts."""
    monkeypatch.setattr(schema, "_PATIENCE_S", 0.1)
    path = tmp_path / "ledger.db"
    ledger = Ledger(path, **OPTIONS)
    assert not path.with_name("ledger.db-shm").exists()
    for attempt in (lambda: open_view(path), lambda: Ledger(path, **OPTIONS)):
        with pytest.raises(UserError, match=r"in use by another process; .* 'mixsd-cluster down'"):
            attempt()
    ledger.close()
    Ledger(path, **OPTIONS).close()


WRITER = """
import sys
from pathlib import Path
from common.ledger import Accepted, Ledger
ledger = Ledger(Path(sys.argv[1]), epochs=1, seed=0)
ledger.add_work((str(fact), 0) for fact in range(100_000))
for fact in range(100_000):
    ledger.insert(str(fact), 0, bytes(500), attempts=1)
    print(fact, flush=True)
"""


def test_what_was_acknowledged_before_a_kill_is_there(tmp_path):
    path = tmp_path / "ledger.db"
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    acknowledged = 0
    for line in writer.stdout:
        acknowledged = int(line) + 1
        if acknowledged == 500:
            writer.send_signal(signal.SIGKILL)
    assert writer.wait() == -signal.SIGKILL
    ledger = Ledger(path, epochs=1, seed=0)
    # One more may be in the file than the reader has been told.
    assert ledger.counts().accepted in (acknowledged, acknowledged + 1)
    assert ledger.counts() == ledger.recount()
    ledger.close()
