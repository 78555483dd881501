"""The door to vLLM: one in-process engine, driven step by step.

Everything that needs a language model's next token goes through
:class:`Engine`. It drives vLLM's ``EngineCore`` itself instead of calling
``LLM.generate``, for the sake of *sessions*: a request that has generated its
tokens keeps its KV cache and is continued later with tokens that somebody
else drew (vLLM's ``resumable`` requests). Without sessions each continuation
is a plain request on the whole context and prefix caching does the rest.

The engine knows tokens only. Who generates next is decided in ``relay``.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.config import EngineSettings
from common.metrics import Snapshot

if TYPE_CHECKING:
    from vllm import SamplingParams
    from vllm.v1.engine import EngineCoreOutput

# Resumable requests are young and private to vLLM's engine core; these are the
# versions whose behaviour the tests have seen.
TESTED_VLLM = ("0.32.0",)


class EngineError(RuntimeError):
    """The engine cannot do what was asked; the message says what to change."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a token is drawn. ``temperature`` 0 is argmax; ``top_k`` 0 keeps all ids."""

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class Segment:
    """Tokens that ``key`` generated in one go, with raw log-probabilities (nats).

    ``prompt_logprobs``: for :meth:`Engine.begin_score`, one per token after the
    first of the scored sequence; else empty.
    """

    key: str
    token_ids: list[int]
    logprobs: list[float]
    prompt_logprobs: list[float]


@dataclass(slots=True)
class _Pending:
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    prompt_logprobs: list[float] = field(default_factory=list)


