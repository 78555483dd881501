"""SimpleQA: short factual questions, 4,326 in the published file.

Uses the columns ``problem`` and ``answer``. The target is the boxed answer, which the
prompt preset ``reasoned`` formats.
"""

from __future__ import annotations

from pathlib import Path

from common.corpora import tables
from common.errors import UserError
from common.records import Fact


def build(path: Path) -> list[Fact]:
    """One fact per record, in the file's order.

    Raises:
        UserError: the file is unreadable, or a record has no problem or answer.
    """
    facts = []
    for number, record in enumerate(tables.read(path), start=1):
        fields = record.fields or {}
        question, answer = (str(fields.get(key, "")).strip() for key in ("problem", "answer"))
        if not question or not answer:
            why = record.problem or "the columns 'problem' and 'answer' are required"
            raise UserError(f"{record.place}: {why}")
        statement = f"The answer is {answer}."
        facts.append(Fact(f"simpleqa-{number:04}", question, answer, statement))
    return facts
