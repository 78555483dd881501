"""The rows of IFEval: a prompt, its instructions, and arguments that its checks can use."""

from __future__ import annotations

import reprlib
from typing import Any, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from actors.evaluation.benchmarks.sources import Row
from common.settings import Filled

Relation = Literal["at least", "less than"]

# What each check cannot do without.
NEEDS: dict[str, tuple[str, ...]] = {
    "keywords:existence": ("keywords",),
    "keywords:frequency": ("keyword", "frequency"),
    "keywords:forbidden_words": ("forbidden_words",),
    "keywords:letter_frequency": ("letter", "let_frequency"),
    "language:response_language": ("language",),
    "length_constraints:number_sentences": ("num_sentences",),
    "length_constraints:number_paragraphs": ("num_paragraphs",),
    "length_constraints:number_words": ("num_words",),
    "length_constraints:nth_paragraph_first_word": (
        *("nth_paragraph", "num_paragraphs", "first_word"),
    ),
    "detectable_content:number_placeholders": ("num_placeholders",),
    "detectable_content:postscript": ("postscript_marker",),
    "detectable_format:number_bullet_lists": ("num_bullets",),
    "detectable_format:constrained_response": (),
    "detectable_format:number_highlighted_sections": ("num_highlights",),
    "detectable_format:multiple_sections": ("section_spliter", "num_sections"),
    "detectable_format:json_format": (),
    "detectable_format:title": (),
    "combination:two_responses": (),
    "combination:repeat_prompt": ("prompt_to_repeat",),
    "startend:end_checker": ("end_phrase",),
    "startend:quotation": (),
    "change_case:capital_word_frequency": ("capital_frequency",),
    "change_case:english_capital": (),
    "change_case:english_lowercase": (),
    "punctuation:no_comma": (),
}


class Arguments(Row):
    """The arguments of one instruction; those of others are absent, in some copies None."""

    model_config = ConfigDict(strict=True)

    capital_frequency: int | None = None
    capital_relation: Relation | None = None
    end_phrase: Filled | None = None
    first_word: Filled | None = None
    forbidden_words: list[Filled] | None = Field(None, min_length=1)
    frequency: int | None = None
    keyword: Filled | None = None
    keywords: list[Filled] | None = Field(None, min_length=1)
    language: Filled | None = None
    let_frequency: int | None = None
    let_relation: Relation | None = None
    letter: str | None = Field(None, min_length=1, max_length=1)
    nth_paragraph: int | None = Field(None, ge=1)
    num_bullets: int | None = None
    num_highlights: int | None = None
    num_paragraphs: int | None = None
    num_placeholders: int | None = None
    num_sections: int | None = None
    num_sentences: int | None = None
    num_words: int | None = None
    postscript_marker: Filled | None = None
    prompt_to_repeat: Filled | None = None
    relation: Relation | None = None
    section_spliter: Filled | None = None


class Instructed(Row):
    """A row."""

    key: int | str
    prompt: Filled
    instruction_id_list: tuple[str, ...] = Field(min_length=1)
    kwargs: tuple[Arguments | None, ...]

    @property
    def instructions(self) -> list[tuple[str, dict[str, Any] | None]]:
        """Each instruction and its arguments."""
        dumped = [
            None if one is None else one.model_dump(exclude_unset=True) for one in self.kwargs
        ]
        return list(zip(self.instruction_id_list, dumped, strict=True))

    @model_validator(mode="after")
    def _every_instruction_can_be_checked(self) -> Self:
        if len(self.kwargs) != len(self.instruction_id_list):
            raise ValueError("kwargs and instruction_id_list differ in length")
        for name, arguments in self.instructions:
            if name not in NEEDS:
                raise ValueError(f"instruction_id_list: no check for {reprlib.repr(name)}")
            missing = [key for key in NEEDS[name] if (arguments or {}).get(key) is None]
            if missing:
                raise ValueError(f"kwargs: {name} needs {missing[0]!r}")
        return self
