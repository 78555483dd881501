"""Local copies in every published form; what is missing is a reason, not a crash."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from actors.evaluation.benchmarks.base import NotMeasured
from actors.evaluation.benchmarks.sources import Row, Source, read
from actors.evaluation.benchmarks.text import text_nll, wikitext2, windows
from tests.actors.evaluation.benchmarks.letters import materials

SOURCE = Source("quiz", "test", "someone/quiz", "test.jsonl")


class Quiz(Row):
    q: str
    n: str


ROWS = [{"q": "a\u2028b", "n": "1"}, {"q": "c", "n": "2"}]


def _bytes(kind: str) -> bytes:
    if kind == "jsonl":
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()
    if kind == "json":
        return json.dumps(ROWS).encode()
    return "q,n\r\na\u2028b,1\r\nc,2\r\n".encode()


@pytest.mark.parametrize("kind", ["jsonl", "json", "csv"])
@pytest.mark.parametrize("packed", [False, True])
def test_rows_are_the_same_in_every_form(tmp_path: Path, kind: str, packed: bool) -> None:
    (tmp_path / "quiz").mkdir()
    content = gzip.compress(_bytes(kind)) if packed else _bytes(kind)
    (tmp_path / "quiz" / f"test.{kind}{'.gz' if packed else ''}").write_bytes(content)
    assert [row.model_dump() for row in read(SOURCE, tmp_path, Quiz)] == ROWS


def test_parquet_is_read(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    (tmp_path / "quiz").mkdir()
    parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "quiz" / "test.parquet")
    assert [row.model_dump() for row in read(SOURCE, tmp_path, Quiz)] == ROWS


def test_a_missing_file_names_the_setting_and_the_folder(tmp_path: Path) -> None:
    with pytest.raises(NotMeasured, match=r"evaluator.data_root: no test.jsonl .* in .*quiz"):
        read(SOURCE, tmp_path, Quiz)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("test.jsonl", b"{"),
        ("test.json", b"\xff"),
        ("test.jsonl.gz", b"no gzip"),
        ("test.jsonl.gz", gzip.compress(b"{}", mtime=0)[:-4]),
    ],
)
def test_a_broken_file_is_a_reason(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / "quiz").mkdir()
    (tmp_path / "quiz" / name).write_bytes(content)
    with pytest.raises(NotMeasured, match=r"test.json.*: (not|cannot be read)"):
        read(SOURCE, tmp_path, Quiz)


def test_the_hub_refusing_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> str:
        raise OSError("offline")

    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
    with pytest.raises(NotMeasured, match=r"did not give someone/quiz \(offline\); set evaluator"):
        read(SOURCE, None, Quiz)


def test_files_of_the_hub_s_snapshot_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {}

    def give(repository: str, **options: object) -> str:
        asked.update(options, repository=repository)
        return str(tmp_path)

    (tmp_path / "test.jsonl").write_bytes(_bytes("jsonl"))
    monkeypatch.setattr("huggingface_hub.snapshot_download", give)
    assert [row.model_dump() for row in read(SOURCE, None, Quiz)] == ROWS
    assert asked == {
        "repository": "someone/quiz",
        "repo_type": "dataset",
        "allow_patterns": ["test.jsonl"],
    }


def test_every_token_but_the_first_of_a_window_is_scored_once() -> None:
    assert windows(range(10), 7, 3) == [([0], [1, 2]), ([3], [4, 5])]
    assert windows([1], 7, 3) == []


def test_the_packaged_prose_is_scored_where_no_text_is_given() -> None:
    benchmark = text_nll(materials(text_tokens=300))
    assert [len(rest) for _, rest in benchmark.windows] == [255, 43]


def test_a_text_that_cannot_be_read_is_a_reason(tmp_path: Path) -> None:
    with pytest.raises(NotMeasured, match=r"evaluator.text: .* cannot be read"):
        text_nll(materials(text=tmp_path / "none.txt"))


def test_wikitext_is_read_from_its_copy(data_root: Path) -> None:
    benchmark = wikitext2(materials(data_root=data_root, text_tokens=1000))
    text = "".join(map(chr, [token for first, rest in benchmark.windows for token in first + rest]))
    assert text.startswith(" \n = Robert <unk> = \n")
