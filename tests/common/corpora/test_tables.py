"""Records of any file: what is malformed is named, and nothing is lost silently."""

import io
import json

import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet
from pydantic import BaseModel

from common import files
from common.corpora import tables
from common.errors import UserError


class Pair(BaseModel):
    question: str
    answer: str


class Numbered(BaseModel):
    number: int


def records(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return list(tables.read(path))


def packed(rows, **options):
    buffer = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist(rows), buffer, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('{"a": 1, "a": 2}', 'not JSON: Detected duplicate key "a" at column 14'),
        ('{"a": NaN}', "not JSON: expected value at column 7"),
        ('{"a": "\\ud800"}', "not JSON: unexpected end of hex escape at column 14"),
        ('{"a": ' + "9" * 5000 + "}", "not JSON: number out of range at column 4308"),
        ("[" * 100_000, "not JSON: recursion limit exceeded at column 202"),
        ("7", "expected an object, not int"),
    ],
)
def test_a_malformed_line_is_a_record_with_its_problem(tmp_path, line, problem):
    good, bad, last = records(tmp_path, "a.jsonl", f'{{"a": 1}}\n{line}\r\n{{"a": 2}}')
    assert (good.fields, last.fields) == ({"a": 1}, {"a": 2})
    assert (bad.place, bad.problem) == (f"{tmp_path / 'a.jsonl'}:2", problem)


def test_a_quote_that_is_never_closed_does_not_swallow_the_rows_after_it(tmp_path):
    with pytest.raises(UserError, match=r"a\.csv:3: not CSV: unexpected end of data"):
        records(tmp_path, "a.csv", 'question,answer\nzero,0\n"one,1\ntwo,2\n')


def test_a_cell_of_endless_length_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"not CSV: field larger than field limit \(131072\)"):
        records(tmp_path, "a.csv", "a,b\n" + "x" * 200_000 + ",1\n")


def test_columns_of_one_name_are_refused_since_one_would_be_lost(tmp_path):
    for name, content in (
        ("a.csv", b"a,b,a\n1,2,3\n"),
        ("a.parquet", _two_columns("a", "a")),
    ):
        with pytest.raises(UserError, match="the column 'a' occurs twice; rename or remove one"):
            records(tmp_path, name, content)
    assert len(records(tmp_path, "a.csv", "a,,\n1,2,3\n")) == 1
    assert len(records(tmp_path, "a.parquet", _two_columns("a", "b"))) == 1


def _two_columns(*names):
    buffer = io.BytesIO()
    columns = [pyarrow.array([1]), pyarrow.array([2])]
    parquet.write_table(pyarrow.Table.from_arrays(columns, names), buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("compression", ["none", "snappy", "zstd"])
def test_any_changed_byte_of_a_parquet_file_is_refused_or_read(tmp_path, compression):
    rows = [{"question": f"q{number}?", "answer": f"a{number}"} for number in range(5)]
    content, found = packed(rows, compression=compression), set()
    for place in range(len(content)):
        changed = content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :]
        try:
            records(tmp_path, "a.parquet", changed)
            found.add("read")
        except UserError as error:
            found.add(str(error).removeprefix(f"{tmp_path / 'a.parquet'}: ")[:12])
    assert found == {"read", "not Parquet:"}


def test_parquet_of_more_than_the_bound_is_refused(tmp_path, monkeypatch):
    content = packed([{"a": "x" * 5000}] * 100, use_dictionary=False)
    monkeypatch.setattr(files, "MAX_BYTES", 100_000)
    with pytest.raises(UserError, match="over 100000 bytes of content; split the file"):
        records(tmp_path, "a.parquet", content)


def test_parquet_of_several_row_groups_keeps_the_order(tmp_path):
    content = packed([{"a": number} for number in range(3000)], row_group_size=1100)
    found = records(tmp_path, "a.parquet", content)
    assert [record.fields["a"] for record in found] == list(range(3000))
    assert found[-1].place.endswith("a.parquet: row 3000")


def test_a_record_becomes_an_object_of_the_first_shape_whose_fields_it_has():
    def parse(fields):
        return tables.parse(tables.Record("f:1", "x", fields), Pair, Numbered)

    assert parse({"question": "q", "answer": "a", "number": 1}) == Pair(question="q", answer="a")
    assert parse({"number": 1}) == Numbered(number=1)
    with pytest.raises(UserError, match=r"^f:1: answer: input should be a valid string, not 18$"):
        parse({"question": "q", "answer": 18})
    with pytest.raises(UserError, match=r"^f:1: 'question' is missing$"):
        parse({"answer": "a"})
    with pytest.raises(UserError, match=r"^f:1: broken$"):
        tables.parse(tables.Record("f:1", "x", None, "broken"), Pair)


@settings(deadline=None)
@given(st.lists(st.text() | st.binary().map(lambda data: data.decode("latin-1")), max_size=5))
def test_any_lines_give_records_or_a_refusal(tmp_path_factory, lines):
    folder = tmp_path_factory.getbasetemp()
    for name in ("any.jsonl", "any.json", "any.csv", "any.parquet"):
        try:
            for record in records(folder, name, "\n".join(lines)):
                assert (record.fields is None) == bool(record.problem)
                json.dumps(record.fields).encode()
        except UserError:
            continue
