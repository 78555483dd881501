import gzip
import json
import sys

import pytest

from common.corpora.folder import write
from common.corpora.messages import read_facts, read_items, scan
from common.errors import UserError
from common.records import EvalItem, Fact, Rollout, pack_rollout, unpack_rollout

GOOD = '{"question": "q", "answer": "a"}'


def read(tmp_path, *lines):
    path = tmp_path / "facts.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8")
    return read_facts([path])


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
        ('{"question": ', "not JSON: EOF while parsing a value at column 13"),
        ("[1]", "expected an object, not list"),
        ('{"question": "q"}', "'answer' is missing or empty"),
        ('{"question": " ", "answer": "a"}', "'question' is missing or empty"),
        ('{"question": 1, "answer": "a"}', "'question' must be a string, not int"),
        ('{"question": "q", "answer": "a", "id": 1}', "'id' must be a string, not int"),
        ('{"question": "q", "anwser": "a"}', "unknown key 'anwser'; known: aliases, answer, id"),
        ('{"messages": [], "answer": "a"}', "unknown key 'answer'; known: aliases, clear_ans"),
        ('{"messages": "hello"}', "'messages' must be one user and one assistant turn"),
        (GOOD[:-1] + ', "aliases": "b"}', "'aliases' must be a list of strings, not str"),
        (GOOD[:-1] + ', "retract": 1}', "'retract' must be true or false, not 1"),
        (GOOD[:-1] + ', "replaces": 7}', "'replaces' must be a string, not int"),
        (GOOD[:-1] + ', "aliases": [1]}', "'aliases' must be a string, not int"),
        (GOOD[:-1] + ', "aliases": ["b", " ."]}', "'aliases' has one with nothing to verify"),
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
        with pytest.raises(UserError, match="contains no facts"):
            read(tmp_path, text)


def test_an_id_that_occurs_twice_names_both_lines(tmp_path):
    line = '{"id": "x", "question": "q", "answer": "a"}'
    with pytest.raises(UserError, match=r"jsonl:3: id 'x' was used at .*jsonl:1;"):
        read(tmp_path, line, GOOD, line)


def test_a_file_that_is_missing_or_not_utf8_is_refused(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        read_facts([tmp_path / "none.jsonl"])
    path = tmp_path / "latin.jsonl"
    path.write_bytes(b"ab\xff")
    with pytest.raises(UserError, match=r"not UTF-8 text \(byte 2\); save it"):
        read_facts([path])


def test_every_malformed_line_is_named_and_the_good_ones_are_kept(tmp_path):
    path = tmp_path / "facts.jsonl"
    path.write_text("\n".join([GOOD, "[1]", GOOD, '{"question": "q"}']))
    found = scan([path])
    assert [fact.id for fact in found.facts] == ["line-1", "line-3"]
    assert found.places == {"line-1": f"{path}:1", "line-3": f"{path}:3"}
    assert [problem.split(": ")[0] for problem in found.problems] == [f"{path}:2", f"{path}:4"]


def test_a_refusal_shows_ten_problems_and_counts_the_rest(tmp_path):
    with pytest.raises(UserError) as error:
        read(tmp_path, *["[1]"] * 13)
    lines = str(error.value).splitlines()
    assert len(lines) == 11
    assert lines[-1] == "… and 3 more; see 'mixsd-cluster data check'"


def test_a_csv_file_has_one_fact_a_row_and_may_have_other_columns(tmp_path):
    path = tmp_path / "facts.csv"
    path.write_text(
        '\ufeffid,question,answer,statement,source\n7,"Who, then?","Tam ""T"" Okord",,wiki\n'
        '8,q,"two\nlines",s.,\n',
        encoding="utf-8",
    )
    assert read_facts([path]) == [
        Fact("7", "Who, then?", 'Tam "T" Okord', 'Tam "T" Okord'),
        Fact("8", "q", "two\nlines", "s."),
    ]


def test_aliases_are_a_list_or_a_cell_with_bars(tmp_path):
    chat = json.dumps({"messages": turns("q", "a"), "aliases": ["b"]})
    facts = read(tmp_path, GOOD[:-1] + ', "aliases": ["b", "c"]}', chat)
    assert [fact.spellings for fact in facts] == [("a", "b", "c"), ("a", "b")]
    path = tmp_path / "facts.csv"
    path.write_text("question,answer,aliases\nq,a,b|c d\nq,a,\n")
    assert [fact.aliases for fact in read_facts([path])] == [("b", "c d"), ()]


def test_a_row_may_replace_a_fact_or_retract_one(tmp_path):
    chat = json.dumps({"messages": turns("q", "a"), "replaces": "f7"})
    new, gone = read(tmp_path, chat, GOOD[:-1] + ', "retract": true, "replaces": "f7"}')
    assert (new.replaces, new.retract) == ("f7", False)
    # The old answer is no statement to show.
    assert (gone.replaces, gone.retract, gone.statement) == ("f7", True, "")
    path = tmp_path / "facts.csv"
    path.write_text("question,answer,retract,replaces\nq,a,TRUE,7\nq,a,,\n")
    assert [(fact.retract, fact.replaces) for fact in read_facts([path])] == [
        (True, "7"),
        (False, ""),
    ]


def test_aliases_survive_a_built_folder(tmp_path):
    facts = [Fact("x", "q", "a", "a", aliases=("b", "c"))]
    write(tmp_path / "built", "custom", {}, {"train": facts})
    assert read_facts([tmp_path / "built" / "train.jsonl"]) == facts


def test_a_csv_row_with_too_many_or_empty_cells_is_named_by_line(tmp_path):
    path = tmp_path / "facts.csv"
    path.write_text("question,answer\nq,a\nq,a,b\n,a\n")
    assert scan([path]).problems == [
        f"{path}:3: more cells than the header's 2",
        f"{path}:4: 'question' is missing or empty",
    ]


def test_a_gzipped_file_is_read_by_the_suffix_before(tmp_path):
    path = tmp_path / "facts.jsonl.gz"
    path.write_bytes(gzip.compress(GOOD.encode()))
    assert read_facts([path]) == [Fact("line-1", "q", "a", "a")]
    path.write_bytes(b"no gzip")
    with pytest.raises(UserError, match=r"facts.jsonl.gz: cannot be read \(Not a gzipped file"):
        read_facts([path])


def test_a_parquet_file_has_questions_or_chat_messages(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "facts.parquet"
    rows = [
        {"id": 3, "messages": turns("q", "long a"), "clear_answer": "a"},
        {"id": 4, "messages": turns("r", "b"), "clear_answer": None},
    ]
    parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    assert read_facts([path]) == [
        Fact("3", "q", "a", "long a", "long a"),
        Fact("4", "r", "b", "b", "b"),
    ]
    path.write_bytes(b"not parquet")
    with pytest.raises(UserError, match=r"facts.parquet: not Parquet: "):
        read_facts([path])


def test_without_pyarrow_parquet_is_refused_with_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(UserError, match="requires the package pyarrow; install it"):
        read_facts([tmp_path / "facts.parquet"])


def test_an_unknown_kind_of_file_is_refused_with_those_known(tmp_path):
    with pytest.raises(UserError, match=r"unknown kind of file '.xlsx'; known: .jsonl, .json"):
        read_facts([tmp_path / "facts.xlsx"])


def test_items_of_a_split_come_back_as_they_were_written(tmp_path):
    items = [
        EvalItem("a+b", "q", "a", ("one", "two"), ("A",)),
        EvalItem("c#1", "r", "b"),
    ]
    write(tmp_path / "out", "own", {}, {"train": [], "asked": items})
    assert read_items(tmp_path / "out" / "asked.jsonl") == tuple(items)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"id": "x", "question": "q"}', "'id', 'question' and 'answer' are required"),
        ('{"id": "x", "question": "q", "answer": "a", "hop": 1}', "unknown key 'hop'"),
        (
            '{"id": "x", "question": "q", "answer": "a", "context": [1]}',
            "'context' must be a string",
        ),
    ],
)
def test_a_malformed_item_is_named(tmp_path, line, message):
    path = tmp_path / "asked.jsonl"
    path.write_text(line)
    with pytest.raises(UserError, match=message):
        read_items(path)


