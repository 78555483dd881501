import logging

import pytest

from actors.inference.arguments import EngineError, mixing_of, vllm_arguments
from common.config.sections import EngineSettings


@pytest.mark.parametrize(
    ("wanted", "version", "used"),
    [
        ("auto", "0.32.0", "sessions"),
        ("auto", "0.32.0+cpu", "sessions"),
        ("auto", "0.33.1", "portable"),
        ("sessions", "0.32.0", "sessions"),
        ("paired", "0.32.0", "paired"),
        ("portable", "0.32.0", "portable"),
        ("portable", "0.33.1", "portable"),
    ],
)
def test_sessions_are_used_where_they_were_tested(wanted, version, used):
    assert mixing_of(wanted, version) == used


def test_sessions_that_are_insisted_on_are_refused_elsewhere_with_the_remedy():
    with pytest.raises(EngineError, match=r"needs vLLM 0\.32\.0, found 0\.33\.1; set .*=auto"):
        mixing_of("sessions", "0.33.1")


def test_falling_back_to_plain_requests_is_logged(caplog):
    with caplog.at_level(logging.WARNING):
        mixing_of("auto", "0.33.1")
    assert "vLLM 0.33.1 is not 0.32.0; decoding with plain requests" in caplog.text


def test_the_batch_budget_holds_a_token_of_every_request():
    arguments = vllm_arguments(EngineSettings(device="cpu", max_batched_tokens=32), 64)
    assert (arguments["max_num_seqs"], arguments["max_num_batched_tokens"]) == (64, 64)


@pytest.mark.parametrize("backend", ["nccl", "ipc"])
def test_only_an_engine_that_receives_weights_has_a_transfer(backend):
    settings = EngineSettings(device="cuda")
    arguments = vllm_arguments(settings, 64, receives_weights=backend)
    assert arguments["weight_transfer_config"] == {"backend": backend}
    assert "weight_transfer_config" not in vllm_arguments(settings, 64)


def test_an_engine_has_the_kv_cache_that_is_set_and_on_a_gpu_else_what_is_left():
    def cache(**settings):
        return vllm_arguments(EngineSettings(**settings), 4).get("kv_cache_memory_bytes")

    assert cache(device="cpu") == 2**30
    assert cache(device="cuda") is None
    assert cache(device="cuda", kv_cache_gib=2.5) == 2.5 * 2**30
    # Two engines in one process halve it on a GPU, as they do its share.
    shared = EngineSettings(device="cuda", kv_cache_gib=3, gpu_memory_utilization=0.5).shared_by(2)
    assert (shared.kv_cache_gib, shared.gpu_memory_utilization) == (1.5, 0.25)
