"""Naive and expert prompts as token ids, and the canonical target.

A preset defines four things that belong together: the naive prompt, the guidance for the
expert, the format of the canonical answer, and the verifier. Small models cannot follow the
paper's boxed format, so they have a preset of their own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Protocol

from pydantic import Field, ValidationInfo, field_validator

from common.errors import UserError
from common.records import EvalItem, Fact, TokenIds
from common.settings import Settings
from common.verification.verifier import Mode, normalise, number_in


class Tokenizer(Protocol):
    """The part of a Hugging Face tokenizer that prompts need."""

    def apply_chat_template(self, conversation: list[dict[str, str]], **options: Any) -> Any: ...
    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]: ...
    def decode(self, token_ids: Sequence[int], **options: Any) -> str: ...


# Slots of each template: the allowed ones, and whether one is required.
_SLOTS: dict[str, tuple[frozenset[str], bool]] = {
    "ask": (frozenset({"question"}), True),
    "canonical": (frozenset({"answer", "statement"}), True),
    "prefix": (frozenset(), False),
    "shown": (frozenset({"canonical", "answer", "statement"}), True),
    "transition": (frozenset(), False),
}
_SLOT = re.compile(r"\{([A-Za-z_]\w*)\}")


class Preset(Settings):
    """Templates with named slots like ``{question}``; other braces are literal.

    The expert's user turn is ``ask`` + ``prefix`` + ``shown`` + ``transition``
    (paper §3, guidance). If a question has a context, ``ask`` follows it.
    """

    ask: str = Field(description="naive user turn; slot {question}")
    canonical: str = Field(description="y* without a target; slots {answer}, {statement}")
    prefix: str = Field(description="between the question and the fact; no slots")
    shown: str = Field(
        "{canonical}", description="the fact; slots {canonical}, {answer}, {statement}"
    )
    transition: str = Field(description="after the fact; no slots")
    mode: Mode = Field(description="verifier, as in rollout.verify")

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
    """The templates of a preset's name, or the given ones."""
    return PRESETS[chosen] if isinstance(chosen, str) else chosen


class Prompts:
    """Renders facts for one tokenizer and preset.

    Args:
        tokenizer: tokenizer with a chat template.
        preset: templates and verifier.
        end_token_id: token that ends an assistant turn.
        mode: verifier that replaces the preset's.
        fingerprint: identity of the tokenizer; a fact's stored token ids are used as they are
            if they have the same.
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
        """The statements of the item's context, if any, and the question."""
        context = "\n".join(item.context) + "\n\n" if item.context else ""
        return self._turn(context + self._ask(item.question))

    def user(self, text: str) -> list[int]:
        """One user turn that is exactly ``text``."""
        return self._turn(text)

    def canonical_text(self, fact: Fact) -> str:
        """y*: the corpus's target, or else the answer in the preset's wording."""
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
        """The fact's stored ids, if they are of this tokenizer."""
        ids = fact.tokens
        return ids if ids is not None and ids.tokenizer == self._fingerprint else None

    def text(self, token_ids: Sequence[int]) -> str:
        """Decode generated ids without special tokens.

        The text of a prefix is a prefix of the text, except for incomplete characters.
        """
        return self._tokenizer.decode(
            token_ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )

    def user_turn(self, fact: Fact) -> str:
        """Text of the user turn of x."""
        return self._ask(fact.question)

    def _ask(self, question: str) -> str:
        return _fill(self._preset.ask, question=question)

    def _turn(self, content: str) -> list[int]:
        # enable_thinking matters to some templates (Qwen3); others ignore it.
        encoded = self._tokenizer.apply_chat_template(
            [{"role": "user", "content": content}],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            enable_thinking=False,
        )
        return list(encoded["input_ids"])


def check_answers(prompts: Prompts, facts: Sequence[Fact]) -> None:
    """Reject facts whose answer the verifier in use can never accept.

    Raises:
        UserError: names the fact, its answer and the mode.
    """
    for fact in facts:
        if not normalise(fact.answer):
            raise UserError(f"fact {fact.id}: the answer {fact.answer!r} has nothing to verify")
        if prompts.mode == "last_number" and number_in(fact.answer) is None:
            raise UserError(
                f"fact {fact.id}: rollout.verify=last_number needs a number for an answer, not "
                f"{fact.answer!r}; use contains or boxed"
            )


def check_tokens(prompts: Prompts, facts: Sequence[Fact]) -> list[str]:
    """Reject stored token ids that do not match the fact's text.

    Returns:
        A remark if facts have token ids of another tokenizer.

    Raises:
        UserError: names the fact and the text of its ids.
    """
    foreign = 0
    for fact in facts:
        stored = prompts.stored(fact)
        if stored is None:
            foreign += fact.tokens is not None
            continue
        try:
            target, prompt = prompts.text(stored.target_ids), prompts.text(stored.prompt_ids)
        except (OverflowError, ValueError) as error:
            raise UserError(
                f"fact {fact.id}: 'tokens' contains ids that this model does not have"
            ) from error
        if target != fact.target or normalise(fact.question) not in normalise(prompt):
            raise UserError(
                f"fact {fact.id}: its token ids decode to {target!r} after {prompt!r}, which "
                "differs from 'messages'; if you changed the text, remove the key 'tokens'"
            )
    if not foreign:
        return []
    return [f"{foreign} facts have token ids of another tokenizer; their text is encoded again"]


def tokens_needed(prompts: Prompts, fact: Fact, max_tokens: int) -> int:
    """Tokens of the longer prompt and the longest target that may follow it."""
    target = max(max_tokens, len(prompts.canonical(fact)))
    return max(len(prompts.naive(fact)), len(prompts.expert(fact))) + target


def check_lengths(
    prompts: Prompts, facts: Sequence[Fact], max_tokens: int, max_model_len: int
) -> None:
    """Reject facts that do not fit the context.

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
