"""The GPUs of a joined cluster, whose nodes may come one after another."""

import pytest

from common.config.run_config import parse
from common.errors import UserError
from deploy.cluster.nodes import num_gpus, wait_for_gpus


def config(**sections):
    raw = {"name": "run", "method": {"name": "sft"}, "data": {"kgfact": {}}}
    raw |= {"engine": {"device": "cuda"}, **sections}
    return parse(raw, "test")


def node(gpus, alive=True):
    return {"Alive": alive, "Resources": {"CPU": 8.0, **({"GPU": float(gpus)} if gpus else {})}}


class Cluster:
    """A list of nodes that is another one after every second."""

    def __init__(self, *states):
        self.states, self.seconds, self.said = states, 0, []

    def nodes(self):
        return self.states[min(self.seconds, len(self.states) - 1)]

    def sleep(self, seconds):
        self.seconds += int(seconds)

    def wait(self, config):
        wait_for_gpus(self.nodes, config, self.said.append, lambda: self.seconds, self.sleep)


def test_dead_nodes_have_no_gpus():
    assert num_gpus([node(4), node(2, alive=False), node(0), node(1)]) == 5


def test_a_run_waits_for_the_nodes_that_join_and_says_so_once_a_change():
    cluster = Cluster([node(0)], [node(0)], [node(0), node(2)], [node(0), node(2), node(2)])
    cluster.wait(config())
    assert cluster.seconds == 3
    assert cluster.said == [
        "waiting for nodes: the roles need 3 GPUs, the cluster has 0 …",
        "waiting for nodes: the roles need 3 GPUs, the cluster has 2 …",
    ]


def test_the_wait_ends_after_the_time_for_a_start():
    cluster = Cluster([node(2)])
    cluster.wait(config(cluster={"start_timeout_s": 30}))
    assert cluster.seconds == 30


@pytest.mark.parametrize(
    "sections", [{"engine": {"device": "cpu"}}, {"cluster": {"autoscales": True}}]
)
def test_nobody_waits_for_gpus_that_are_not_needed_or_come_when_they_are_asked_for(sections):
    cluster = Cluster([node(0)])
    cluster.wait(config(**sections))
    assert (cluster.seconds, cluster.said) == (0, [])


def test_an_engine_larger_than_every_node_is_refused():
    mine = config(engine={"device": "cuda", "tensor_parallel_size": 4})
    with pytest.raises(UserError, match=r"parallel_size is 4, but no node has more than 3 GPUs; l"):
        Cluster([node(3)] * 4).wait(mine)
