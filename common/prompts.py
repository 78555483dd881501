"""Naive and expert prompts as token ids, and the canonical target.

A preset fixes four things that belong together: what is asked, what the
expert is shown, what the canonical answer looks like, and how an answer is
verified. Small models cannot follow the paper's boxed format, so they have
their own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from common.errors import UserError
from common.records import EvalItem, Fact, TokenIds
from common.verification.verifier import Mode, normalise, number_in


class Tokenizer(Protocol):
    """The part of a Hugging Face tokenizer that prompts need."""

    def apply_chat_template(self, conversation: list[dict[str, str]], **options: Any) -> Any: ...
    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]: ...
    def decode(self, token_ids: Sequence[int], **options: Any) -> str: ...


# Slots of each template: those it may have, and whether it needs one of them.
_SLOTS: dict[str, tuple[frozenset[str], bool]] = {
    "ask": (frozenset({"question"}), True),
    "canonical": (frozenset({"answer", "statement"}), True),
    "prefix": (frozenset(), False),
    "shown": (frozenset({"canonical", "answer", "statement"}), True),
    "transition": (frozenset(), False),
}
_SLOT = re.compile(r"\{([A-Za-z_]\w*)\}")


class Preset(BaseModel):
    """Templates with named slots like ``{question}``; other braces stand for themselves.

    The expert's user turn is ``ask`` + ``prefix`` + ``shown`` + ``transition``
    (paper §3, guidance). A question with a context is ``ask`` below it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    ask: str = Field(description="the naive user turn; slot {question}")
    canonical: str = Field(description="y* without a target; slots {answer}, {statement}")
    prefix: str = Field(description="between question and the fact shown; no slots")
    shown: str = Field("{canonical}", description="slots {canonical}, {answer}, {statement}")
    transition: str = Field(description="after the fact shown; no slots")
    mode: Mode = Field(description="how a response is verified: contains, boxed or exact")

    @field_validator("ask", "canonical", "prefix", "shown", "transition")
    @classmethod
    def _slots(cls, template: str, info: ValidationInfo) -> str:
        known, needs_one = _SLOTS[str(info.field_name)]
        listed = ", ".join(f"{{{slot}}}" for slot in sorted(known)) or "none"
        found = _SLOT.findall(template)
        unknown = [slot for slot in found if slot not in known]
        if unknown:
            raise ValueError(f"unknown slot {{{unknown[0]}}}; slots here: {listed}")
        if needs_one and not found:
            raise ValueError(f"a slot is missing; slots here: {listed}")
        return template


def _fill(template: str, **values: str) -> str:
    """Fill slots in one pass, so that braces of a value are never read as slots."""
    return _SLOT.sub(lambda slot: values.get(slot[1], slot[0]), template)


_BOXED_REQUEST = "Please reason step by step, and put your final answer within \\boxed{}"

PRESETS: dict[str, Preset] = {
    # For models under about 1 B parameters.
    "short-sentence": Preset(
        ask="{question} Answer in one short sentence.",
        canonical="The answer is {answer}.",
        prefix="\nHere is the answer to this question:\n",
        shown="{statement}",
        transition="\nNow answer the question in one short sentence.",
        mode="contains",
    ),
    "kgfact": Preset(
        ask="{question} " + _BOXED_REQUEST + ".",
        canonical="The answer is {answer}. \\boxed{{answer}}",
        prefix="\nThis question is from a new knowledge base. "
        "Here is the answer to this question:\n",
        transition="\nNow answer the question within \\boxed{}",
        mode="boxed",
    ),
    "reasoned": Preset(
        ask="{question}\n" + _BOXED_REQUEST + ".",
        canonical="\\boxed{{answer}}",
        prefix="\nHere is a reference solution to this problem, "
        "including the correct final answer:\n",
        transition="\nAfter understanding the reference solution, please attempt to answer "
        "the question again:\n" + _BOXED_REQUEST,
        mode="boxed",
    ),
}


def preset(chosen: str | Preset) -> Preset:
    """The templates that a configuration names or brings."""
    return PRESETS[chosen] if isinstance(chosen, str) else chosen


