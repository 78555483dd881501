"""Naive and expert prompts as token ids, and the canonical target."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from common.errors import UserError
from common.prompts.presets import Preset, fill
from common.records import EvalItem, Fact, TokenIds
from common.verification.verifier import Mode


class Tokenizer(Protocol):
    """The part of a Hugging Face tokenizer that prompts need."""

    def apply_chat_template(self, conversation: list[dict[str, str]], **options: Any) -> Any: ...
    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]: ...
    def decode(self, token_ids: Sequence[int], **options: Any) -> str: ...
    def __len__(self) -> int: ...


class Prompts:
    """Renders facts for one tokenizer and preset.

    Args:
        tokenizer: tokenizer with a chat template.
        preset: templates and verifier.
        end_token_id: token that ends an assistant turn.
        mode: verifier that replaces the preset's.
        fingerprint: identity of the tokenizer; a fact's stored token ids are used as they are
            if they have the same.
        expert: the user turn of x+ that replaces the preset's; slots {question} (the user turn
            of x), {canonical}, {answer}, {statement}.

    Raises:
        UserError: the preset has a system turn, and the chat template has no place for it.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        preset: Preset,
        end_token_id: int,
        mode: Mode | None = None,
        fingerprint: str | None = None,
        expert: str | None = None,
    ) -> None:
        self._tokenizer = tokenizer
        self._fingerprint = fingerprint
        self._preset = preset
        self._end_token_id = end_token_id
        self._expert = expert or "{question}" + preset.prefix + preset.shown + preset.transition
        self.refusal = preset.refusal
        self.mode: Mode = mode or preset.mode
        if preset.system:
            self._check_system_role()

    def naive(self, fact: Fact) -> list[int]:
        """x: the question alone."""
        if (stored := self.stored(fact)) is not None:
            return list(stored.prompt_ids)
        return self._turn(self.user_turn(fact))

    def expert(self, fact: Fact) -> list[int]:
        """x+: the question, the guidance, and the fact itself; x, if there is none."""
        if fact.is_generic:
            return self.naive(fact)
        canonical = self.canonical_text(fact)
        shown = fill(
            self._expert,
            question=self._ask(fact.question),
            canonical=canonical,
            answer=canonical if fact.retract else fact.answer,
            statement=fact.statement or (canonical if fact.retract else ""),
        )
        return self._turn(shown)

    def retrieval(self, item: EvalItem) -> list[int]:
        """The statements of the item's context, if any, and the question."""
        return self._turn(self._context(item.context) + self._ask(item.question))

    def user(self, text: str) -> list[int]:
        """One user turn that is exactly ``text``, without the preset's system turn."""
        return self._chat(text)

    def canonical_text(self, fact: Fact) -> str:
        """y*: the corpus's target, or else the answer or the refusal in the preset's wording."""
        if fact.target:
            return fact.target
        if fact.retract:
            return self.refusal
        return fill(self._preset.canonical, answer=fact.answer, statement=fact.statement)

    def canonical(self, fact: Fact) -> list[int]:
        """y* as token ids, closed by the token that ends a turn; empty if the fact has none."""
        if fact.is_generic:
            return []
        if (stored := self.stored(fact)) is not None:
            return list(stored.target_ids)
        return [*self.encode(self.canonical_text(fact)), self._end_token_id]

    def encode(self, text: str) -> list[int]:
        """``text`` as token ids, outside of any turn."""
        return self._tokenizer.encode(text, add_special_tokens=False)

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

    def token_texts(self) -> Iterator[str]:
        """What each token of the vocabulary adds to a text."""
        # Some tokenizers drop the space before the first word.
        before = self._tokenizer.encode("a", add_special_tokens=False)
        text = self.text(before)
        for token in range(len(self._tokenizer)):
            yield self.text([*before, token]).removeprefix(text)

    def user_turn(self, fact: Fact) -> str:
        """Text of the user turn of x; a generic prompt is taken as it is."""
        return fact.question if fact.is_generic else self._ask(fact.question)

    def _ask(self, question: str) -> str:
        return fill(self._preset.ask, question=question)

    def _context(self, statements: Sequence[str]) -> str:
        if not statements:
            return ""
        lines = [fill(self._preset.context_line, statement=statement) for statement in statements]
        return fill(self._preset.context, lines="\n".join(lines))

    def _turn(self, user: str) -> list[int]:
        return self._chat(user, self._preset.system)

    def _chat(self, user: str, system: str = "") -> list[int]:
        turns = [{"role": "system", "content": system}] if system else []
        # enable_thinking matters to some templates (Qwen3); others ignore it.
        encoded = self._tokenizer.apply_chat_template(
            [*turns, {"role": "user", "content": user}],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            enable_thinking=False,
        )
        return list(encoded["input_ids"])

    def _check_system_role(self) -> None:
        """Some templates refuse the role, others leave its text out."""
        from jinja2 import TemplateError

        try:
            reason = "leaves it out" if self._chat("?", "A") == self._chat("?", "B") else ""
        except TemplateError as error:
            reason = f"refuses it: {error}"
        if reason:
            raise UserError(
                f"prompts: the templates have a system turn, but the model's chat template {reason}"
                "; use templates without 'system', or another model"
            )
