from common.rundir import read_jsonl


def test_an_unfinished_last_line_is_left_out(tmp_path):
    path = tmp_path / "steps.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"st')
    assert read_jsonl(path) == [{"step": 1}, {"step": 2}]


def test_the_end_of_a_file_is_read_in_whole_lines(tmp_path):
    path = tmp_path / "steps.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n')
    # Each line has 12 bytes: 30 bytes reach into the first one.
    assert read_jsonl(path, last_bytes=30) == [{"step": 2}, {"step": 3}]
    assert read_jsonl(path, last_bytes=1000) == read_jsonl(path)


def test_a_missing_file_has_no_lines(tmp_path):
    assert read_jsonl(tmp_path / "steps.jsonl", last_bytes=10) == []
