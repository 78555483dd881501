"""Checks of a corpus with a run's prompts, before anything is drawn."""

from __future__ import annotations

from collections.abc import Sequence

from common.errors import UserError
from common.prompts.render import Prompts
from common.records import Fact
from common.verification.verifier import normalise, number_in


def check_answers(prompts: Prompts, facts: Sequence[Fact]) -> None:
    """Reject facts whose answer the verifier in use can never accept.

    Raises:
        UserError: names the fact, its answer and the mode.
    """
    for fact in facts:
        if not normalise(fact.answer):
            raise UserError(f"fact {fact.id}: the answer {fact.answer!r} has nothing to verify")
        if prompts.mode == "last_number" and not fact.retract and number_in(fact.answer) is None:
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
