"""A ledger that begins with the targets of another run."""

import pytest

from common.errors import UserError
from common.ledger import Accepted, Ledger, copy_targets, open_view


def _drawn(path, open_items=()):
    """Three facts: one took two attempts and came last, one was given up."""
    ledger = Ledger(path, epochs=2, seed=7)
    ledger.add_work([("a", 0), ("b", 0), ("c", 0), *open_items])
    ledger.insert_many([Accepted("c", 0, b"third", 1)])
    ledger.exhaust("b", 0, "no attempt gave the answer", attempts=4)
    ledger.insert_many([Accepted("a", 0, b"first", 2)])
    return ledger


def test_outcomes_are_copied_in_their_order_and_no_steps(tmp_path):
    source = _drawn(tmp_path / "source.db")
    generation = source.register("learner")
    source.restore(generation, 0)
    assert [one.payload for one in source.sample(generation, 1, 2)] == [b"third", b"first"]
    source.close()
    target = tmp_path / "target.db"
    assert copy_targets(tmp_path / "source.db", target, epochs=5, seed=7, first_epoch="arrival")
    copy = Ledger(target, epochs=5, seed=7)
    assert [*copy.payloads()] == [b"third", b"first"]
    assert [*copy.targets()] == [b"first", b"third"]
    assert copy.lost() == [("b", "exhausted", "no attempt gave the answer")]
    counts = copy.counts()
    assert (counts.work, counts.accepted, counts.exhausted, counts.attempts) == (3, 2, 1, 7)
    assert counts.settled
    assert (counts.sampled, counts.last_step, counts.waiting) == (0, 0, 2)
    copy.close()
    assert [path.name for path in tmp_path.glob("*target*")] == ["target.db"]


def test_a_copy_trains_the_same_batches_as_a_run_that_drew_them_itself(tmp_path):
    _drawn(tmp_path / "source.db").close()
    target = tmp_path / "target.db"
    copy_targets(tmp_path / "source.db", target, epochs=2, seed=7, first_epoch="arrival")
    batches = []
    for path in (tmp_path / "source.db", target):
        ledger = Ledger(path, epochs=2, seed=7)
        generation = ledger.register("learner")
        ledger.restore(generation, 0)
        steps = [ledger.sample(generation, step, 2) for step in (1, 2, 3)]
        batches.append([[(one.epoch, one.payload) for one in step] for step in steps])
        ledger.close()
    assert batches[0] == batches[1]
    assert [len(step) for step in batches[0]] == [2, 2, 0]


def test_nothing_is_copied_while_work_is_open(tmp_path):
    _drawn(tmp_path / "source.db", [("d", 0)]).close()
    target = tmp_path / "target.db"
    assert not copy_targets(tmp_path / "source.db", target, epochs=1, seed=7, first_epoch="arrival")
    assert not target.exists()


def test_a_ledger_in_use_is_refused_and_left_alone(tmp_path, monkeypatch):
    monkeypatch.setattr("common.ledger.schema._PATIENCE_S", 0.1)
    source = _drawn(tmp_path / "source.db")
    with pytest.raises(UserError, match="in use by another process"):
        copy_targets(
            tmp_path / "source.db", tmp_path / "new.db", epochs=1, seed=7, first_epoch="arrival"
        )
    assert source.counts().accepted == 2
    source.close()


def test_what_a_killed_copy_left_is_replaced(tmp_path):
    _drawn(tmp_path / "source.db").close()
    (tmp_path / ".target.db.partial").write_bytes(b"half a ledger")
    target = tmp_path / "target.db"
    assert copy_targets(tmp_path / "source.db", target, epochs=1, seed=7, first_epoch="arrival")
    view = open_view(target)
    assert view.counts().accepted == 2
    view.close()
    assert not [*tmp_path.glob(".target*")]
