"""What the settings of an engine come to as vLLM's arguments and environment.

Pure: imports no runtime. ``engine`` hands the result to vLLM.
"""

from __future__ import annotations

import logging
import os
from typing import Any

from common.config.learner import ATTENTION, MLP, LoraSettings, Transfer
from common.config.sections import EngineSettings
from common.models import default_cache

_log = logging.getLogger(__name__)

# Resumable requests are young and private to vLLM's engine core; these are the
# versions whose behaviour the tests have seen.
TESTED_VLLM = ("0.32.0",)


# The ranks for which vLLM reserves memory.
_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)


class EngineError(RuntimeError):
    """The engine cannot satisfy the settings; the message names the change that helps."""


def mixing_of(wanted: str, version: str) -> str:
    """What ``engine.mixing`` comes to with this vLLM: ``paired``, ``sessions`` or ``portable``."""
    tested = version.split("+")[0] in TESTED_VLLM
    names = " or ".join(TESTED_VLLM)
    if wanted in ("paired", "sessions") and not tested:
        raise EngineError(
            f"engine.mixing={wanted} needs vLLM {names}, found {version}; "
            "set engine.mixing=auto to use plain requests with other versions"
        )
    if wanted == "auto" and not tested:
        _log.warning(
            "engine.mixing=auto: vLLM %s is not %s; decoding with plain requests", version, names
        )
        return "portable"
    return "sessions" if wanted == "auto" else wanted


def set_environment(settings: EngineSettings) -> None:
    """What vLLM reads from the environment; must come before its import."""
    # One process: on CPU vLLM else moves the worker into another.
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
    os.environ["VLLM_NO_USAGE_STATS"] = "1"
    # Workers of tensor parallelism; a fork of a process with threads may hang.
    os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = "spawn"
    # What vLLM compiles outlives a container where the models do, and serves every actor.
    os.environ.setdefault("VLLM_CACHE_ROOT", str(default_cache() / "vllm"))
    if settings.mixing == "paired":
        # Its rows are joined by a logits processor, which only the first model runner has.
        os.environ["VLLM_USE_V2_MODEL_RUNNER"] = "0"
    if settings.resolved_dtype == "float32":
        # Who asks for float32 wants its bits. Triton's products, those of vLLM's attention among
        # them, otherwise keep 10 of 23: TF32, whatever torch is told.
        os.environ.setdefault("TRITON_F32_DEFAULT", "ieee")
    if settings.resolved_device == "cpu":
        os.environ["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"


def vllm_arguments(
    settings: EngineSettings,
    max_requests: int,
    speculative_tokens: int = 0,
    receives_weights: Transfer | None = None,
    adapter: LoraSettings | None = None,
) -> dict[str, Any]:
    """vLLM's engine arguments for these settings, whose ``mixing`` is no longer ``auto``."""
    arguments: dict[str, Any] = {
        "dtype": settings.resolved_dtype,
        "max_model_len": settings.max_model_len,
        "max_num_seqs": max_requests,
        "max_num_batched_tokens": max(settings.max_batched_tokens, max_requests),
        "enforce_eager": settings.enforce_eager,
        "enable_prefix_caching": True,
        "tensor_parallel_size": settings.tensor_parallel_size,
        "trust_remote_code": settings.trust_remote_code,
        "seed": 0,
        # Raw log-probabilities: before temperature, top-k and top-p.
        "logprobs_mode": "raw_logprobs",
        # vLLM schedules a step while the one before runs. A session's next chunk depends on the
        # tokens of its last, and n-gram drafts on those of the last step. Never on a CPU.
        "async_scheduling": settings.mixing in ("paired", "portable") and not speculative_tokens,
        "generation_config": "vllm",
        "disable_log_stats": True,
        "skip_tokenizer_init": True,
        "worker_extension_cls": "actors.inference.worker_extension.WorkerExtension",
    }
    # Inside a placement group vLLM would take Ray, which refuses a bundle of several GPUs.
    several = settings.tensor_parallel_size > 1
    arguments["distributed_executor_backend"] = "mp" if several else "uni"
    if settings.mixing == "paired":
        arguments["logits_processors"] = ["actors.inference.paired_rows:PairedRows"]
    if settings.kv_cache_bytes is not None:
        # Where roles share a GPU, what vLLM would measure is not its own.
        arguments["kv_cache_memory_bytes"] = settings.kv_cache_bytes
    if settings.resolved_device == "cpu":
        arguments["block_size"] = 32
    else:
        arguments["gpu_memory_utilization"] = settings.gpu_memory_utilization
    if speculative_tokens:
        arguments["speculative_config"] = {
            "method": "ngram",
            "num_speculative_tokens": speculative_tokens,
            "prompt_lookup_max": 4,
            "prompt_lookup_min": 2,
        }
    if receives_weights is not None:
        arguments["weight_transfer_config"] = {"backend": receives_weights}
    if adapter is not None:
        arguments |= {"enable_lora": True, "max_loras": 1, "max_cpu_loras": 1}
        arguments["max_lora_rank"] = next(rank for rank in _RANKS if rank >= adapter.rank)
        # The head is never adapted. Were it prepared for that, prompts could not be scored: vLLM
        # has its adapters' indices for the tokens that are sampled only.
        named = () if isinstance(adapter.targets, str) else adapter.targets
        arguments["lora_target_modules"] = sorted({*ATTENTION, *MLP, *named})
    if settings.num_blocks is not None:
        arguments["num_gpu_blocks_override"] = settings.num_blocks
    return arguments
