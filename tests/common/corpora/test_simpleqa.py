"""SimpleQA: small files by hand, and the published one where there is a copy."""

from __future__ import annotations

import pytest

from common.corpora import simpleqa, sources
from common.corpora.settings import SimpleQASettings
from common.errors import UserError
from common.records import Fact


def test_a_row_of_simpleqa_is_a_fact(tmp_path):
    path = tmp_path / "s.csv"
    path.write_text("metadata,problem,answer\n{'topic': 'x'},Who won?,Michio Sugeno \n")
    assert simpleqa.build(path) == [
        Fact("simpleqa-0001", "Who won?", "Michio Sugeno", "The answer is Michio Sugeno.")
    ]


def test_a_file_that_is_not_simpleqa_is_refused(tmp_path):
    path = tmp_path / "s.csv"
    path.write_text("question,answer\nq,a\n")
    message = r"s.csv:2: 'problem' is missing"
    with pytest.raises(UserError, match=message):
        simpleqa.build(path)


def test_the_published_simpleqa_has_4326_different_questions(data_root):
    facts = simpleqa.build(sources.published("simpleqa", SimpleQASettings(), data_root))
    assert len(facts) == len({fact.question for fact in facts}) == 4326
    assert (facts[0].id, facts[0].answer) == ("simpleqa-0001", "Michio Sugeno")


@pytest.mark.parametrize("row", ["Who?,", "' ',x".replace("'", '"')])
def test_a_row_of_simpleqa_without_a_question_or_an_answer_is_named(tmp_path, row):
    path = tmp_path / "s.csv"
    path.write_text(f"problem,answer\nQ?,A\n{row}\n")
    with pytest.raises(UserError, match=r"s\.csv:3: "):
        simpleqa.build(path)
