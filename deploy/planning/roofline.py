"""How long one piece of work takes: an engine iteration, a learner step, a checkpoint, a suite.

Each time is the larger of arithmetic and memory traffic (the roofline), plus host and
link time. All times are seconds of a process that has its device, or its CPU core, to
itself; ``simulation`` adds the waiting.
"""

from __future__ import annotations

from dataclasses import dataclass

from actors.evaluation.benchmarks import SUITES
from common.config.evaluation import EvaluatorSettings
from common.config.learner import LearnerSettings
from common.config.sections import EngineSettings
from common.methods import MemoryEdit
from deploy.planning.architecture import Architecture
from deploy.planning.devices import Device
from deploy.planning.workload import Item, Workload
from learner.packing import Example, Row, deal, pack, single

# Tokens of one window of the NLL suite.
_WINDOW = 256
# Host latency of one all-reduce among tensor-parallel ranks.
_ALLREDUCE_S = 20e-6
# Passes over the matrices: forward, and twice that backward; attention's backward
# recomputes its scores, so it is five products for two.
_TRAIN_MATRICES, _TRAIN_ATTENTION = 3.0, 3.5
# With frozen matrices, backward computes no gradient of theirs.
_FROZEN_MATRICES = 2.0
# Layers of an edit by default, and sequences of the base model's own text at a time.
EDITED_LAYERS, _SAMPLES = 5, 64
# Per parameter of one AdamW step in bfloat16: weight, gradient and its float32 copy,
# float32 master and two moments read, master, moments and weight written.
_ADAM_BYTES = 34
# Memory of the host, which DeepSpeed's CPU Adam updates, and its link to a GPU: bytes/s, assumed.
_HOST_BANDWIDTH, _HOST_LINK = 50e9, 20e9
# Bytes of one wire-format token of a rollout: 574 bytes for 69.5 tokens.
ROLLOUT_BYTES_A_TOKEN = 8.3


def bytes_each(dtype: str) -> int:
    """Bytes of one number."""
    return 4 if dtype == "float32" else 2


@dataclass(frozen=True, slots=True)
class EngineModel:
    """One vLLM engine."""

    architecture: Architecture
    device: Device
    settings: EngineSettings

    def iteration(
        self,
        requests: float,
        decoded: float,
        context: float,
        prefill: float = 0.0,
        scored: float = 0.0,
    ) -> float:
        """Seconds of one engine iteration.

        A CPU core alternates between reading the weights and multiplying; a GPU overlaps
        the two.

        Args:
            requests: draw one token each.
            decoded: tokens computed for those draws.
            context: positions that each token attends to.
            prefill: further tokens computed, of prompts or for scoring.
            scored: those of them that go through the head.
        """
        arch, device, tp = self.architecture, self.device, self.settings.tensor_parallel_size
        width = bytes_each(self.settings.resolved_dtype)
        arithmetic = device.slowdown(self.settings.resolved_dtype) * (
            arch.forward_flops(decoded + prefill, 0, context) / device.body_flops
            + arch.forward_flops(0, requests, 0) / device.draw_flops
            + arch.forward_flops(0, scored, 0) / device.score_flops
        )
        traffic = arch.parameters * width + requests * context * arch.kv_bytes(width)
        reading = traffic / device.bandwidth
        seconds = (arithmetic + reading if device.is_cpu else max(arithmetic, reading)) / tp
        if tp > 1:
            exchanged = 2 * (tp - 1) / tp * (decoded + prefill) * arch.hidden * width
            seconds += 2 * arch.layers * (_ALLREDUCE_S + exchanged / device.link)
        return seconds + device.iteration_s + device.request_s * requests

    def start(self) -> float:
        """Seconds of work from the process' start to ready."""
        return self.device.engine_start_s + self.load()

    def load(self) -> float:
        """Seconds to read the weights."""
        width = bytes_each(self.settings.resolved_dtype)
        return self.architecture.parameters * width / self.device.load

    def suites(self, settings: EvaluatorSettings, workload: Workload) -> dict[str, float]:
        """Seconds of each benchmark on every checkpoint; unknown benchmarks are left out."""
        wanted = [name for suite in sorted(settings.always) for name in SUITES.get(suite, (suite,))]
        known = {
            "recall": [item.naive for item in workload.items],
            "retrieval": list(workload.retrieval),
        }
        seconds: dict[str, float] = {
            suite: self._questions(known[suite], settings, workload.target_tokens)
            for suite in wanted
            if known.get(suite)
        }
        if "text_nll" in wanted and workload.text_tokens:
            text = workload.text_tokens
            seconds["text_nll"] = self._prefill(text, text, _WINDOW / 2)
        return seconds

    def _questions(self, prompts: list[int], settings: EvaluatorSettings, response: float) -> float:
        mean = sum(prompts) / len(prompts)
        response = min(response, settings.response_tokens("recall"))
        requests = min(settings.slots, len(prompts))
        waves = len(prompts) / requests
        decode = self.iteration(requests, requests, mean + response / 2)
        return waves * response * decode + self._prefill(sum(prompts), len(prompts), mean / 2)

    def _prefill(self, tokens: float, scored: float, context: float) -> float:
        chunks = max(1.0, tokens / self.settings.max_batched_tokens)
        return chunks * self.iteration(0, 0, context, tokens / chunks, scored / chunks)


