"""Naive and expert prompts as token ids, and the canonical target.

A preset fixes four things that belong together: what is asked, what the
expert is shown, what the canonical answer looks like, and how an answer is
verified. Small models cannot follow the paper's boxed format, so they have
their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from common.errors import UserError
from common.records import Fact, RetrievalItem
from common.verify import Mode


class Tokenizer(Protocol):
    """The part of a Hugging Face tokenizer that prompts need."""

    def apply_chat_template(self, conversation: list[dict[str, str]], **options: Any) -> Any: ...
    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]: ...
    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool) -> str: ...


@dataclass(frozen=True, slots=True)
class Preset:
    """Texts with the slots ``{question}``, ``{answer}`` and ``{statement}``.

    The expert's user turn is ``ask`` + ``prefix`` + the canonical answer or
    the statement (``shown``) + ``transition`` (paper §3, guidance).
    """

    ask: str
    canonical: str
    prefix: str
    shown: str
    transition: str
    retrieval: str
    mode: Mode


_BOXED_REQUEST = "Please reason step by step, and put your final answer within \\boxed{}"

PRESETS: dict[str, Preset] = {
    # For models under about 1 B parameters.
    "short-sentence": Preset(
        ask="{question} Answer in one short sentence.",
        canonical="The answer is {answer}.",
        prefix="\nHere is the answer to this question:\n",
        shown="{statement}",
        transition="\nNow answer the question in one short sentence.",
        retrieval="{context}\n\n{question} Answer in one short sentence.",
        mode="contains",
    ),
    "kgfact": Preset(
        ask="{question} " + _BOXED_REQUEST + ".",
        canonical="The answer is {answer}. \\boxed{{{answer}}}",
        prefix="\nThis question is from a new knowledge base. "
        "Here is the answer to this question:\n",
        shown="{canonical}",
        transition="\nNow answer the question within \\boxed{}",
        retrieval="{context}\n\n{question} " + _BOXED_REQUEST + ".",
        mode="boxed",
    ),
    "reasoned": Preset(
        ask="{question}\n" + _BOXED_REQUEST + ".",
        canonical="\\boxed{{{answer}}}",
        prefix="\nHere is a reference solution to this problem, "
        "including the correct final answer:\n",
        shown="{canonical}",
        transition="\nAfter understanding the reference solution, please attempt to answer "
        "the question again:\n" + _BOXED_REQUEST,
        retrieval="{context}\n\n{question}\n" + _BOXED_REQUEST + ".",
        mode="boxed",
    ),
}


class Prompts:
    """Renders facts for one tokenizer and preset."""

    def __init__(self, tokenizer: Tokenizer, preset: Preset, end_token_id: int) -> None:
        self._tokenizer = tokenizer
        self._preset = preset
        self._end_token_id = end_token_id
        self.mode: Mode = preset.mode

    def naive(self, fact: Fact) -> list[int]:
        """x: the question alone."""
        return self._turn(self._ask(fact.question))

    def expert(self, fact: Fact) -> list[int]:
        """x+: the question, the guidance, and the fact itself."""
        preset = self._preset
        shown = preset.shown.replace("{statement}", fact.statement)
        shown = shown.replace("{canonical}", self.canonical_text(fact))
        return self._turn(self._ask(fact.question) + preset.prefix + shown + preset.transition)

    def retrieval(self, item: RetrievalItem) -> list[int]:
        """The question after statements that hold its answer among others."""
        text = self._preset.retrieval.replace("{question}", item.question)
        return self._turn(text.replace("{context}", "\n".join(item.context)))

    def user(self, text: str) -> list[int]:
        """One user turn that is exactly ``text``."""
        return self._turn(text)

    def canonical_text(self, fact: Fact) -> str:
        """y*: the corpus' own target, or the preset's wording of the answer."""
        if fact.target:
            return fact.target
        return self._preset.canonical.format(answer=fact.answer, statement=fact.statement)

    def canonical(self, fact: Fact) -> list[int]:
        """y* as token ids, closed by the token that ends a turn."""
        ids = self._tokenizer.encode(self.canonical_text(fact), add_special_tokens=False)
        return [*ids, self._end_token_id]

    def text(self, token_ids: Sequence[int]) -> str:
        """What a reader sees of generated ids."""
        return self._tokenizer.decode(token_ids, skip_special_tokens=True)

    def _ask(self, question: str) -> str:
        return self._preset.ask.replace("{question}", question)

    def _turn(self, content: str) -> list[int]:
        # enable_thinking is read by templates that know it (Qwen3), else ignored.
        encoded = self._tokenizer.apply_chat_template(
            [{"role": "user", "content": content}],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            enable_thinking=False,
        )
        return list(encoded["input_ids"])


def check_lengths(
    prompts: Prompts, facts: Sequence[Fact], max_tokens: int, max_model_len: int
) -> None:
    """Refuse facts that cannot fit the context.

    Raises:
        UserError: names the longest fact, its length and the bound.
    """
    longest, fact_id = 0, ""
    for fact in facts:
        target = max(max_tokens, len(prompts.canonical(fact)))
        prompt = max(len(prompts.naive(fact)), len(prompts.expert(fact)))
        if prompt + target > longest:
            longest, fact_id = prompt + target, fact.id
    if longest > max_model_len:
        raise UserError(
            f"fact {fact_id}: prompt and target take {longest} tokens, more than "
            f"engine.max_model_len={max_model_len}; raise it, lower rollout.max_tokens "
            "or shorten the fact"
        )
