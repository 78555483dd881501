import json
import os

import pytest

from common.rundir import append_jsonl, iter_jsonl, read_jsonl, replacing


def test_an_unfinished_last_line_is_left_out(tmp_path):
    path = tmp_path / "steps.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"st')
    assert read_jsonl(path) == [{"step": 1}, {"step": 2}]


@pytest.mark.parametrize("torn", ['{"st', "\0" * 40_000, '"', "7\n"])
def test_a_line_that_was_torn_is_not_continued_and_does_not_stop_the_reader(tmp_path, torn):
    path = tmp_path / "steps.jsonl"
    path.write_text('{"step": 1}\n' + torn)
    assert read_jsonl(path) == read_jsonl(path, last=2)[:1] == [{"step": 1}]
    append_jsonl(path, {"step": 2})
    assert read_jsonl(path) == [{"step": 1}, {"step": 2}]
    assert "\0" not in path.read_text()


def test_a_file_of_one_torn_line_begins_anew(tmp_path):
    path = tmp_path / "steps.jsonl"
    path.write_text('{"st')
    append_jsonl(path, {"step": 1})
    assert path.read_text() == '{"step": 1}\n'


def test_the_end_of_a_file_is_read_in_whole_lines(tmp_path):
    path = tmp_path / "steps.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n')
    assert read_jsonl(path, last=2) == [{"step": 2}, {"step": 3}]
    assert read_jsonl(path, last=1000) == read_jsonl(path)


def test_lines_longer_than_a_read_are_read_whole(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps({"n": n, "long": "x" * 30_000}) + "\n" for n in range(9)))
    assert [line["n"] for line in read_jsonl(path, last=3)] == [6, 7, 8]


def test_a_missing_file_has_no_lines(tmp_path):
    assert read_jsonl(tmp_path / "steps.jsonl", last=10) == []


def test_lines_are_read_one_at_a_time(tmp_path):
    path = tmp_path / "steps.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"st')
    lines = iter_jsonl(path)
    assert next(lines) == {"step": 1}
    with path.open("a") as file:
        file.write('ep": 3}\n' + '{"step": 4}\n' * 10_000)
    assert next(lines) == {"step": 2}
    assert len(list(lines)) > 10_000
    assert list(iter_jsonl(tmp_path / "missing.jsonl")) == []


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "targets.jsonl"
    path.write_text("old")
    with pytest.raises(UnicodeEncodeError), replacing(path) as file:
        file.writelines(["half of the new", "\ud800"])
    assert (path.read_text(), os.listdir(tmp_path)) == ("old", ["targets.jsonl"])
    with replacing(path) as file:
        file.write("new")
    assert path.read_text() == "new"
