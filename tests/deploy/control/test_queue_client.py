import pytest
import ray

from common.errors import RunError
from deploy.control.queue_client import QueueClient


def test_a_queue_that_stays_away_is_named_and_for_how_long(monkeypatch):
    tries = []

    def get_actor(name, namespace):
        tries.append(name)
        raise ValueError("Failed to look up actor")

    monkeypatch.setattr(ray, "get_actor", get_actor)
    with pytest.raises(RunError, match=r"no answer of the queue for 1 s$"):
        QueueClient(0.6).last_step()
    assert set(tries) == {"replay"}
    assert len(tries) > 1