def with_id(identity):
    return json.dumps({"id": identity, "question": "q", "answer": "a"})


def test_an_id_is_as_long_as_the_queue_can_carry(tmp_path):
    longest = "é" * 1024
    (fact,) = read(tmp_path, with_id(longest))
    rollout = Rollout(fact.id, 0, 0, [1], [2], [], [], [], [], None, 0, "", True)
    assert unpack_rollout(pack_rollout(rollout)).fact_id == longest
    with pytest.raises(UserError, match=r"jsonl:2: 'id' has 1025 characters, more than 1024"):
        read(tmp_path, GOOD, with_id(longest + "x"))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (with_id("a\0b"), "'id' contains a NUL character; remove it"),
        (with_id(""), "'id' is empty; set it or remove the key"),
        ('{"id": "\\ud800", "question": "q", "answer": "a"}', "not JSON: .* at column 15"),
        ('{"question": "q", "question": "r", "answer": "a"}', "not JSON: Detected duplicate key"),
        ('{"messages": [{"role": "user", "content": 1}, {"role": "assistant"}]}', "'content' must"),
        (
            '{"question": "q", "answer": "a", "' + "x" * 5000 + '": 1}',
            "unknown key 'xxxx.{,40}'; k",
        ),
        (json.dumps({"messages": turns("q", "a"), "tokens": 0}), "'tokens' needs"),
    ],
)
def test_what_would_fail_later_in_the_run_is_refused_with_its_line(tmp_path, line, message):
    with pytest.raises(UserError, match=rf"facts\.jsonl:2: {message}"):
        read(tmp_path, GOOD, line)


@pytest.mark.parametrize("value", [1.5, True, b"x", [1]])
def test_an_id_in_a_table_is_a_text_or_a_whole_number(tmp_path, value):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = tmp_path / "f.parquet"
    rows = [{"id": value, "question": "q", "answer": "a"}]
    parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    with pytest.raises(UserError, match=r"row 1: 'id' must be a string, not"):
        read_facts([path])


@pytest.mark.parametrize("context", ["abc", 7, None, {"a": 1}])
def test_a_context_is_a_list_not_the_letters_of_a_text(tmp_path, context):
    path = tmp_path / "asked.jsonl"
    row = {"id": "x", "question": "q", "answer": "a", "context": context}
    path.write_text(json.dumps(row))
    with pytest.raises(UserError, match="'context' must be a list of strings, not"):
        read_items(path)
