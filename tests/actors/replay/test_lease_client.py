"""Rollouts that finish together are sent together."""

from actors.replay.lease_client import Outbox
from common.records import Rollout


class Queue:
    """Settled "b" before."""

    def __init__(self):
        self.calls = []

    def insert_many(self, items):
        self.calls.append([(item.unpack().fact_id, item.attempts) for item in items])
        return [fact != "b" for fact, _ in self.calls[-1]]


def rollout(fact_id):
    return Rollout(
        fact_id=fact_id,
        draw=0,
        attempt=0,
        prompt_ids=[1],
        target_ids=[2],
        naive=[0],
        logprobs=[-1.0],
        base_logprobs=[],
        canonical_logprobs=[],
        mix_rate=0.3,
        num_protected=0,
        fallback="",
        verified=True,
    )


def test_what_is_done_reaches_the_queue_in_one_call_and_once():
    queue = Queue()
    outbox = Outbox(queue)
    assert outbox.send() == 0
    for fact, attempts in (("a", 1), ("b", 2), ("c", 3)):
        outbox.put(rollout(fact), attempts)
    assert outbox.send() == 2
    assert outbox.send() == 0
    assert queue.calls == [[("a", 1), ("b", 2), ("c", 3)]]
