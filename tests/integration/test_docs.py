"""README and docs: every command runs, in the order of its page; every file and link exists."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PAGES = ["README.md", *sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("docs/*.md"))]
TEXTS = [*PAGES, "CONTRIBUTING.md", "CHANGELOG.md"]
# Words that stand for something of the reader's.
LIVE = "live"
PLACEHOLDERS = {"RUN": LIVE, "CONFIG": "configs/smoke.yaml", "CHECKPOINT": "packaged"}
# A judgement, not a failure: the plan does not fit, the machine lacks something.
MAY_SAY_NO = ("plan", "doctor")


def code(page: str, language: str) -> list[str]:
    """The fenced blocks of a language."""
    text = (ROOT / page).read_text()
    blocks = re.findall(r"^ *```(\w*)\n(.*?)^ *```", text, flags=re.MULTILINE | re.DOTALL)
    return [block for found, block in blocks if found == language]


def commands(page: str) -> list[list[str]]:
    """The commands of a page, as words, without the program."""
    text = (ROOT / page).read_text()
    lines = [line for block in code(page, "") for line in block.splitlines()]
    prose = re.sub(r"^ *```.*?^ *```", "", text, flags=re.MULTILINE | re.DOTALL)
    lines += [line for line in re.findall(r"`([^`]+)`", prose) if "…" not in line]
    found = []
    for line in lines:
        words = (
            shlex.split(line.removeprefix("$ "), comments=True) if "mixsd-cluster " in line else []
        )
        if words and words[0] == "mixsd-cluster":
            found.append([PLACEHOLDERS.get(word, word) for word in words[1:]])
    return found


@pytest.fixture(scope="module")
def desk(tmp_path_factory, tiny_model):
    """A folder as the reader's, whose configurations are small."""
    folder = tmp_path_factory.mktemp("desk")
    for name in ("configs", "studies"):
        shutil.copytree(ROOT / name, folder / name)
    (facts,) = code("docs/guide.md", "json")
    (folder / "facts.jsonl").write_text(facts)
    (mine,) = code("docs/guide.md", "yaml")
    _write(folder / "mine.yaml", yaml.safe_load(mine), tiny_model)
    for name in ("smoke", "sft-smoke"):
        path = folder / "configs" / f"{name}.yaml"
        settings = yaml.safe_load(path.read_text())
        settings["data"] = {"kgfact": {"domains": 2, "entities": 4}}
        settings["learner"] |= {"epochs": 2, "batch_size": 4, "dtype": "float32"}
        settings["evaluator"] = {"suites": ["recall"], "max_tokens": 4}
        _write(path, settings, tiny_model)
    settings["learner"]["epochs"] = 10_000
    _write(folder / "live.yaml", {**settings, "name": LIVE}, tiny_model)
    return folder


def _write(path: Path, settings: dict, model: Path) -> None:
    path.write_text(yaml.safe_dump({**settings, "model": str(model)}))


def _call(desk: Path, model: Path, words: list[str]) -> None:
    words = [str(model) if word == "packaged" else word for word in words]
    result = subprocess.run(
        [sys.executable, "-m", "deploy.cli.main", *words],
        cwd=desk,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    said = f"mixsd-cluster {shlex.join(words)}\n{result.stdout}{result.stderr}"
    assert result.returncode in ((0, 1) if words[0] in MAY_SAY_NO else (0,)), said
    assert "Traceback" not in said


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_a_page_does_what_it_says(desk, tiny_model, page, request):
    shown = [words for words in commands(page) if LIVE not in words]
    if any(words[0] == "monitor" for words in shown) and shutil.which("prometheus") is None:
        pytest.skip("prometheus is not installed")
    if any("copies" in words for words in shown):
        (desk / "copies").symlink_to(request.getfixturevalue("data_root"))
    if page == "README.md":
        _call(desk, tiny_model, ["up", "configs/smoke.yaml"])
        _call(desk, tiny_model, ["up", "configs/sft-smoke.yaml"])
    for words in shown:
        _call(desk, tiny_model, words)


@pytest.mark.slow
def test_every_command_on_a_live_run_does_what_it_says(desk, tiny_model):
    shown = [words for page in PAGES for words in commands(page) if LIVE in words]
    assert {words[0] for words in shown} == {"scale", "set", "status"}
    _call(desk, tiny_model, ["up", "live.yaml", "--detach"])
    try:
        for words in shown:
            _call(desk, tiny_model, words)
    finally:
        _call(desk, tiny_model, ["down", LIVE])


@pytest.mark.parametrize("page", TEXTS)
def test_pages_name_make_targets_that_exist(page):
    text = (ROOT / page).read_text()
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"(?:^|`)make ([a-z][a-z-]*)", text, flags=re.MULTILINE):
        assert re.search(rf"^{target}:|^{target.split('-')[0]}-%:", makefile, re.MULTILINE), target


# What a reader opens besides pages: files of this repository, named from its root.
_PATH = re.compile(
    r"(?<![\w./-])((?:actors|common|configs|deploy|docs|learner|requirements|tests)/[\w./-]*)"
)


def anchors(page: Path) -> set[str]:
    """The fragments that GitHub gives to the headings of a page."""
    prose = re.sub(r"^ *```.*?^ *```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", prose, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in headings}


@pytest.mark.parametrize("page", TEXTS)
def test_pages_link_to_files_and_headings_that_exist(page):
    for link in re.findall(r"\]\(([^)]+)\)", (ROOT / page).read_text()):
        if link.startswith("http"):
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", TEXTS)
def test_pages_name_files_that_exist(page):
    for path in _PATH.findall((ROOT / page).read_text()):
        assert (ROOT / path.rstrip(".")).exists(), path


def test_architecture_names_what_its_files_define():
    text = (ROOT / "docs" / "architecture.md").read_text()
    rows = re.findall(r"\| `([\w/]+\.py)` \| `(\w+)` \|$", text, flags=re.MULTILINE)
    assert len(rows) > 20
    for path, name in rows:
        definition = rf"^ *(?:class|def) {name}\b"
        assert re.search(definition, (ROOT / path).read_text(), re.MULTILINE), (path, name)


def test_the_index_links_to_every_page():
    index = (ROOT / "docs" / "README.md").read_text()
    for page in ROOT.glob("docs/*.md"):
        assert page.name == "README.md" or f"]({page.name})" in index, page.name
