"""Templates of prompts and answers, and the presets that the configuration knows by name.

A preset defines what belongs together: the naive prompt, the guidance for the expert, the
format of the canonical answer, the context block of retrieval questions, and the verifier.
Small models cannot follow the paper's boxed format, so they have a preset of their own.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from common.settings import Filled, Settings
from common.verification.verifier import Mode

# Slots of each template: the allowed ones, and whether one is required.
_SLOTS: dict[str, tuple[frozenset[str], bool]] = {
    "system": (frozenset(), False),
    "ask": (frozenset({"question"}), True),
    "canonical": (frozenset({"answer", "statement"}), True),
    "prefix": (frozenset(), False),
    "shown": (frozenset({"canonical", "answer", "statement"}), True),
    "transition": (frozenset(), False),
    "context": (frozenset({"lines"}), True),
    "context_line": (frozenset({"statement"}), True),
}
_SLOT = re.compile(r"\{([A-Za-z_]\w*)\}")


class Preset(Settings):
    """Templates with named slots like ``{question}``; other braces are literal.

    The expert's user turn is ``ask`` + ``prefix`` + ``shown`` + ``transition``
    (paper §3, guidance). If a question has a context, ``context`` comes before ``ask``.
    """

    system: str = Field("", description="system turn before the user turn; empty: none")
    ask: str = Field(description="naive user turn; slot {question}")
    canonical: str = Field(description="y* without a target; slots {answer}, {statement}")
    refusal: Filled = Field("I do not know.", description="y* of a retracted fact; no slots")
    prefix: str = Field(description="between the question and the fact; no slots")
    shown: str = Field(
        "{canonical}", description="the fact; slots {canonical}, {answer}, {statement}"
    )
    transition: str = Field(description="after the fact; no slots")
    context: str = Field("{lines}\n\n", description="block above the question; slot {lines}")
    context_line: str = Field("{statement}", description="its line; slot {statement}")
    mode: Mode = Field(description="verifier, as in rollout.verify")

    @field_validator(*_SLOTS)
    @classmethod
    def _slots(cls, template: str, info: ValidationInfo) -> str:
        known, needs_one = _SLOTS[str(info.field_name)]
        return check_slots(template, known, needs_one)


def check_slots(template: str, known: Collection[str], needs_one: bool) -> str:
    """The template, if its slots are among ``known``, and it has one where it needs one.

    Raises:
        ValueError: names the slots.
    """
    listed = ", ".join(f"{{{slot}}}" for slot in sorted(known)) or "none"
    found = _SLOT.findall(template)
    unknown = [slot for slot in found if slot not in known]
    if unknown:
        raise ValueError(f"unknown slot {{{unknown[0]}}}; slots here: {listed}")
    if needs_one and not found:
        raise ValueError(f"a slot is missing; slots here: {listed}")
    return template


def fill(template: str, **values: str) -> str:
    """Fill slots in one pass, so that braces of a value are never read as slots."""
    return _SLOT.sub(lambda slot: values.get(slot[1], slot[0]), template)


PresetName = Literal[
    "short-sentence", "kgfact", "reasoned", "paper-kgfact", "paper-kgfunc", "paper-simpleqa"
]

_BOXED_REQUEST = "Please reason step by step, and put your final answer within \\boxed{}"
_NEW_KNOWLEDGE = (
    "\nThis question is from a new knowledge base. Here is the answer to this question:\n"
)
_REFERENCE = "\nHere is a reference solution to this problem, including the correct final answer:\n"
_AGAIN = (
    "\nAfter understanding the reference solution, please attempt to answer the question again:\n"
    + _BOXED_REQUEST
)

_OURS: dict[str, Preset] = {
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
        prefix=_NEW_KNOWLEDGE,
        transition="\nNow answer the question within \\boxed{}",
        mode="boxed",
    ),
    "reasoned": Preset(
        ask="{question}\n" + _BOXED_REQUEST + ".",
        canonical="\\boxed{{answer}}",
        prefix=_REFERENCE,
        transition=_AGAIN,
        mode="boxed",
    ),
}

# The paper's released code, byte for byte: requests and answers from its data generators, the
# guidance from its samplers, which put one more line break before the fact. A run has one prompt
# for drawing, training and evaluation. So it differs from the released code in two points, which
# - configures the system turn for training only (KGFunc; SimpleQA's file is empty), and draws
#   MixSD's targets and evaluates without it;
# - writes ``\boxed{{}}`` in the guidance of OPSD on KGFact and KGFunc.
_PAPER: dict[str, Preset] = {
    # Also MQuAKE.
    "paper-kgfact": Preset(
        ask="{question}\n\n" + _BOXED_REQUEST + ".",
        canonical="The answer is {answer}.\n\n\\boxed{{answer}}",
        prefix=_NEW_KNOWLEDGE + "\n",
        transition="\nNow answer the question within \\boxed{}",
        context="Background information:\n{lines}\n\n",
        context_line="- {statement}",
        mode="boxed",
    ),
    "paper-kgfunc": Preset(
        system="You are a helpful assistant that solves math problems involving custom "
        "operations on digits. Think step by step, and put your final answer within \\boxed{}.",
        ask="{question}\n\n" + _BOXED_REQUEST + ".",
        canonical="The answer is {answer}.\n\n\\boxed{{answer}}",
        prefix=_REFERENCE + "\n",
        transition=_AGAIN,
        mode="boxed_or_last_number",
    ),
    "paper-simpleqa": Preset(
        ask="{question}\n\nAnswer the question concisely. Put your final answer within \\boxed{}.",
        canonical="\\boxed{{answer}}",
        prefix=_REFERENCE + "\n",
        transition=_AGAIN,
        mode="boxed",
    ),
}

PRESETS: dict[str, Preset] = _OURS | _PAPER


def preset(chosen: str | Preset) -> Preset:
    """The templates of a preset's name, or the given ones."""
    return PRESETS[chosen] if isinstance(chosen, str) else chosen
