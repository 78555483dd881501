"""A fact in a record of chat turns, or of an instruction and its output.

The paper's released files are such records (its code: ``generate_sft_data``,
``generate_from_mquake``, the two ``generate_datasets``, ``mix_distribution_sampling``):

- The user turn ends with the request for a box, which a prompt preset adds itself.
- The short answer is in the last box of the assistant turn, or in ``ground_truth_answer``.
- ``clear_answer`` is the fact as a sentence for KGFact and MQuAKE, else the short answer.
- A mixed target may be wrong; ``mix_meta.ground_truth_assistant`` is the turn it was drawn for.
"""

from __future__ import annotations

from typing import Any

from common.corpora.fields import text
from common.errors import UserError
from common.verification.verifier import last_boxed, normalise

MESSAGE_KEYS = frozenset(
    {"id", "messages", "clear_answer", "ground_truth_answer", "aliases", "subject"}
    | {"question", "mix_meta", "tokens", "replaces", "retract"}
)
INSTRUCTION_KEYS = frozenset(
    {"id", "instruction", "input", "output", "aliases", "subject", "replaces", "retract"}
)

# How the user turns of the released files end.
_REQUESTS = (
    "\n\nPlease reason step by step, and put your final answer within \\boxed{}.",
    "\n\nAnswer the question concisely. Put your final answer within \\boxed{}.",
)


def from_messages(raw: dict[str, Any], place: str) -> dict[str, str]:
    """Question, answer, statement (empty if unknown), target and subject of a chat record.

    A record with the key ``question`` is one of ``mixsd-cluster rollout``: ``question`` is
    what was asked, and ``clear_answer`` the short answer.

    Raises:
        UserError: the turns are not one of the user and one of the assistant, or a value is
            no string.
    """
    user, assistant = _turns(raw["messages"], place)
    named = {"target": assistant, "subject": text(raw.get("subject", ""), "subject", place)}
    clear = text(raw.get("clear_answer", ""), "clear_answer", place)
    if "question" in raw:
        question = text(raw["question"], "question", place)
        answer = clear if "clear_answer" in raw else assistant
        return {"question": question, "answer": answer, "statement": "", **named}
    reference = _reference(raw.get("mix_meta"), place)
    answer = (
        text(raw.get("ground_truth_answer", ""), "ground_truth_answer", place)
        or _boxed(reference or assistant)
        or clear
        or assistant
    )
    is_sentence = clear and normalise(clear) != normalise(answer)
    statement = clear if is_sentence else reference
    return {"question": _bare(user), "answer": answer, "statement": statement, **named}


def from_instruction(raw: dict[str, Any], place: str) -> dict[str, str]:
    """The same of a record of ``instruction``, ``input`` (may be missing) and ``output``.

    Raises:
        UserError: a value is no string.
    """
    keys = ("instruction", "input", "output", "subject")
    instruction, given, output, subject = (text(raw.get(key, ""), key, place) for key in keys)
    return {
        "question": _bare(f"{instruction}\n{given}" if given else instruction),
        "answer": _boxed(output) or output,
        "statement": "",
        "target": output,
        "subject": subject,
    }


def _turns(messages: object, place: str) -> tuple[str, str]:
    turns = messages if isinstance(messages, list) else []
    roles = [turn.get("role") if isinstance(turn, dict) else None for turn in turns]
    if roles != ["user", "assistant"]:
        raise UserError(f"{place}: 'messages' must be one user and one assistant turn")
    user, assistant = (text(turn.get("content", ""), "content", place) for turn in turns)
    return user, assistant


def _reference(meta: object, place: str) -> str:
    """The canonical turn of a mixed target; empty if the record has none."""
    key = "ground_truth_assistant"
    found = meta.get(key) if isinstance(meta, dict) else None
    return "" if found is None else text(found, f"mix_meta.{key}", place)


def _boxed(solution: str) -> str:
    return (last_boxed(solution) or "").strip()


def _bare(user: str) -> str:
    """A user turn without the request, byte for byte: KGFunc's questions end with a blank line."""
    for request in _REQUESTS:
        user = user.removesuffix(request)
    return user
