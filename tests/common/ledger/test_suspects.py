"""A rollout that kills the learner is found by halving, left out, and nothing else is lost."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.ledger import Accepted, Ledger, LedgerError

BATCH, DEATHS = 4, 2


def ledger_of(path, facts, epochs=1, first_epoch="arrival"):
    ledger = Ledger(path / "ledger.db", epochs=epochs, seed=3, first_epoch=first_epoch)
    ledger.add_work((str(fact), 0) for fact in range(facts))
    ledger.insert_many([Accepted(str(fact), 0, b"%d" % fact, 1) for fact in range(facts)])
    return ledger


class Learners:
    """Learners one after another, each of which dies on a batch that ``kills``."""

    def __init__(self, ledger, kills, checkpoint_every=3):
        self.ledger, self.kills, self.every = ledger, kills, checkpoint_every
        self.saved = self.deaths = self.lives = 0
        self.batches, self.remarks = [], []

    def run(self, most=200):
        """Until the run is over; gives the exposures trained, by step."""
        while not self._one():
            self.deaths += 1
            if self.deaths == most:
                return None
        return {step: batch for step, batch in self.trained.items() if step <= self.saved}

    def _one(self):
        ledger = self.ledger
        self.lives += 1
        learner, step = ledger.register(f"{self.lives}"), self.saved
        remark = ledger.restore(learner, step, max_deaths=DEATHS)
        self.remarks += [remark] if remark else []
        self.trained = {s: of for s, of in getattr(self, "trained", {}).items() if s <= step}
        while batch := ledger.sample(learner, step + 1, BATCH):
            seen = [(int(one.payload), one.epoch) for one in batch]
            self.batches.append(seen)
            if self.kills(seen):
                return False
            step += 1
            self.trained[step] = seen
            ledger.note_trained(learner, step)
            if step % self.every == 0:
                self._save(learner, step)
        self._save(learner, step)
        return True

    def _save(self, learner, step):
        self.ledger.prepare(learner, step)
        self.ledger.commit(learner, step)
        self.saved = step


def test_the_one_is_alone_after_as_many_deaths_as_halvings(tmp_path):
    ledger = ledger_of(tmp_path, 12)
    learners = Learners(ledger, lambda batch: (6, 0) in batch)
    trained = learners.run()
    # Twice in {4, 5, 6, 7}, once in {6, 7}, twice alone.
    assert learners.deaths == 5
    assert [b for b in learners.batches if (6, 0) in b] == [
        *[[(4, 0), (5, 0), (6, 0), (7, 0)]] * 2,
        *[[(6, 0), (7, 0)]],
        *[[(6, 0)]] * 2,
    ]
    assert learners.remarks == [
        "learners die in a step with 4 rollout(s); it is cut to find the cause",
        "learners die in a step with 2 rollout(s); it is cut to find the cause",
        "learners die in a step with 1 rollout(s); it is cut to find the cause",
        "fact 6, draw 0, is left out from epoch 1 on: "
        "2 learners died while they trained nothing else",
    ]
    seen = [one for of in trained.values() for one in of]
    assert sorted(seen) == [(fact, 0) for fact in range(12) if fact != 6]
    assert ledger.lost() == [
        ("6", "quarantined", "2 learners died while they trained nothing else")
    ]
    counts = ledger.counts()
    assert (counts.poisoned, counts.skipped, counts.waiting) == (1, 1, 0)
    assert counts == ledger.recount()
    assert counts.trained == counts.exposures(1) == 11
    assert ledger.num_suspects() == 0


def test_it_is_found_while_work_is_still_open(tmp_path):
    ledger = Ledger(tmp_path / "ledger.db", epochs=1, seed=3)
    ledger.add_work((str(fact), 0) for fact in range(9))
    ledger.insert_many([Accepted(str(fact), 0, b"%d" % fact, 1) for fact in range(8)])
    learners = Learners(ledger, lambda batch: (2, 0) in batch, checkpoint_every=1)
    learners.run()
    # Twice four, then halves: {0, 1}, {2, 3}, and 2 alone twice; then a whole batch again.
    assert [len(batch) for batch in learners.batches] == [4, 4, 2, 2, 1, 1, 4]
    assert [fact for fact, _, _ in ledger.lost()] == ["2"]
    # The last two make no batch while one is still to come.
    ledger.insert_many([Accepted("8", 0, b"8", 1)])
    trained = learners.run()
    assert sorted(f for of in trained.values() for f, _ in of) == [0, 1, 3, 4, 5, 6, 7, 8]


def test_what_was_trained_before_it_killed_stays_trained(tmp_path):
    """It kills from its second exposure on: an epoch in which the weights have moved."""
    ledger = ledger_of(tmp_path, 10, epochs=4)
    learners = Learners(ledger, lambda batch: any(f == 5 and e >= 1 for f, e in batch))
    trained = learners.run()
    seen = [one for of in trained.values() for one in of]
    expected = [(f, e) for f in range(10) for e in range(4) if f != 5 or e == 0]
    assert sorted(seen) == expected
    assert ledger.trained() == [(str(f), 0, e) for f, e in sorted(expected)]
    assert ledger.counts().skipped == 3
    assert ledger.counts() == ledger.recount()


def test_a_death_that_has_another_cause_costs_no_rollout(tmp_path):
    fatal = iter([True] * DEATHS + [False] * 1000)
    ledger = ledger_of(tmp_path, 20)
    learners = Learners(ledger, lambda batch: (9, 0) in batch and next(fatal))
    trained = learners.run()
    assert sorted(one for of in trained.values() for one in of) == [(f, 0) for f in range(20)]
    assert (ledger.lost(), ledger.num_suspects()) == ([], 0)


def test_a_broken_machine_does_not_cost_more_than_one_rollout(tmp_path):
    """Every learner dies on whatever it trains first: the data is not the cause."""
    ledger = ledger_of(tmp_path, 20)
    assert Learners(ledger, lambda batch: True).run(most=60) is None
    assert ledger.counts().poisoned == 1
    # The search is given up, so that restarts count again.
    assert ledger.num_suspects() == 0


def test_a_learner_that_dies_after_its_step_does_not_accuse_the_batch(tmp_path):
    ledger = ledger_of(tmp_path, 8)
    for turn in range(9):
        learner = ledger.register(str(turn))
        ledger.restore(learner, 0, max_deaths=DEATHS)
        assert len(ledger.sample(learner, 1, BATCH)) == BATCH
        ledger.note_trained(learner, 1)
        # A late repeat of another rank's request.
        ledger.sample(learner, 1, BATCH)
    assert ledger.num_suspects() == 0


def test_only_a_step_that_was_sampled_can_have_been_trained(tmp_path):
    ledger = ledger_of(tmp_path, 8)
    learner = ledger.register("one")
    ledger.restore(learner, 0)
    with pytest.raises(LedgerError, match="has steps up to 0, not step 1"):
        ledger.note_trained(learner, 1)


@settings(max_examples=60, deadline=None)
@given(
    facts=st.integers(2, 14),
    epochs=st.integers(1, 3),
    first_epoch=st.sampled_from(["arrival", "work"]),
    every=st.integers(1, 5),
    data=st.data(),
)
def test_whatever_kills_all_else_is_trained_once(
    tmp_path_factory, facts, epochs, first_epoch, every, data
):
    places = st.tuples(st.integers(0, facts - 1), st.integers(0, epochs - 1))
    poison = dict(data.draw(st.lists(places, max_size=2), "poison"))

    def kills(batch):
        return any(fact in poison and epoch >= poison[fact] for fact, epoch in batch)

    path = tmp_path_factory.mktemp("poison")
    ledger = ledger_of(path, facts, epochs, first_epoch)
    learners = Learners(ledger, kills, every)
    trained = learners.run()
    seen = [one for of in (trained or {}).values() for one in of]
    if trained is None:
        # Two in a row, with no step between them that could be trained.
        assert len(poison) == 2
        assert ledger.num_suspects() == 0
    else:
        assert sorted(seen) == sorted(
            (f, e) for f in range(facts) for e in range(epochs) if e < poison.get(f, epochs)
        )
        assert ledger.trained() == sorted((str(f), 0, e) for f, e in seen)
        assert ledger.counts().trained == ledger.counts().exposures(epochs)
    assert ledger.counts() == ledger.recount()
    ledger.close()
