from types import SimpleNamespace

import torch
from torch import nn

from actors.inference.worker_extension import WorkerExtension
from common.weights import bit_sum


def test_a_worker_sums_what_it_holds_as_it_was_published_and_leaves_the_rest_out():
    model = nn.Module()
    model.norm = nn.LayerNorm(4, bias=False)
    # Repacked: an empty parameter is all that is left under the name.
    model.down_proj = nn.Linear(4, 4, bias=False)
    model.down_proj.weight = nn.Parameter(torch.empty(0))
    worker = WorkerExtension()
    worker.model_runner = SimpleNamespace(get_model=lambda: model)
    found = worker.sum_weights(["norm.weight", "down_proj.weight", "gate_proj.weight"])
    assert found == {"norm.weight": bit_sum(torch.ones(4))}


def test_a_worker_that_never_compiles_runs_what_is_marked_for_it_as_it_is():
    def refuses(module, inputs):
        raise AssertionError("compiled")

    compiled = torch.compile(lambda x: x + 1, backend=refuses)
    try:
        WorkerExtension().never_compile()
        assert compiled(torch.ones(2)).tolist() == [2.0, 2.0]
    finally:
        torch.compiler.set_stance("default")