class Engine:
    """One vLLM engine of one model in this process.

    Args:
        model_dir: Hugging Face folder with safetensors and a tokenizer.
        settings: device, precision, context and cache sizes.
        max_requests: requests alive at once, idle sessions included.
        stop_token_ids: tokens that end a generation; they are part of it.
    """

    def __init__(
        self,
        model_dir: Path,
        settings: EngineSettings,
        *,
        max_requests: int,
        stop_token_ids: Sequence[int],
    ) -> None:
        _set_environment(settings)
        from vllm import LLM
        from vllm import __version__ as version

        self._sessions = settings.sessions
        if self._sessions and version.split("+")[0] not in TESTED_VLLM:
            raise EngineError(
                f"engine.sessions needs vLLM {' or '.join(TESTED_VLLM)}, found {version}; "
                "set engine.sessions=false to use plain requests"
            )
        self._llm = LLM(model=str(model_dir), **_llm_arguments(settings, max_requests))
        self._core = self._llm.llm_engine.engine_core
        cache = self._llm.llm_engine.vllm_config.cache_config
        self.block_size = int(cache.block_size)
        # One block is vLLM's null block; it is never handed out.
        self.num_blocks = int(cache.num_gpu_blocks) - 1
        self.max_model_len = int(self._llm.llm_engine.model_config.max_model_len)
        self._stop_token_ids = list(stop_token_ids)
        self._stops = frozenset(stop_token_ids)
        self._pending: dict[str, _Pending] = {}
        # Session key -> tokens whose keys and values are in the cache.
        self._cached: dict[str, int] = {}
        self._num_whole = 0

    # -- sessions ---------------------------------------------------------

    def extend(self, key: str, context: Sequence[int], num_tokens: int, sampling: Sampling) -> None:
        """Let ``key`` generate up to ``num_tokens`` after ``context``.

        A key that was extended before must be given a context that begins with
        everything it has seen; only the rest is computed. The result comes out
        of :meth:`step` as one :class:`Segment`.
        """
        assert key not in self._pending, f"{key} is still generating"
        params = self._params(num_tokens, sampling)
        start = self._cached.get(key, 0)
        self._pending[key] = _Pending()
        if self._sessions:
            # The last token a session sampled is not in its cache yet and vLLM
            # drops it on continuation, so the chunk begins with it.
            self._cached[key] = len(context)
            self._add(key, context[start:], params, resumable=True)
        else:
            self._add(key, context, params)

    def release(self, key: str) -> None:
        """Forget ``key`` and free its cache; unknown keys are ignored."""
        generating = self._pending.pop(key, None) is not None
        if self._cached.pop(key, None) is not None or generating:
            self._core.abort_requests([key])

    def step(self) -> list[Segment]:
        """One engine iteration; the segments that it completed."""
        done = []
        for output in self._core.get_output().outputs:
            pending = self._pending.get(output.request_id)
            if pending is None:
                continue
            _collect(pending, output)
            if output.finish_reason is not None:
                del self._pending[output.request_id]
                if output.request_id in self._cached:
                    self._cached[output.request_id] += len(pending.token_ids) - 1
                done.append(
                    Segment(
                        output.request_id,
                        pending.token_ids,
                        pending.logprobs,
                        pending.prompt_logprobs,
                    )
                )
        return done

    def begin_score(self, key: str, token_ids: Sequence[int]) -> None:
        """Compute the log-probability of every token; comes out of :meth:`step`."""
        from vllm import SamplingParams

        params = SamplingParams(temperature=0.0, max_tokens=1, prompt_logprobs=0, detokenize=False)
        self._pending[key] = _Pending()
        self._add(key, token_ids, params)

    def ends(self, token_id: int) -> bool:
        """Whether a generation ends with this token."""
        return token_id in self._stops

    def blocks_for(self, num_tokens: int) -> int:
        """KV blocks that a request of this many tokens fills."""
        return -(-num_tokens // self.block_size)

    # -- whole requests ---------------------------------------------------

    def generate(
        self, prompts: Sequence[Sequence[int]], max_tokens: int, sampling: Sampling
    ) -> list[list[int]]:
        """Complete each prompt; returns generated ids, the stop token included.

        Must not be called while sessions are generating: their segments would
        be lost.
        """
        keys = self._new_keys(len(prompts))
        params = self._params(max_tokens, sampling)
        for key, prompt in zip(keys, prompts, strict=True):
            self._pending[key] = _Pending()
            self._add(key, prompt, params)
        return [segment.token_ids for segment in self._finish(keys)]

    def score(self, sequences: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[list[float]]:
        """Log-probability (nats) of every target token given prompt and prefix.

        Args:
            sequences: (prompt ids, target ids) pairs.

        Returns:
            For each pair one float per target token.
        """
        keys = self._new_keys(len(sequences))
        for key, (prompt, target) in zip(keys, sequences, strict=True):
            self.begin_score(key, [*prompt, *target])
        return [
            segment.prompt_logprobs[len(prompt) - 1 :]
            for segment, (prompt, _) in zip(self._finish(keys), sequences, strict=True)
        ]

    def load_weights(self, model_dir: Path) -> None:
        """Replace the weights in place by those of ``model_dir``; forgets every cache."""
        assert not self._pending, "weights cannot change while requests run"
        self._core.collective_rpc("reload_weights", kwargs={"weights_path": str(model_dir)})
        self._core.reset_prefix_cache()

    def snapshot(self) -> Snapshot:
        """How full the engine is; called from another thread."""
        scheduler = self._core.engine_core.scheduler
        running, waiting = scheduler.get_request_counts()
        idle = scheduler.num_waiting_for_streaming_input
        return {
            "mixsd_engine_kv_usage": scheduler.kv_cache_manager.usage,
            "mixsd_engine_running": running,
            "mixsd_engine_waiting": waiting - idle,
            "mixsd_engine_idle_sessions": idle,
            "mixsd_engine_preempted": sum(
                request.num_preemptions for request in list(scheduler.requests.values())
            ),
        }

    def close(self) -> None:
        """Shut the engine down."""
        self._core.shutdown()

    # -- inside -----------------------------------------------------------

    def _new_keys(self, count: int) -> list[str]:
        assert not self._pending, "whole requests cannot run beside sessions"
        first = self._num_whole
        self._num_whole += count
        return [f"whole-{index}" for index in range(first, first + count)]

    def _finish(self, keys: Sequence[str]) -> list[Segment]:
        done: dict[str, Segment] = {}
        while len(done) < len(keys):
            done.update((segment.key, segment) for segment in self.step())
        return [done[key] for key in keys]

    def _params(self, num_tokens: int, sampling: Sampling) -> SamplingParams:
        from vllm import SamplingParams

        return SamplingParams(
            max_tokens=num_tokens,
            temperature=sampling.temperature,
            top_k=sampling.top_k,
            top_p=sampling.top_p,
            seed=sampling.seed,
            stop_token_ids=self._stop_token_ids,
            logprobs=0,
            detokenize=False,
            skip_clone=True,
        )

    def _add(
        self, key: str, token_ids: Sequence[int], params: SamplingParams, resumable: bool = False
    ) -> None:
        from vllm.v1.engine import EngineCoreRequest

        self._core.add_request(
            EngineCoreRequest(
                request_id=key,
                prompt_token_ids=list(token_ids),
                mm_features=None,
                sampling_params=params,
                pooling_params=None,
                arrival_time=0.0,
                lora_request=None,
                cache_salt=None,
                data_parallel_rank=None,
                resumable=resumable,
            )
        )


def _collect(pending: _Pending, output: EngineCoreOutput) -> None:
    pending.token_ids.extend(output.new_token_ids)
    if output.new_logprobs is not None:
        pending.logprobs.extend(output.new_logprobs.logprobs[:, 0].tolist())
    if output.new_prompt_logprobs_tensors is not None:
        pending.prompt_logprobs.extend(output.new_prompt_logprobs_tensors.logprobs[:, 0].tolist())


def _set_environment(settings: EngineSettings) -> None:
    """What vLLM reads from the environment; must come before its import."""
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
    os.environ["VLLM_NO_USAGE_STATS"] = "1"
    if settings.resolved_device == "cpu":
        os.environ["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"
        os.environ["VLLM_CPU_KVCACHE_SPACE"] = str(settings.kv_cache_gib)


def _llm_arguments(settings: EngineSettings, max_requests: int) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "dtype": settings.dtype,
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
        # A session's next chunk depends on the tokens of the last one.
        "async_scheduling": False,
        "generation_config": "vllm",
        "disable_log_stats": True,
    }
    if settings.resolved_device == "cpu":
        arguments["block_size"] = 32
        arguments["distributed_executor_backend"] = "uni"
    else:
        arguments["gpu_memory_utilization"] = settings.gpu_memory_utilization
    if settings.num_blocks is not None:
        arguments["num_gpu_blocks_override"] = settings.num_blocks
    return arguments
