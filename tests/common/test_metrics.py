from prometheus_client import generate_latest
from prometheus_client.core import CollectorRegistry

from common.metrics import families


class Fixed:
    def __init__(self, snapshots):
        self.snapshots = snapshots

    def collect(self):
        return families("r", self.snapshots)


def test_a_metric_with_two_labels_takes_its_values_joined_by_a_comma():
    registry = CollectorRegistry()
    seconds = {"insert,max_bytes": 2.5, "sample,batch": 1.0}
    registry.register(Fixed({"replay": {"mixsd_replay_blocked_seconds_total": seconds}}))
    text = generate_latest(registry).decode()
    assert (
        'mixsd_replay_blocked_seconds_total{actor="replay",reason="max_bytes",run="r",'
        'side="insert"} 2.5' in text
    )
