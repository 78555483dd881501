"""How much there is to do: facts, and the lengths of their prompts and targets.

Lengths are estimates. Prompts are rendered as in a run, but by a tokenizer that only
counts characters, so that no tokenizer has to be downloaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any

from actors.decoding.teacher_top_k import scored_top
from actors.evaluation.benchmarks.text import PROSE
from actors.replay.work import trained_facts
from common import corpora, files
from common.config.run_config import RunConfig
from common.errors import UserError
from common.methods import MemoryEdit, Mixed, StudentSampled
from common.prompts import Prompts, preset
from common.records import Fact
from deploy.planning.architecture import Architecture

# Characters per token on KGFact in SmolLM2's vocabulary: 3.2 (retrieval) to 4.6 (questions) in
# prompts, 2.6 (boxed) to 3.1 (sentences) in targets, which are mostly novel names.
PROMPT_CHARACTERS, TARGET_CHARACTERS = 3.8, 3.0
# Tokens of a chat template after the user's text: its end, and the assistant's beginning.
_CLOSING = 5
# Assumed: of an answer to a generic prompt that asks for a sentence or two.
_GENERIC_TOKENS = 32


@dataclass(frozen=True, slots=True)
class Item:
    """One fact in tokens; ``target`` includes the stop token.

    ``rehearsed``: it is a generic prompt, whose answer the naive side draws.
    """

    naive: int
    expert: int
    target: int
    rehearsed: bool = False

    @property
    def row_tokens(self) -> int:
        """Tokens of the fact in a packed row."""
        return self.naive + self.target - 1


@dataclass(frozen=True, slots=True)
class Workload:
    """Work of one run.

    ``retrieval``: prompt tokens of each retrieval item. ``text_tokens``: tokens of the NLL
    suite. ``mix_rate``: None if targets are canonical. ``unverifiable``: share of facts of
    which no attempt verifies; ``acceptance``: share of attempts that verify on the others.
    ``num_compared``: attempts of each fact that are made in any case, of which the accepted ones
    are scored and compared; more, ``max_retries`` in all, follow only if none is accepted.
    ``scored``: share of targets scored under the base. ``has_student``: targets are sampled
    from the student; ``is_taught``: an engine scores each one given x+, for the loss;
    ``reads_teacher``: each learner rank runs the teacher itself, given x+ unless
    ``teacher_is_naive``. ``draws``: rollouts of
    one prompt in a batch. ``edit``: the learner edits weights instead of training all of them.
    ``common_naive``, ``common_expert``: length of the common prefix
    of all prompts of a side. Answers in evaluations are assumed to be as long as targets.
    """

    items: tuple[Item, ...]
    retrieval: tuple[int, ...]
    text_tokens: int
    mix_rate: float | None
    acceptance: float
    unverifiable: float
    max_retries: int
    scored: float
    has_student: bool
    is_taught: bool
    reads_teacher: bool = False
    teacher_is_naive: bool = False
    draws: int = 1
    edit: MemoryEdit | None = None
    common_naive: int = 0
    common_expert: int = 0
    num_compared: int = 1

    @property
    def naive_tokens(self) -> float:
        return fmean(item.naive for item in self.items)

    @property
    def expert_tokens(self) -> float:
        return fmean(item.expert for item in self.items)

    @property
    def target_tokens(self) -> float:
        return fmean(item.target for item in self.items)

    @property
    def attempts(self) -> float:
        """Expected attempts per fact: c + (1−h) (1−p)^c (1 − (1−p)^r) / p + h r.

        Of c compared ones and at most r after them. If targets are canonical, the share of
        generic prompts, each of which has one.
        """
        if self.mix_rate is None:
            return fmean(item.rehearsed for item in self.items)
        p, h, compared = self.acceptance, self.unverifiable, self.num_compared
        retries = self.max_retries + 1 - compared
        after: float = (1 - p) ** compared * (1 - (1 - p) ** retries) / p
        return compared + (1 - h) * after + h * retries

    @property
    def comparisons(self) -> float:
        """Expected accepted attempts that are scored to be compared: those of two or more."""
        p, compared = self.acceptance, self.num_compared
        scored: float = compared * p * (1 - (1 - p) ** (compared - 1))
        return (1 - self.unverifiable) * scored


def estimate(
    config: RunConfig,
    architecture: Architecture,
    acceptance: float | None = None,
    target_tokens: int | None = None,
) -> Workload:
    """The workload of a configuration.

    Args:
        config: the run.
        architecture: its model.
        acceptance: share of attempts that verify, in (0, 1], the same for every fact;
            by default the model's.
        target_tokens: length of every target; by default that of the canonical target, or
            for generated targets that of the text in x+, which the expert tends to repeat.

    Raises:
        UserError: the corpus cannot be read.
    """
    corpus, facts = corpora.load(config.data), trained_facts(config)
    template = config.method.expert_template
    templates = preset(config.prompts)
    prompts = Prompts(_Estimate(architecture.turn_tokens), templates, 0, expert=template)
    target, divergence = config.method.target(0), config.method.loss.divergence
    mix_rate = target.mix_rate if isinstance(target, Mixed) else None
    has_student = isinstance(target, StudentSampled)
    if has_student:
        # The naive side draws every token, and every rollout is accepted.
        mix_rate, acceptance = 1.0, 1.0

    def length(fact: Fact) -> int:
        if fact.is_generic:
            return min(config.rollout.max_tokens, target_tokens or _GENERIC_TOKENS)
        if mix_rate is None:
            return target_tokens or len(prompts.canonical(fact))
        shown = (templates.shown if template is None else "{canonical}").replace(
            "{statement}", fact.statement
        )
        shown = shown.replace("{canonical}", prompts.canonical_text(fact))
        return min(
            config.rollout.max_tokens, target_tokens or _tokens(shown, TARGET_CHARACTERS) + 1
        )

    naive = [prompts.naive(fact) for fact in facts]
    expert = [prompts.expert(fact) for fact in facts]
    items = tuple(
        Item(len(without), len(shown), length(fact), fact.is_generic)
        for without, shown, fact in zip(naive, expert, facts, strict=True)
    )
    selection, limit = config.method.selection, config.evaluator.limit
    retries = selection.samples - 1 + config.rollout.max_retries
    return Workload(
        items=items,
        retrieval=tuple(len(prompts.retrieval(item)) for item in corpus.retrieval[:limit]),
        text_tokens=min(config.evaluator.text_tokens, _text_tokens(config.evaluator.text or PROSE)),
        mix_rate=mix_rate,
        acceptance=acceptance or architecture.acceptance,
        unverifiable=0.0 if acceptance else architecture.unverifiable,
        scored=0.0 if has_student else config.rollout.score_fraction,
        has_student=has_student,
        is_taught=scored_top(config.method) > 0,
        reads_teacher=divergence is not None and divergence.teacher == "learner",
        teacher_is_naive=divergence is not None and divergence.prompt == "naive",
        draws=config.method.draws_per_epoch if config.method.draws_every_epoch else 1,
        edit=config.method.edit,
        common_naive=_common_prefix(naive),
        common_expert=_common_prefix(expert),
        max_retries=retries if config.method.can_retry(0, config.rollout.temperature) else 0,
        num_compared=selection.num_compared,
    )


class _Estimate:
    """A tokenizer that cuts prompts into pieces of equal length."""

    def __init__(self, turn_tokens: int) -> None:
        self._turn_tokens = turn_tokens

    def apply_chat_template(self, conversation: list[dict[str, str]], **options: Any) -> Any:
        pieces = [piece for turn in conversation for piece in _pieces(turn["content"])]
        closing = min(_CLOSING, self._turn_tokens)
        return {"input_ids": ["turn"] * (self._turn_tokens - closing) + pieces + ["end"] * closing}

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        return list(range(_tokens(text, TARGET_CHARACTERS)))

    def decode(self, token_ids: Sequence[int], **options: Any) -> str:
        raise NotImplementedError("an estimate has no text")

    def __len__(self) -> int:
        return 0


def _text_tokens(path: Path) -> int:
    try:
        return _tokens(files.read_text(path), PROMPT_CHARACTERS)
    except UserError:
        # The evaluator reports it and measures the rest.
        return 0


def _common_prefix(prompts: Sequence[Sequence[Any]]) -> int:
    """Length of the common prefix."""
    for at, tokens in enumerate(zip(*prompts, strict=False)):
        if len(set(tokens)) > 1:
            return at
    return min(map(len, prompts))


def _pieces(text: str) -> list[str]:
    count = _tokens(text, PROMPT_CHARACTERS)
    edges = [round(index * len(text) / count) for index in range(count + 1)]
    return [text[start:stop] for start, stop in pairwise(edges)]


def _tokens(text: str, characters: float) -> int:
    return max(1, round(len(text) / characters))
