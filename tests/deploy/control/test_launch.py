"""What is checked under the lock before a run starts, with files alone."""

from __future__ import annotations

import shutil

import pytest

from common.errors import UserError
from common.ledger import Accepted, Ledger
from common.rundir import RunDir
from deploy.cluster.run_lock import STARTING, RunLock
from deploy.control import launch
from learner.checkpoint import existing
from tests.learner.test_checkpoint_folder import save


@pytest.fixture
def run(tmp_path):
    """Six facts, and checkpoints of steps 2, 4 and 6."""
    run = RunDir(tmp_path / "mine")
    run.create()
    ledger = Ledger(run.ledger, epochs=1, seed=0)
    ledger.add_work((str(fact), 0) for fact in range(6))
    ledger.insert_many([Accepted(str(fact), 0, b"", 1) for fact in range(6)])
    learner = ledger.register("first")
    ledger.restore(learner, 0)
    for step in range(1, 7):
        ledger.sample(learner, step, 1)
        if step == 3:
            ledger._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            shutil.copy(run.ledger, tmp_path / "older.sqlite")
    ledger.close()
    save(run.checkpoints, 2, 4, 6)
    return run


def steps(run):
    return [checkpoint.step for checkpoint in existing(run.checkpoints)]


def test_a_ledger_with_all_steps_fits(run):
    assert launch.fit_ledger(run, accept_older=False) == []
    assert launch.fit_ledger(run, accept_older=True) == []
    assert steps(run) == [6, 4, 2]


def test_a_lost_ledger_stops_the_start_and_no_checkpoint_is_touched(run):
    run.ledger.unlink()
    with pytest.raises(UserError, match=r"ends at step 0, before step_2 … step_6"):
        launch.fit_ledger(run, accept_older=False)
    assert steps(run) == [6, 4, 2]


def test_an_older_copy_stops_it_too_and_once_accepted_newer_checkpoints_move_aside(run, tmp_path):
    shutil.copy(tmp_path / "older.sqlite", run.ledger)
    with pytest.raises(UserError, match=r"ends at step 3, before step_4 … step_6"):
        launch.fit_ledger(run, accept_older=False)
    moved = launch.fit_ledger(run, accept_older=True)
    assert [line.split()[1] for line in moved] == ["step_4", "step_6"]
    assert steps(run) == [2]
    aside = run.checkpoints / ".superseded"
    assert {folder.name for folder in aside.iterdir()} == {"step_4", "step_6"}
    assert (aside / "step_6/model.safetensors").read_text() == "model.safetensors of step 6"


def test_two_commands_do_not_start_one_run_at_once(run):
    lock = RunLock(run, STARTING)
    assert lock.acquire()
    with pytest.raises(UserError, match="is being started by another"), launch._starting(run):
        pass
    lock.release()
    with launch._starting(run):
        assert lock.is_held()
    assert not lock.is_held()
