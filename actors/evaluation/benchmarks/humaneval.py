"""HumanEval: a function to write, judged by running its tests in the sandbox."""

from __future__ import annotations

import os
import re
import reprlib
from functools import partial
from typing import Self

from pydantic import model_validator

from actors.evaluation.benchmarks.base import (
    EvalProtocol,
    Generation,
    Grade,
    Materials,
    NotMeasured,
    Question,
)
from actors.evaluation.benchmarks.sources import Row, Source, read
from actors.evaluation.sandbox.sandbox import Sandbox, SandboxError
from common.settings import Filled

SOURCE = Source(
    "humaneval", "HumanEval", "openai/openai_humaneval", "openai_humaneval/test-*.parquet"
)

_REQUEST = (
    "Complete the following Python function. Answer with the whole function, imports included, "
    "in one Python code block.\n\n```python\n{prompt}```"
)
_RESPONSE_TOKENS = 16_384
_BLOCK = re.compile(r"```[ \t]*(?:python3?|py)?[ \t]*\r?\n(.*?)(?:```|\Z)", re.DOTALL | re.I)


class Task(Row):
    """A function to write; ``prompt`` ends with its head."""

    task_id: Filled
    prompt: Filled
    canonical_solution: str
    test: Filled
    entry_point: Filled

    @model_validator(mode="after")
    def _prompt_defines_the_function(self) -> Self:
        if not self.entry_point.isidentifier() or f"def {self.entry_point}" not in self.prompt:
            raise ValueError(f"prompt does not define entry_point {reprlib.repr(self.entry_point)}")
        return self


def build(materials: Materials) -> Generation:
    """All 164 tasks; needs a sandbox that works here."""
    tasks = read(SOURCE, materials.settings.data_root, Task)
    settings = materials.settings
    try:
        sandbox = Sandbox(timeout_s=settings.code_timeout_s, unsafe=settings.unsafe_code)
    except SandboxError as error:
        raise NotMeasured(str(error)) from error
    questions = [
        Question(
            task.task_id,
            materials.prompts.user(_REQUEST.format(prompt=task.prompt)),
            task.prompt,
            task.canonical_solution,
            {"prompt": task.prompt, "test": task.test, "entry_point": task.entry_point},
        )
        for task in materials.subset("humaneval", tasks)
    ]
    return Generation(
        "humaneval",
        questions,
        partial(grade, sandbox),
        materials.protocol(EvalProtocol(_RESPONSE_TOKENS, 1.0)),
        grading_threads=min(8, os.cpu_count() or 1),
    )


def grade(sandbox: Sandbox, question: Question, response: str) -> Grade:
    """Whether the function in the response passes the task's tests."""
    code = solution(question, response)
    if code is None:
        return Grade(False, None)
    outcome = sandbox.run_tests(code, question.data["entry_point"], tests(question))
    return Grade(outcome.passed, code, outcome.detail)


def tests(question: Question) -> str:
    """Source that checks the function; it may call others that the prompt has."""
    prompt, name = question.data["prompt"], question.data["entry_point"]
    return f"{_header(prompt, name)}\n{question.data['test']}\ncheck({name})\n"


def solution(question: Question, response: str) -> str | None:
    """Source that defines the function; None where a response has no code.

    The code is the last block that defines the function, else the response from
    its definition on, else a body that continues the prompt. What the prompt has
    before the function (imports, other functions) comes first.
    """
    prompt: str = question.data["prompt"]
    name = question.data["entry_point"]
    defined = re.compile(rf"^(?:async )?def {re.escape(name)}\b", re.MULTILINE)
    blocks: list[str] = _BLOCK.findall(response)
    with_function = [block for block in blocks if defined.search(block)]
    if with_function:
        return _header(prompt, name) + with_function[-1]
    if defined.search(response) and not blocks:
        return _header(prompt, name) + _from_definition(response, name)
    body = blocks[-1] if blocks else response
    return prompt + body if re.match(r"(?:\s*\n)*[ \t]+\S", body) else None


def _header(prompt: str, name: str) -> str:
    """The code before the task's function."""
    return prompt[: prompt.rindex(f"def {name}")]


def _from_definition(response: str, name: str) -> str:
    """The response from its first import or definition on, up to the first line of prose."""
    lines = response.splitlines()
    begins = re.compile(r"(?:import|from|def|async def|class|@)\b|@")
    start = next(index for index, line in enumerate(lines) if begins.match(line))
    kept = []
    for line in lines[start:]:
        if line and not line[0].isspace() and not begins.match(line) and not _is_code(line):
            break
        kept.append(line)
    return "\n".join(kept)


def _is_code(line: str) -> bool:
    try:
        compile(line, "line", "exec")
    except (SyntaxError, ValueError):
        return line.startswith((")", "]", "}", "#", "else", "elif", "except", "finally"))
    return True