@dataclass(frozen=True, slots=True)
class AttemptCost:
    """Expected tokens that an engine computes for one attempt.

    A drawn token enters the KV cache of the side that drew it, and that of the other
    side if it draws again later. So a side computes as many target tokens as the
    position of its last pick.
    """

    workload: Workload

    def passes(self, length: int) -> float:
        """Target tokens computed per drawn token, in [1, 2]."""
        naive = self.workload.mix_rate or 0.0
        return max(1.0, (last_pick(naive, length) + last_pick(1 - naive, length)) / length)

    def prefill(self, item: Item) -> float:
        """Expected prompt tokens of a fact's first attempt: a side never picked costs nothing."""
        naive = self.workload.mix_rate or 0.0
        return (1 - (1 - naive) ** item.target) * item.naive + (1 - naive**item.target) * (
            item.expert
        )

    @property
    def context(self) -> float:
        """Mean positions that a token of an attempt attends to."""
        naive = self.workload.mix_rate or 0.0
        prompt = naive * self.workload.naive_tokens + (1 - naive) * self.workload.expert_tokens
        return prompt + self.workload.target_tokens / 2


def last_pick(rate: float, length: int) -> float:
    """Expected position, from 1, of the last success in ``length`` Bernoulli(rate) trials.

    0 if there is none: length − (1−q)(1 − (1−q)^length) / q.
    """
    if rate == 0:
        return 0.0
    miss = 1 - rate
    return float(length - miss * (1 - miss**length) / rate)


def iterations_per_rollout(workload: Workload) -> float:
    """Engine iterations in which a rollout holds a slot; 0 if nothing is drawn or scored."""
    length = max(1, round(workload.target_tokens))
    return workload.attempts * length + workload.scored + workload.is_taught + workload.comparisons


def rollouts_per_second(engine: EngineModel, workload: Workload, slots: int) -> float:
    """Rollouts/s that one engine with full slots accepts, with an instant queue.

    Steady state: prefill and scoring are spread evenly over the iterations.
    """
    cost = AttemptCost(workload)
    length = max(1, round(workload.target_tokens))
    mean = Item(round(workload.naive_tokens), round(workload.expert_tokens), length)
    scored = score_tokens(mean, workload)
    steps = iterations_per_rollout(workload)
    if steps == 0:
        return float("inf")
    per_step = slots / steps
    requests = per_step * workload.attempts * length
    prefill = per_step * (cost.prefill(mean) if workload.attempts else 0)
    return per_step / engine.iteration(
        round(requests),
        requests * cost.passes(length),
        cost.context,
        prefill + per_step * scored,
        per_step * scored,
    )


