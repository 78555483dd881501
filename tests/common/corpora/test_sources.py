"""Locations of corpora: paths, folders, offline copies, and downloads from the Hub."""

from __future__ import annotations

from pathlib import Path

import huggingface_hub
import pytest

from common.corpora import sources
from common.corpora.settings import SimpleQASettings
from common.errors import UserError


def touch(folder: Path, *names: str) -> list[Path]:
    paths = [folder / name for name in names]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    return paths


def test_a_copy_below_the_root_is_taken_plain_or_gzipped(tmp_path):
    (packed,) = touch(tmp_path, "simpleqa/simple_qa_test_set.csv.gz")
    assert sources.published("simpleqa", SimpleQASettings(), tmp_path) == packed
    (plain,) = touch(tmp_path, "simpleqa/simple_qa_test_set.csv")
    assert sources.published("simpleqa", SimpleQASettings(), tmp_path) == plain


def test_a_missing_copy_names_what_is_there_and_the_setting(tmp_path):
    touch(tmp_path, "simpleqa/other.csv")
    with pytest.raises(UserError, match=r"contains: other.csv; set data.simpleqa.file \(--file\)"):
        sources.published("simpleqa", SimpleQASettings(), tmp_path)
    with pytest.raises(UserError, match="contains: nothing"):
        sources.published("mquake", SimpleQASettings(), tmp_path)


def test_without_a_root_the_hub_is_asked_for_the_data_sets_file(tmp_path, monkeypatch):
    (file,) = touch(tmp_path, "cached.csv")
    asked = []

    def download(repo_id: str, filename: str, *, repo_type: str) -> str:
        asked.append((repo_id, filename, repo_type))
        return str(file)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    assert sources.published("simpleqa", SimpleQASettings(), None) == file
    assert asked == [("basicv8vc/SimpleQA", "simple_qa_test_set.csv", "dataset")]


def test_a_hub_that_does_not_answer_is_an_error_with_the_remedy(monkeypatch):
    def download(*_: object, **__: object) -> str:
        raise huggingface_hub.errors.LocalEntryNotFoundError("no connection\nand more")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    with pytest.raises(UserError) as error:
        sources.published("simpleqa", SimpleQASettings(), None)
    assert str(error.value) == (
        "data set 'basicv8vc/SimpleQA': the download from the Hub failed (no connection); "
        "set data.root to a folder that contains simpleqa/simple_qa_test_set.csv"
    )


def test_a_hub_id_becomes_the_folder_of_its_snapshot(tmp_path, monkeypatch):
    asked = []

    def download(repo_id: str, *, repo_type: str, allow_patterns: list[str]) -> str:
        asked.append((repo_id, repo_type))
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert sources.locate("someone/facts") == tmp_path
    assert asked == [("someone/facts", "dataset")]


@pytest.mark.parametrize(
    "spec", ["./a/b", "/a/b", "facts.jsonl", "a/facts.csv.gz", "word", "a/b/c"]
)
def test_what_looks_like_a_path_is_never_asked_of_the_hub(spec):
    with pytest.raises(UserError, match="cannot be read"):
        sources.locate(spec)


def test_a_path_that_exists_goes_before_a_hub_id(tmp_path, monkeypatch):
    touch(tmp_path, "someone/facts/train.jsonl")
    monkeypatch.chdir(tmp_path)
    assert sources.locate("someone/facts") == Path("someone/facts")


def test_the_training_split_of_a_folder_is_what_is_called_train(tmp_path):
    shards = touch(
        tmp_path, "data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet"
    )
    touch(tmp_path, "data/test-00000-of-00001.parquet", "trainer.json", "README.md")
    assert sources.train_files(tmp_path) == shards


def test_a_folder_with_one_data_file_needs_no_name(tmp_path):
    (only,) = touch(tmp_path, "facts.csv")
    touch(tmp_path, "README.md", "card.json")
    assert sources.train_files(tmp_path) == [only]
    touch(tmp_path, "more.csv")
    with pytest.raises(UserError, match=r"no file of the split 'train' \(facts.csv, more.csv\)"):
        sources.train_files(tmp_path)
