"""The ledger under random interleavings of everything that can happen to it."""

import contextlib
import shutil
import tempfile
from collections import Counter
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from common.ledger import Accepted, Ledger, LedgerError

OWNERS = st.sampled_from(["x", "y", "z"])
FACTS = st.integers(1, 7)  # also the work ids
LEASE_S = 3


class LedgerMachine(RuleBasedStateMachine):
    """A ledger beside a model in plain Python: facts, exposures by step, a clock."""

    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.now = self.files = self.step = self.committed = 0
        self.accepted, self.lost, self.steps = {}, set(), {}
        self.held = {}  # fact -> (owner, deadline), as the owners believe

    @initialize(
        epochs=st.integers(1, 3),
        batch=st.integers(1, 4),
        first_epoch=st.sampled_from(["arrival", "work"]),
    )
    def begin(self, epochs, batch, first_epoch):
        self.batch, self.epochs = batch, epochs
        self.options = {"epochs": epochs, "seed": 1, "first_epoch": first_epoch}
        self.ledger = self.open()
        self.ledger.add_work((str(fact), 0) for fact in range(1, 8))
        self.learner = self.ledger.register("0")
        self.ledger.restore(self.learner, 0)
        self.calls = []  # of every learner, to be repeated late

    def open(self):
        return Ledger(self.folder / f"{self.files}.db", **self.options)

    def settled(self):
        return len(self.accepted) + len(self.lost) == 7

    # -- actors -------------------------------------------------------------

    @rule(seconds=st.integers(1, 4))
    def time_passes(self, seconds):
        self.now += seconds

    @rule(owner=OWNERS, count=st.integers(0, 7))
    def lease(self, owner, count):
        work = self.ledger.lease(owner, count, now=self.now, duration=LEASE_S)
        for item in work:
            holder, deadline = self.held.get(item.id, (owner, 0))
            assert deadline <= self.now, f"{holder} holds it"
            assert item.id not in self.accepted
            assert item.id not in self.lost
        self.renew(owner)
        self.held.update({item.id: (owner, self.now + LEASE_S) for item in work})

    @rule(owner=OWNERS, forgets=st.sets(FACTS))
    def heartbeat(self, owner, forgets):
        holding = [fact for fact, (who, _) in self.held.items() if who == owner]
        kept = [fact for fact in holding if fact not in forgets]
        self.ledger.heartbeat(owner, kept, now=self.now, duration=LEASE_S)
        self.renew(owner)
        for fact in set(holding) - set(kept):
            del self.held[fact]

    def renew(self, owner):
        for fact, (who, deadline) in list(self.held.items()):
            if who == owner and deadline > self.now:
                self.held[fact] = owner, self.now + LEASE_S

    @rule(owner=OWNERS, died=st.booleans())
    def release(self, owner, died):
        before = self.ledger.counts().quarantined
        self.ledger.release(owner, died=died, max_deaths=2)
        self.held = {fact: held for fact, held in self.held.items() if held[0] != owner}
        if self.ledger.counts().quarantined > before:
            assert died
            self.lost = {int(fact) for fact, _, _ in self.ledger.lost()}

    @rule(facts=st.lists(FACTS, min_size=1, max_size=4), version=st.integers(0, 5))
    def insert(self, facts, version):
        """On time, late, twice, by any owner: the first one counts."""
        rollouts = [Accepted(str(fact), 0, b"%d" % fact, 1, version) for fact in facts]
        for fact, taken in zip(facts, self.ledger.insert_many(rollouts), strict=True):
            assert taken == (fact not in self.accepted and fact not in self.lost)
            if taken:
                self.accepted[fact] = version
                self.held.pop(fact, None)

    @rule(fact=FACTS)
    def exhaust(self, fact):
        taken = self.ledger.exhaust(str(fact), 0, "wrong", attempts=2)
        assert taken == (fact not in self.accepted and fact not in self.lost)
        if taken:
            self.lost.add(fact)
            self.held.pop(fact, None)

    # -- learner ------------------------------------------------------------

    @rule(oldest=st.none() | st.integers(0, 6))
    def sample(self, oldest):
        self.train(oldest)

    def train(self, oldest=None):
        batch = self.ledger.sample(self.learner, self.step + 1, self.batch, oldest=oldest)
        exposed = {fact for step in self.steps.values() for fact, _ in step}
        arrived = {int(payload) for payload in self.ledger.payloads()}
        for fact in set(self.accepted) - arrived:
            assert fact not in exposed
            assert self.accepted.pop(fact) < oldest
        if batch:
            self.step += 1
            self.steps[self.step] = [(int(item.payload), item.epoch) for item in batch]
            assert len(batch) == self.batch or self.settled()
        elif batch is not None:
            assert self.settled()
            assert self.ledger.counts().sampled == len(self.accepted) * self.epochs
        return batch

    @precondition(lambda self: self.step > self.committed)
    @rule(data=st.data())
    def sample_again(self, data):
        step = data.draw(st.integers(self.committed + 1, self.step))
        again = self.ledger.sample(self.learner, step, self.batch + 1, oldest=9)
        assert [(int(item.payload), item.epoch) for item in again] == self.steps[step]

    @rule()
    def commit(self):
        self.ledger.prepare(self.learner, self.step)
        self.ledger.commit(self.learner, self.step)
        self.calls.append(("commit", self.learner, self.step))
        self.committed = self.step

    @rule(data=st.data())
    def restore(self, data):
        """From the last checkpoint, or from one before it if that is damaged."""
        self.step = self.committed = data.draw(st.integers(0, self.committed))
        self.learner = self.ledger.register(str(self.learner))
        self.ledger.restore(self.learner, self.step)
        self.calls.append(("restore", self.learner, self.step))
        self.steps = {step: of for step, of in self.steps.items() if step <= self.step}

    @precondition(lambda self: self.calls)
    @rule(data=st.data())
    def a_call_arrives_again(self, data):
        """Whenever it comes and from which learner: the invariants below see no change."""
        method, learner, step = data.draw(st.sampled_from(self.calls))
        with contextlib.suppress(LedgerError):
            getattr(self.ledger, method)(learner, step)

    @rule()
    def crash(self):
        """A kill -9: what the files hold is all that is left."""
        for path in self.folder.glob(f"{self.files}.db*"):
            if not path.name.endswith("-shm"):
                new = path.name.replace(str(self.files), str(self.files + 1), 1)
                shutil.copy(path, self.folder / new)
        self.ledger.close()
        self.files += 1
        self.ledger = self.open()

    # -- always -------------------------------------------------------------

    @invariant()
    def the_totals_are_those_of_a_recount(self):
        counts = self.ledger.counts()
        assert counts == self.ledger.recount()
        assert counts.accepted == len(self.accepted)
        assert counts.lost == len(self.lost)
        assert counts.sampled == sum(map(len, self.steps.values()))
        assert counts.committed_step == self.committed
        assert counts.waiting == len(
            set(self.accepted) - {fact for step in self.steps.values() for fact, _ in step}
        )
        ready = self.ledger.ready(counts, self.batch)
        assert ready <= min(counts.waiting, self.batch)

    @invariant()
    def nothing_is_exposed_twice(self):
        seen = Counter(exposure for step in self.steps.values() for exposure in step)
        assert not seen or max(seen.values()) == 1
        trained = [
            (str(f), 0, e) for s, of in self.steps.items() if s <= self.committed for f, e in of
        ]
        assert self.ledger.trained() == sorted(trained)

    def teardown(self):
        """Whatever happened, one owner and one learner bring the run to its end."""
        self.now += LEASE_S + 1
        for turn in range(100):
            work = self.ledger.lease("last", 4, now=self.now, duration=LEASE_S)
            self.insert([item.id for item in work], turn) if work else None
            if self.train() == []:
                break
        self.commit()
        self.the_totals_are_those_of_a_recount()
        self.nothing_is_exposed_twice()
        assert self.ledger.trained() == sorted(
            (str(fact), 0, epoch) for fact in self.accepted for epoch in range(self.epochs)
        )
        assert set(self.accepted) | self.lost == set(range(1, 8))
        self.ledger.close()
        shutil.rmtree(self.folder)


TestLedger = LedgerMachine.TestCase
TestLedger.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
