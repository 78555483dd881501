"""A local copy of another form is a reason that names file, row and field; never a crash."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from actors.evaluation import benchmarks
from actors.evaluation.benchmarks import ifeval, maths
from actors.evaluation.benchmarks.base import NotMeasured, Question
from actors.evaluation.benchmarks.ifeval_rows import NEEDS
from actors.evaluation.runner import build_suite
from tests.actors.evaluation.benchmarks.letters import materials

ARC = {"question": "Q?", "choices": ["red", "blue"], "answer_index": 1}
HUB_ARC = {
    "question": "Q?",
    "choices": {"text": ["red", "blue"], "label": ["A", "B"]},
    "answerKey": "B",
}
PIQA = {"query": "Q\n", "choices": ["pot", "pan"], "gold": 0}
MMLU = {"subject": "law", "question": "Q?", "choices": ["a", "b", "c", "d"], "answer": "C"}
TASK = {
    "task_id": "HumanEval/0",
    "prompt": "def f(x):\n",
    "canonical_solution": "    return x\n",
    "test": "def check(c):\n    pass\n",
    "entry_point": "f",
}
IFEVAL = {
    "key": 1,
    "prompt": "P",
    "instruction_id_list": ["length_constraints:number_words"],
    "kwargs": [{"relation": "at least", "num_words": 3}],
}
FILES = {
    "gsm8k": "gsm8k/test.jsonl",
    "math500": "math500/test.jsonl",
    "aime24": "aime24/aime24.jsonl",
    "mmlu": "mmlu/test.jsonl",
    "arc_easy": "arc/ARC-Easy-test.jsonl",
    "piqa": "piqa/piqa_valid.jsonl",
    "humaneval": "humaneval/HumanEval.jsonl",
    "ifeval": "ifeval/input_data.jsonl",
    "wikitext2": "wikitext2/test.jsonl",
}
WORKED = {"question": "Q?", "answer": "#### 18"}
NAMES = "instruction_id_list"

CASES: list[tuple[str, dict[str, Any], dict[str, Any], str]] = [
    ("gsm8k", WORKED, {"answer": 18}, "answer: input should be a valid string, not 18"),
    ("gsm8k", WORKED, {"answer": "#### x"}, "a number is expected after '####', not 'x'"),
    ("gsm8k", WORKED, {"question": " "}, "question: a text is expected, but it is empty"),
    ("math500", WORKED, {"answer": None}, "answer: input should be a valid string, not None"),
    ("aime24", {**WORKED, "answer": 7}, {"answer": 1000}, "answer: .* less than or equal to 999"),
    ("aime24", {**WORKED, "answer": 7}, {"answer": True}, "answer: .*, not 'true'"),
    ("mmlu", MMLU, {"choices": ["a"] * 3}, "'choices.3' is missing"),
    ("mmlu", MMLU, {"answer": "E"}, "answer: A to D or 0 to 3 is expected, not 'E'"),
    ("mmlu", MMLU, {"answer": -1}, "answer: A to D or 0 to 3 is expected, not -1"),
    ("arc_easy", ARC, {"answer_index": 2}, "choice 2 is right, but there are 2"),
    ("arc_easy", ARC, {"answer_index": -1}, "answer_index: .* greater than or equal to 0"),
    ("arc_easy", ARC, {"choices": ["red", ""]}, "choices.1: a text is expected, but it is empty"),
    ("arc_easy", HUB_ARC, {"answerKey": "C"}, "answerKey 'C' is none of the labels"),
    ("piqa", PIQA, {"choices": []}, "choice 0 is right, but there are 0"),
    ("humaneval", TASK, {"test": 1}, "test: input should be a valid string, not 1"),
    ("humaneval", TASK, {"entry_point": "g"}, "prompt does not define entry_point 'g'"),
    ("ifeval", IFEVAL, {"kwargs": []}, "kwargs and instruction_id_list differ in length"),
    ("ifeval", IFEVAL, {"kwargs": [{}]}, "kwargs: length_con.* needs 'num_words'"),
    ("ifeval", IFEVAL, {"kwargs": [{"num_words": "3"}]}, "kwargs.0.num_words: .*, not '3'"),
    ("ifeval", IFEVAL, {NAMES: ["x:y"]}, "instruction_id_list: no check for 'x:y'"),
    ("wikitext2", {"text": "Some."}, {"text": ["Some."]}, "text: input should be a valid string"),
]


def write(root: Path, name: str, *rows: object) -> Path:
    path = root / FILES[name]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize(("name", "row", "change", "message"), CASES)
def test_a_field_of_another_type_is_named_by_file_and_row(
    tmp_path: Path, name: str, row: dict[str, Any], change: dict[str, Any], message: str
) -> None:
    settings = materials(data_root=tmp_path, unsafe_code=True)
    if name == "mmlu":
        write(tmp_path, name, *[MMLU] * 5).rename(tmp_path / "mmlu" / "dev.jsonl")
    write(tmp_path, name, row, row)
    benchmarks.BUILDERS[name](settings)
    path = write(tmp_path, name, row, {**row, **change})
    with pytest.raises(NotMeasured, match=rf"^{path}:2: .*{message}"):
        benchmarks.BUILDERS[name](settings)
    suite = build_suite(name, settings)
    assert not suite.benchmarks
    assert suite.missing[name].startswith(f"{path}:2: ")


@pytest.mark.parametrize("name", FILES)
def test_a_copy_without_rows_is_a_reason(tmp_path: Path, name: str) -> None:
    write(tmp_path, name)
    (tmp_path / "mmlu").mkdir(exist_ok=True)
    (tmp_path / "mmlu" / "dev.jsonl").write_text(json.dumps(MMLU))
    with pytest.raises(NotMeasured, match=rf"{FILES[name]}: no rows"):
        benchmarks.BUILDERS[name](materials(data_root=tmp_path, unsafe_code=True))


def test_a_subject_of_mmlu_without_examples_is_a_reason(tmp_path: Path) -> None:
    write(tmp_path, "mmlu", MMLU).rename(tmp_path / "mmlu" / "dev.jsonl")
    write(tmp_path, "mmlu", {**MMLU, "subject": "art"})
    with pytest.raises(NotMeasured, match="the split dev has no examples of 'art'"):
        benchmarks.BUILDERS["mmlu"](materials(data_root=tmp_path))


def test_every_check_of_ifeval_has_its_needs_listed() -> None:
    assert NEEDS.keys() == ifeval.CHECKS.keys()


@pytest.mark.parametrize("word", ["(", "[[a", "c++", "\\"])
def test_a_keyword_is_a_text_not_a_pattern(word: str) -> None:
    assert ifeval.follows("keywords:existence", {"keywords": [word]}, f"so: {word}")
    assert not ifeval.follows("keywords:existence", {"keywords": [word]}, "so")
    arguments = {"keyword": word, "frequency": 2, "relation": "at least"}
    assert ifeval.follows("keywords:frequency", arguments, f"{word} {word}")
    assert ifeval.follows("keywords:forbidden_words", {"forbidden_words": [word]}, "so")


def test_a_response_with_a_number_of_any_length_is_graded() -> None:
    question = Question("q", [], "", "18")
    for response in ("9" * 5000, f"\\boxed{{\\frac{{{'9' * 5000}}}{{7}}}}"):
        assert not maths.by_number(question, response).right
    assert maths.by_number(question, "\\boxed{\\frac{36}{2}}").right
