"""SimpleQA: short factual questions, 4,326 in the published file.

Uses the columns ``problem`` and ``answer``. The target is the boxed answer, which the
prompt preset ``reasoned`` formats.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel

from common.corpora import tables
from common.records import Fact
from common.settings import Text


class _Row(BaseModel):
    problem: Text
    answer: Text


def build(path: Path) -> list[Fact]:
    """One fact per record, in the file's order.

    Raises:
        UserError: the file is unreadable, or a record has no problem or answer.
    """
    facts = []
    for number, record in enumerate(tables.read(path), start=1):
        row = tables.parse(record, _Row)
        statement = f"The answer is {row.answer}."
        facts.append(Fact(f"simpleqa-{number:04}", row.problem, row.answer, statement))
    return facts
