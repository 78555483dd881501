"""The adapter of vLLM: one engine in this process, driven step by step.

It drives vLLM's ``EngineCore`` directly, because ``LLM.generate`` has no *sessions*.
A session is a request that keeps its KV cache after it has generated its tokens, and
continues later after tokens that another request drew (vLLM's ``resumable`` requests).
Without sessions each continuation is a plain request on the whole context, and prefix
caching saves most of the work.

A session is only a cache. When KV blocks run short, the engine evicts waiting sessions,
oldest first, and computes them again when they continue. vLLM never evicts them, so an
engine full of them would wait forever.

Without sessions no request waits for the tokens of another, so on a GPU vLLM schedules
asynchronously: the engine is a step ahead of what it returns.

The engine knows tokens only. ``actors.decoding.mixed_decoder`` decides which request
generates next.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from actors.inference.arguments import mixing_of, set_environment, vllm_arguments
from actors.inference.gpu_memory import wait_until_free
from actors.inference.kv_budget import KVBudget
from actors.inference.params import ParamsFactory
from actors.inference.requests import (
    NAIVE,
    PAIR,
    PICKS,
    SEEDS,
    EngineOutput,
    Sampling,
    row_key,
)
from actors.inference.vllm_requests import VllmRequests
from common.config.learner import LoraSettings, Transfer
from common.config.sections import EngineSettings
from common.metrics import MetricValues
from common.weights import BitSum

if TYPE_CHECKING:
    from vllm.lora.request import LoRARequest


class Engine:
    """One vLLM engine of one model in this process.

    Args:
        model_dir: Hugging Face folder with safetensors.
        settings: device, precision, context and cache sizes.
        max_requests: requests alive at once, waiting sessions included.
        stop_token_ids: tokens that end a generation; they are part of it.
        speculative_tokens: draft tokens per step, copied from the context; 0: no speculation.
        receives_weights: the backend of vLLM's weight transfer, whose calls come through
            :meth:`call_workers`; None: no transfer.
        adapter: what :meth:`load_adapter` will load; None: nothing.

    Attributes:
        num_blocks: KV blocks in all.
        num_dropped: sessions evicted so far.
        mixing: what ``engine.mixing`` has come to.
        max_batched_tokens: most tokens that one step computes.

    Raises:
        EngineError: this vLLM cannot do what the settings ask for.
    """

    def __init__(
        self,
        model_dir: Path,
        settings: EngineSettings,
        *,
        max_requests: int,
        stop_token_ids: Sequence[int],
        speculative_tokens: int = 0,
        receives_weights: Transfer | None = None,
        adapter: LoraSettings | None = None,
    ) -> None:
        set_environment(settings)
        import torch
        from vllm import SamplingParams, __version__
        from vllm.engine.arg_utils import EngineArgs
        from vllm.lora.request import LoRARequest
        from vllm.v1.engine.core_client import InprocClient
        from vllm.v1.executor.abstract import Executor
        from vllm.v1.request import Request

        self.mixing = mixing_of(settings.mixing, __version__)
        settings = settings.model_copy(update={"mixing": self.mixing})
        self._sessions = self.mixing == "sessions"
        self._new_adapter = LoRARequest
        self._adapter: LoRARequest | None = None
        if settings.resolved_device == "cuda" and settings.tensor_parallel_size == 1:
            # Workers of several GPUs are processes of their own; to look from here costs memory.
            wait_until_free(settings.gpu_memory_utilization, torch.cuda.mem_get_info)
        arguments = vllm_arguments(
            settings, max_requests, speculative_tokens, receives_weights, adapter
        )
        config = EngineArgs(model=str(model_dir), **arguments).create_engine_config()
        self._core = InprocClient(config, Executor.get_class(config), log_stats=False)
        if settings.enforce_eager and settings.resolved_device == "cpu":
            self._core.collective_rpc("never_compile")
        self.scheduler = self._core.engine_core.scheduler
        self._pool = self.scheduler.kv_cache_manager.block_pool
        if not config.use_v2_model_runner:
            # The second model runner draws by (seed, position) of itself.
            self._core.collective_rpc("seed_every_draw")
        cache = config.cache_config
        # One block is vLLM's null block, which is never allocated.
        self.num_blocks = int(cache.num_gpu_blocks) - 1
        # Draft tokens take KV blocks before they are verified.
        self._ahead = speculative_tokens
        self._budget = KVBudget(self.num_blocks, int(cache.block_size), max_requests)
        self.max_batched_tokens = int(config.scheduler_config.max_num_batched_tokens)
        self.max_model_len = int(config.model_config.max_model_len)
        self._stops = frozenset(stop_token_ids)
        self._params = ParamsFactory(SamplingParams, stop_token_ids)
        self._requests = VllmRequests(self._core, Request)
        self.num_dropped = 0

    # -- sessions ---------------------------------------------------------

    def extend(
        self,
        key: str,
        context: Sequence[int],
        num_tokens: int,
        sampling: Sampling,
        *,
        last: bool = False,
    ) -> None:
        """Let ``key`` generate up to ``num_tokens`` after ``context``.

        If the key was extended before, the prefix that ``context`` shares with it stays
        cached and only the rest is computed. :meth:`step` returns the result as one
        :class:`EngineOutput`.

        Args:
            key: names the request and its KV cache.
            context: ids of all tokens so far, prompt included.
            num_tokens: longest generation; a stop token ends it earlier.
            sampling: temperature, top-k, top-p and seed.
            last: the key will not be extended again, so its cache is freed.
        """
        continues = self._sessions and not last
        waited = self._budget.begin(key, len(context), num_tokens + self._ahead, continues)
        params = self._params.drawing(num_tokens, sampling)
        if not (waited and self._requests.resume(key, context, num_tokens, params, last)):
            self._requests.add(key, context, params, self._adapter, resumable=continues)

    def extend_pair(
        self,
        key: str,
        contexts: Mapping[bool, Sequence[int]],
        picks: Sequence[bool],
        sampling: Sampling,
        seeds: Sequence[int] | None,
    ) -> None:
        """Let two rows, of the naive and of the expert side, draw the same tokens in step.

        Both must get into the same step whole: the caller sees to it that the step has room for
        the tokens of both contexts. :meth:`step` returns each as :func:`row_key` names it.

        Args:
            key: of the pair.
            contexts: ids of all tokens so far, of the naive side (True) and the expert's.
            picks: which side draws each token; True takes the naive one.
            sampling: temperature, top-k and top-p.
            seeds: of each token's draw; None at temperature 0.
        """
        for naive, context in contexts.items():
            row = row_key(key, naive)
            self._budget.begin(row, len(context), len(picks), continues=False)
            params = copy.copy(self._params.drawing(len(picks), sampling))
            params.extra_args = {PAIR: key, NAIVE: naive, PICKS: picks, SEEDS: seeds}
            self._requests.add(row, context, params, self._adapter)

    def generated(self, key: str) -> tuple[list[int], list[float]]:
        """Tokens and log-probabilities of a request that still generates."""
        request = self._budget.generating[key]
        return request.token_ids, request.logprobs

    def release(self, key: str) -> None:
        """Forget ``key`` and free its cache; unknown keys are ignored."""
        self._drop(key)

    def step(self) -> list[EngineOutput]:
        """One engine iteration; the segments that it completed."""
        self._prepare_step()
        done = []
        for output in self._core.get_output().outputs:
            key = self._requests.key_of(output.request_id)
            if key is not None:
                request = self._budget.generating[key]
                request.collect(output)
                if output.finish_reason is not None:
                    self._requests.end(key, waits=self._budget.end(key))
                    done.append(request.output(key))
        return done

    def begin_score(self, key: str, token_ids: Sequence[int], top: int = 0) -> None:
        """Compute the log-probability of every token, and of the ``top`` likeliest there.

        Comes out of :meth:`step`; no more than ``engine.max_batched_tokens`` at a time.
        """
        self._budget.begin(key, len(token_ids), 1, continues=False)
        self._requests.add(key, token_ids, self._params.scoring(top), None)

    def ends(self, token_id: int) -> bool:
        """Whether a generation ends with this token."""
        return token_id in self._stops

    def blocks_for(self, num_tokens: int) -> int:
        """KV blocks that a request of this many tokens fills."""
        return self._budget.blocks_for(num_tokens + self._ahead)

    @property
    def num_free_blocks(self) -> int:
        """KV blocks that no request holds; they may keep a prefix for later."""
        self._requests.abort()
        self._drain()
        return int(self._pool.get_num_free_blocks())

    # -- weights and state ------------------------------------------------

    def load_weights(self, model_dir: Path) -> None:
        """Replace the weights in place by those of ``model_dir``; forgets every cache."""
        assert not self._budget.generating, "weights cannot change while requests run"
        self._drain()
        self._core.collective_rpc("reload", args=(str(model_dir),))
        self.forget()

    def load_adapter(self, folder: Path, version: int) -> None:
        """Let generations use the adapter in ``folder``, in the format of ``peft``, from now on.

        Scores remain those of the base.
        """
        assert not self._budget.generating, "an adapter cannot change while requests run"
        self._drain()
        if self._adapter is not None:
            self._core.remove_lora(self._adapter.lora_int_id)
        # Each version is another adapter to vLLM, so none takes a prefix of one before.
        self._adapter = self._new_adapter(f"version-{version}", version + 1, str(folder))
        self._core.add_lora(self._adapter)
        self.forget()

    def sum_weights(self, names: Sequence[str]) -> list[dict[str, BitSum]]:
        """What each device holds of these weights; see :func:`common.weights.difference`."""
        sums: list[dict[str, BitSum]] = self._core.collective_rpc("sum_weights", args=(names,))
        return sums

    def call_workers(self, method: str, *arguments: Any) -> list[Any]:
        """Call a method of every vLLM worker; what each returned."""
        self._drain()
        return list(self._core.collective_rpc(method, args=arguments))

    def forget(self) -> None:
        """Empty every cache: waiting sessions and shared prefixes."""
        for key in list(self._budget.waiting):
            self._drop(key)
        self._requests.abort()
        self._drain()
        self._core.reset_prefix_cache()

    def metrics(self) -> MetricValues:
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

    # -- private ----------------------------------------------------------

    def _prepare_step(self) -> None:
        while (dropped := self._budget.eviction_victim()) is not None:
            self._drop(dropped)
            self.num_dropped += 1
        self._requests.abort()

    def _drop(self, key: str) -> None:
        waits = key in self._budget.waiting
        if self._budget.forget(key):
            self._requests.drop(key, waits)

    def _drain(self) -> None:
        """Wait for the step ahead, where nothing generates any more."""
        while not self._budget.generating and self._core.engine_core.batch_queue:
            self._core.get_output()
