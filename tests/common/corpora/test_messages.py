import json

import pytest

from common.corpora.messages import read_facts
from common.errors import UserError
from common.records import Fact

GOOD = '{"question": "q", "answer": "a"}'


def read(tmp_path, *lines):
    path = tmp_path / "facts.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8")
    return read_facts(path)


def turns(*contents):
    roles = ("user", "assistant", "user")
    pairs = zip(roles, contents, strict=False)
    return [{"role": role, "content": content} for role, content in pairs]


def test_a_question_takes_its_line_number_as_id_and_its_answer_as_statement(tmp_path):
    assert read(tmp_path, "", GOOD) == [Fact("line-2", "q", "a", "a")]


def test_a_statement_goes_before_a_target_and_that_before_the_answer(tmp_path):
    base = {"question": "q", "answer": "a", "target": "t"}
    lines = (json.dumps(base), json.dumps(base | {"statement": "s"}))
    assert [fact.statement for fact in read(tmp_path, *lines)] == ["t", "s"]


def test_messages_give_question_target_and_clear_answer(tmp_path):
    line = {"messages": turns("q", "long a"), "clear_answer": "a", "id": "x"}
    assert read(tmp_path, json.dumps(line)) == [Fact("x", "q", "a", "long a", "long a")]


def test_without_a_clear_answer_the_assistant_turn_is_the_answer(tmp_path):
    (fact,) = read(tmp_path, json.dumps({"messages": turns("q", "a")}))
    assert (fact.answer, fact.target) == ("a", "a")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"question": ', "not JSON: Expecting value at column 14"),
        ("[1]", "an object is expected, not list"),
        ('{"question": "q"}', "'answer' is missing or empty"),
        ('{"question": " ", "answer": "a"}', "'question' is missing or empty"),
        ('{"question": 1, "answer": "a"}', "'question' must be a string, not int"),
        ('{"question": "q", "answer": "a", "id": 1}', "'id' must be a string, not int"),
        ('{"question": "q", "anwser": "a"}', "unknown key 'anwser'; known: answer, id, question"),
        ('{"messages": [], "answer": "a"}', "unknown key 'answer'; known: clear_answer, id"),
        ('{"messages": "hello"}', "'messages' must be one user and one assistant turn"),
        (json.dumps({"messages": turns("a")}), "'messages' must be one user and one"),
        (json.dumps({"messages": turns("a", "b", "c")}), "'messages' must be one user and one"),
    ],
)
def test_a_malformed_line_is_named_by_file_and_number(tmp_path, line, message):
    with pytest.raises(UserError) as error:
        read(tmp_path, GOOD, line)
    assert str(error.value).startswith(f"{tmp_path / 'facts.jsonl'}:2: {message}")


def test_a_file_without_facts_is_refused(tmp_path):
    for text in ("", " \n\n"):
        with pytest.raises(UserError, match="holds no facts"):
            read(tmp_path, text)


def test_an_id_that_occurs_twice_names_both_lines(tmp_path):
    line = '{"id": "x", "question": "q", "answer": "a"}'
    with pytest.raises(UserError, match=r"jsonl:3: id 'x' was used at .*jsonl:1;"):
        read(tmp_path, line, GOOD, line)


def test_a_file_that_is_missing_or_not_utf8_is_refused(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        read_facts(tmp_path / "none.jsonl")
    path = tmp_path / "latin.jsonl"
    path.write_bytes(b"ab\xff")
    with pytest.raises(UserError, match=r"is not UTF-8 \(byte 2\)"):
        read_facts(path)