def score_tokens(item: Item, workload: Workload) -> float:
    """Expected tokens of the scoring passes of one rollout: what is compared, its target and
    the canonical one under the base, and its target given x+ where an engine is the teacher."""
    passes = (1 if workload.mix_rate is None else 2) * workload.scored + workload.comparisons
    taught = workload.is_taught * (item.expert + item.target)
    return passes * (item.naive + item.target) + taught


@dataclass(frozen=True, slots=True)
class PackedRow:
    """A learner's row: its tokens, its targets, and the mean positions that a token attends to.

    Attention computes each block of a row in full, including the prompt that it shares.
    """

    tokens: int
    targets: int
    context: float

    @classmethod
    def of(cls, row: Row) -> PackedRow:
        """The sizes of a row that the learner packed."""
        pairs = sum(
            (block.stop - block.start) * (block.stop - block.start + block.context_tokens)
            for block in row.blocks
        )
        tokens = len(row.inputs_T)
        return cls(tokens, len(row.targets_K), pairs / tokens)


@dataclass(frozen=True, slots=True)
class LearnerModel:
    """All ranks of the learner."""

    architecture: Architecture
    device: Device
    settings: LearnerSettings

    def step(self, workload: Workload) -> float:
        """Seconds of one optimizer step on a batch of the workload's lengths."""
        if workload.edit is not None:
            return self._edit(workload, workload.edit)
        dealt = self._dealt(workload)
        slowest = max(sum(self._row(PackedRow.of(row)) for row in rank) for rank in dealt)
        taught = 0.0
        if workload.reads_teacher:
            taught = max(sum(self._read(row, workload) for row in rank) for rank in dealt)
        exchanged = self._exchange(max(1, *map(len, dealt)))
        return slowest + taught + self._optimizer() + exchanged

    def rows(self, workload: Workload) -> list[list[PackedRow]]:
        """The rows of each rank, packed as in the learner."""
        return [[PackedRow.of(row) for row in rank] for rank in self._dealt(workload)]

    def tokens(self, workload: Workload) -> int:
        """Prompt and target tokens of a step."""
        return sum(row.tokens for rank in self.rows(workload) for row in rank)

    def snapshot(self, with_state: bool) -> float:
        """Seconds in which training pauses for a checkpoint: a copy of what it has."""
        return (self.state_bytes if with_state else self.export_bytes) / self.device.bandwidth

    def checkpoint(self, with_state: bool) -> float:
        """Seconds to write and hash the export, and the state to resume from if it has one."""
        return (self.export_bytes + with_state * self.state_bytes) / self.device.write

    @property
    def export_bytes(self) -> int:
        """Bytes of the Hugging Face export."""
        return self.architecture.parameters * bytes_each(self.settings.resolved_dtype)

    @property
    def state_bytes(self) -> int:
        """Bytes of the resumable state: weights, two moments and, for bfloat16, a master copy."""
        optimizer = 12 if self.settings.resolved_dtype == "bfloat16" else 8
        weights = 0 if self.settings.lora is not None else self.export_bytes
        return weights + optimizer * self._trained

    @property
    def _trained(self) -> int:
        return self.architecture.trained(self.settings)

    def start(self) -> float:
        """Seconds of work from the process' start to ready."""
        width = bytes_each(self.settings.resolved_dtype)
        loading = self.architecture.parameters * width / self.device.load
        return self.device.learner_start_s + loading

    def _dealt(self, workload: Workload) -> list[list[Row]]:
        common = workload.common_naive
        batch = [_example(at, item.naive, common, item) for at, item in self._batch(workload)]
        dealt = deal(batch, self.settings)
        return [[row for row in rank if row is not None] for rank in dealt]

    def _batch(self, workload: Workload) -> list[tuple[int, Item]]:
        """A batch of items spread over the corpus, each with the number of its prompt."""
        count, draws = self.settings.batch_size, workload.draws
        stride = max(1, len(workload.items) * draws // count)
        chosen = workload.items[::stride]
        numbers = (index // draws % len(chosen) for index in range(count))
        return [(number, chosen[number]) for number in numbers]

    def _edit(self, workload: Workload, edit: MemoryEdit) -> float:
        """The steps that find hidden states, then the covariance and one pass for each layer.

        The closed form itself is not counted. The covariance is computed in the first edit only.
        """
        (rows,) = self.rows(workload)
        found = sum(self._passes(row, _FROZEN_MATRICES, _TRAIN_ATTENTION) for row in rows)
        written = EDITED_LAYERS * sum(self._passes(row, 1.0, 1.0) for row in rows)
        context = _WINDOW / 2
        old = self._passes(PackedRow(edit.tokens, 0, context), 1.0, 1.0)
        if edit.text is None:
            drawn = self._passes(PackedRow(_SAMPLES, _SAMPLES, context), 1.0, 1.0)
            old += edit.tokens / _SAMPLES * drawn
        return edit.gradient_steps * found + written + old

    def _row(self, row: PackedRow) -> float:
        again = 1.0 if self.settings.gradient_checkpointing else 0.0
        matrices = _TRAIN_MATRICES if self.settings.lora is None else _FROZEN_MATRICES
        return self._passes(row, matrices + again, _TRAIN_ATTENTION + again)

    def _read(self, row: Row, workload: Workload) -> float:
        """The teacher's forward pass over a row's targets, each given its x+, or over the row."""
        if workload.teacher_is_naive:
            return self._passes(PackedRow.of(row), 1.0, 1.0)
        batch = self._batch(workload)
        members = [batch[member] for member in row.members]
        common = workload.common_expert
        examples = [_example(number, item.expert, common, item) for number, item in members]
        return sum(self._passes(PackedRow.of(read), 1.0, 1.0) for read in self._pack(examples))

    def _pack(self, examples: list[Example]) -> list[Row]:
        settings = self.settings
        if not settings.pack:
            return single(examples)
        return pack(examples, settings.row_tokens, share_prompts=settings.share_prompts)

    def _passes(self, row: PackedRow, over_matrices: float, over_attention: float) -> float:
        arch, settings, device = self.architecture, self.settings, self.device
        matrices = arch.forward_flops(row.tokens, row.targets, 0)
        attention = arch.forward_flops(row.tokens, row.targets, row.context) - matrices
        flops = over_matrices * matrices + over_attention * attention
        arithmetic = flops * device.slowdown(settings.resolved_dtype) / device.train_flops
        traffic = over_matrices * arch.parameters * bytes_each(settings.resolved_dtype)
        return max(arithmetic, traffic / device.bandwidth) + device.pass_s * arch.layers

    def _optimizer(self) -> float:
        shards = self.settings.ranks if self.settings.zero_stage >= 1 else 1
        mine = self._trained / shards
        if self.settings.offload == "none":
            return mine * _ADAM_BYTES / self.device.bandwidth
        # The host is shared by all ranks; gradients go there and weights come back.
        moved = 2 * mine * bytes_each(self.settings.resolved_dtype) / _HOST_LINK
        return moved + self._trained * _ADAM_BYTES / _HOST_BANDWIDTH

    def _exchange(self, rows: int) -> float:
        """Seconds on the links, as a ring: (n−1)/n of the parameters per collective.

        Gradients are reduced and weights or gradients gathered once; ZeRO-3 gathers
        the weights again for each row, forward and backward. No overlap is assumed.
        """
        ranks, stage = self.settings.ranks, self.settings.zero_stage
        if ranks == 1:
            return 0.0
        gathered = 2 * rows * self.architecture.parameters if stage == 3 else self._trained
        size = (self._trained + gathered) * bytes_each(self.settings.resolved_dtype)
        return (ranks - 1) / ranks * size / self.device.link


def _example(number: int, prompt_tokens: int, common: int, item: Item) -> Example:
    """An example to pack; of its tokens only the position where prompts diverge matters."""
    return [-1] * common + [number] * (prompt_tokens - common), range(item.target)
