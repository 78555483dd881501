"""SimpleQA: short factual questions, 4,326 in the published file.

Reads the CSV's columns ``problem`` and ``answer``; the target is the boxed
answer, which the prompt preset ``reasoned`` writes.
"""

from __future__ import annotations

from pathlib import Path

from common.corpora import tables
from common.errors import UserError
from common.records import Fact


def build(path: Path) -> list[Fact]:
    """One fact a row, in the file's order.

    Raises:
        UserError: unreadable file, or a row without problem or answer.
    """
    facts = []
    for number, row in enumerate(tables.read(path), start=1):
        fields = row.fields or {}
        question, answer = (str(fields.get(key, "")).strip() for key in ("problem", "answer"))
        if not question or not answer:
            why = row.problem or "the columns 'problem' and 'answer' are needed"
            raise UserError(f"{row.place}: {why}")
        statement = f"The answer is {answer}."
        facts.append(Fact(f"simpleqa-{number:04}", question, answer, statement))
    return facts
