"""The ledger under random interleavings of everything that can happen to it."""

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from common.ledger import Ledger

OPS = st.sampled_from(["lease", "insert", "exhaust", "sample", "commit", "restore", "reopen"])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(OPS, st.integers(0, 5)), max_size=40), st.integers(1, 4))
def test_whatever_happens_every_accepted_rollout_trains_once_an_epoch(ops, batch):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "ledger.db")
        ledger = Ledger(path, epochs=3, seed=1)
        ledger.add_work((str(fact), 0) for fact in range(6))
        step, saved, model, accepted = 0, 0, {}, set()

        def train():
            nonlocal step
            got = ledger.sample(step + 1, batch)
            if got:
                step += 1
                model[step] = [(e.payload.decode(), 0, e.epoch) for e in got]
            return got

        for now, (op, n) in enumerate(ops):
            if op == "lease":
                ledger.lease(f"owner {n}", n, now=now, duration=3)
            elif op == "insert" and ledger.insert(str(n), 0, b"%d" % n, attempts=1):
                accepted.add(n)
            elif op == "exhaust":
                ledger.exhaust(str(n), 0, "wrong", attempts=1)
            elif op == "sample":
                train()
            elif op == "commit":
                ledger.commit(saved := step)
            elif op == "restore":
                ledger.restore(saved)
                step, model = saved, {s: m for s, m in model.items() if s <= saved}
            elif op == "reopen":
                ledger.close()
                ledger = Ledger(path, epochs=3, seed=1)
            seen = [exposure for members in model.values() for exposure in members]
            assert len(seen) == len(set(seen)) == ledger.counts().sampled
        for n in range(6):
            if ledger.insert(str(n), 0, b"%d" % n, attempts=1):
                accepted.add(n)
        while train():
            pass
        ledger.commit(step)
        wanted = sorted((str(n), 0, epoch) for n in accepted for epoch in range(3))
        assert ledger.trained() == wanted
        assert sorted(e for members in model.values() for e in members) == wanted
        ledger.close()