class Prompts:
    """Renders facts for one tokenizer and preset; ``mode`` replaces the preset's verdict.

    Token ids that a fact brings are taken as they are where ``fingerprint`` says that
    they are of this tokenizer.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        preset: Preset,
        end_token_id: int,
        mode: Mode | None = None,
        fingerprint: str | None = None,
    ) -> None:
        self._tokenizer = tokenizer
        self._fingerprint = fingerprint
        self._preset = preset
        self._end_token_id = end_token_id
        self.mode: Mode = mode or preset.mode

    def naive(self, fact: Fact) -> list[int]:
        """x: the question alone."""
        if (stored := self.stored(fact)) is not None:
            return list(stored.prompt_ids)
        return self._turn(self._ask(fact.question))

    def expert(self, fact: Fact) -> list[int]:
        """x+: the question, the guidance, and the fact itself."""
        preset = self._preset
        shown = _fill(
            preset.shown,
            canonical=self.canonical_text(fact),
            answer=fact.answer,
            statement=fact.statement,
        )
        return self._turn(self._ask(fact.question) + preset.prefix + shown + preset.transition)

    def retrieval(self, item: EvalItem) -> list[int]:
        """The question, after the statements of its context where it has one."""
        context = "\n".join(item.context) + "\n\n" if item.context else ""
        return self._turn(context + self._ask(item.question))

    def user(self, text: str) -> list[int]:
        """One user turn that is exactly ``text``."""
        return self._turn(text)

    def canonical_text(self, fact: Fact) -> str:
        """y*: the corpus' own target, or the preset's wording of the answer."""
        if fact.target:
            return fact.target
        return _fill(self._preset.canonical, answer=fact.answer, statement=fact.statement)

    def canonical(self, fact: Fact) -> list[int]:
        """y* as token ids, closed by the token that ends a turn."""
        if (stored := self.stored(fact)) is not None:
            return list(stored.target_ids)
        ids = self._tokenizer.encode(self.canonical_text(fact), add_special_tokens=False)
        return [*ids, self._end_token_id]

    def stored(self, fact: Fact) -> TokenIds | None:
        """The ids that the fact brings, if they are of this tokenizer."""
        ids = fact.tokens
        return ids if ids is not None and ids.tokenizer == self._fingerprint else None

    def text(self, token_ids: Sequence[int]) -> str:
        """What a reader sees of generated ids.

        The text of a prefix is a prefix of the text, but for characters that are not whole yet.
        """
        return self._tokenizer.decode(
            token_ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )

    def user_turn(self, fact: Fact) -> str:
        """What the user says in x."""
        return self._ask(fact.question)

    def _ask(self, question: str) -> str:
        return _fill(self._preset.ask, question=question)

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


def check_answers(prompts: Prompts, facts: Sequence[Fact]) -> None:
    """Refuse facts whose answer no response can give under the verdict in use.

    Raises:
        UserError: names the fact, its answer and the mode.
    """
    for fact in facts:
        if not normalise(fact.answer):
            raise UserError(f"fact {fact.id}: the answer {fact.answer!r} holds nothing to verify")
        if prompts.mode == "last_number" and number_in(fact.answer) is None:
            raise UserError(
                f"fact {fact.id}: rollout.verify=last_number needs a number for an answer, not "
                f"{fact.answer!r}; use contains or boxed"
            )


def check_tokens(prompts: Prompts, facts: Sequence[Fact]) -> list[str]:
    """Refuse stored token ids that are not those of the fact's text; remarks on others.

    Raises:
        UserError: names the fact and what its ids say.
    """
    foreign = 0
    for fact in facts:
        stored = prompts.stored(fact)
        if stored is None:
            foreign += fact.tokens is not None
            continue
        try:
            told, asked = prompts.text(stored.target_ids), prompts.text(stored.prompt_ids)
        except (OverflowError, ValueError) as error:
            raise UserError(f"fact {fact.id}: 'tokens' holds no ids of this model") from error
        if told != fact.target or normalise(fact.question) not in normalise(asked):
            raise UserError(
                f"fact {fact.id}: its token ids say {told!r} after {asked!r}, not what stands in "
                "'messages'; where the text was changed, remove the key 'tokens'"
            )
    if not foreign:
        return []
    return [f"{foreign} facts bring token ids of another tokenizer; their text is encoded anew"]


def tokens_needed(prompts: Prompts, fact: Fact, max_tokens: int) -> int:
    """Tokens of the longer prompt and the longest target that may follow it."""
    target = max(max_tokens, len(prompts.canonical(fact)))
    return max(len(prompts.naive(fact)), len(prompts.expert(fact))) + target


def check_lengths(
    prompts: Prompts, facts: Sequence[Fact], max_tokens: int, max_model_len: int
) -> None:
    """Refuse facts that cannot fit the context.

    Raises:
        UserError: names the longest fact, its length and the bound.
    """
    longest, fact_id = max((tokens_needed(prompts, fact, max_tokens), fact.id) for fact in facts)
    if longest > max_model_len:
        raise UserError(
            f"fact {fact_id}: prompt and target take {longest} tokens, more than "
            f"engine.max_model_len={max_model_len}; raise it, lower rollout.max_tokens "
            "or shorten the fact"
        )
