"""Prompts over a tokenizer whose tokens are characters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from actors.evaluation.benchmarks.base import Materials
from common.config.evaluation import EvaluatorSettings
from common.corpora import Corpus
from common.prompts import PRESETS, Prompts


class Letters:
    """A tokenizer whose tokens are characters."""

    def apply_chat_template(self, conversation: list[dict[str, str]], **options: Any) -> Any:
        return {"input_ids": self.encode(conversation[-1]["content"], add_special_tokens=False)}

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        return [ord(letter) for letter in text]

    def decode(self, token_ids: Sequence[int], **options: Any) -> str:
        return "".join(map(chr, token_ids))


def materials(corpus: Corpus | None = None, **settings: Any) -> Materials:
    letters = Letters()
    return Materials(
        Prompts(letters, PRESETS["kgfact"], 0),
        lambda text: letters.encode(text, add_special_tokens=False),
        corpus or Corpus([], []),
        EvaluatorSettings(**settings),
        seed=0,
    )
