"""Each draw's random numbers follow from its seed and its place, in a runner that knows both."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from actors.inference.requests import SEEDS, token_seed
from actors.inference.worker_extension import WorkerExtension


class Sampler(nn.Module):
    """Draws one number for each request that has a generator."""

    def forward(self, *, sampling_metadata):
        return {
            row: torch.rand(1, generator=generator).item()
            for row, generator in sampling_metadata.generators.items()
        }


@pytest.fixture
def runner():
    worker = WorkerExtension()
    worker.model_runner = SimpleNamespace(requests={}, sampler=Sampler())
    worker.seed_every_draw()
    return worker.model_runner


def begin(runner, key, token_ids=(), seed=0, seeds=None):
    """A request as vLLM makes it, with its tokens so far."""
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    params = SimpleNamespace(seed=seed, extra_args=seeds and {SEEDS: seeds})
    state = SimpleNamespace(
        generator=generator, sampling_params=params, output_token_ids=list(token_ids)
    )
    runner.requests[key] = state
    return state


def draw(runner, *states):
    generators = {row: state.generator for row, state in enumerate(states) if state.generator}
    return runner.sampler(sampling_metadata=SimpleNamespace(generators=generators))


def first_number(seed):
    return torch.rand(1, generator=torch.Generator().manual_seed(seed)).item()


def test_a_draw_depends_on_the_requests_seed_and_the_number_of_its_tokens(runner):
    one, other = begin(runner, "a", seed=5), begin(runner, "b", [7, 7], 6)
    greedy = begin(runner, "c", seed=None)
    expected = {0: first_number(token_seed(5, 0)), 1: first_number(token_seed(6, 2))}
    assert draw(runner, one, other, greedy) == expected
    # Nothing is left of the draw before.
    assert draw(runner, one, other) == expected
    one.output_token_ids.append(7)
    assert draw(runner, one)[0] == first_number(token_seed(5, 1))


def test_a_session_that_continues_has_the_seed_of_its_new_segment(runner):
    session = begin(runner, "a", [7, 8, 9], seed=5)
    session.sampling_params = SimpleNamespace(seed=50, extra_args=None)
    session.output_token_ids.clear()
    assert draw(runner, session)[0] == first_number(token_seed(50, 0))


def test_a_row_brings_the_seed_of_each_token_and_draws_beyond_them_whatever(runner):
    row = begin(runner, "a", seeds=[11, 12])
    for token_ids, seed in (([], 11), ([7], 12), ([7, 7], 12)):
        row.output_token_ids[:] = token_ids
        drawn = draw(runner, row)[0]
        assert (drawn == first_number(seed)) == (len(token_ids) < 2)


def test_vllm_may_rewind_a_generator_which_changes_nothing(runner):
    state = begin(runner, "a", seed=5)
    offset = state.generator.get_offset()
    expected = draw(runner, state)
    state.generator.set_offset(offset)
    assert draw(runner, state) == expected
