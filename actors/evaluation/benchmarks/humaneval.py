"""HumanEval: a function to write, judged by running its tests in the sandbox.

``released.humaneval`` has the paper's prompt, and what it takes for the program.
"""

from __future__ import annotations

import os
import re
import reprlib
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Self

from pydantic import model_validator

from actors.evaluation.benchmarks.base import (
    Generation,
    Grade,
    Materials,
    NotMeasured,
    Question,
    ResponseSampling,
    combine,
)
from actors.evaluation.benchmarks.released import humaneval as released
from actors.evaluation.benchmarks.sources import Row, Source, read
from actors.evaluation.sandbox.sandbox import Sandbox, SandboxError
from common.config.evaluation import EvalProtocol
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
    prompt = materials.choose(ours=_prompt, paper=released.prompt)
    questions = [
        Question(
            task.task_id,
            materials.prompts.user(prompt(task.prompt)),
            task.prompt,
            task.canonical_solution,
            {"prompt": task.prompt, "test": task.test, "entry_point": task.entry_point},
        )
        for task in materials.subset("humaneval", tasks)
    ]
    return Generation(
        "humaneval",
        questions,
        partial(grade_by_both, sandbox, settings.protocol),
        materials.sampling(ResponseSampling(_RESPONSE_TOKENS, 1.0)),
        grading_threads=min(8, os.cpu_count() or 1),
    )


def grade(sandbox: Sandbox, question: Question, response: str) -> Grade:
    """Whether the function in the response passes the task's tests."""
    code = solution(question, response)
    if code is None:
        return Grade(False, None)
    outcome = sandbox.run_tests(code, question.data["entry_point"], tests(question))
    return Grade(outcome.passed, code, outcome.detail)


def grade_released(sandbox: Sandbox, question: Question, response: str) -> Grade:
    """Whether the task followed by the first block passes the task's tests."""
    program = released.program(question.data["prompt"], response)
    outcome = sandbox.run_tests(program, question.data["entry_point"], tests(question))
    return Grade(outcome.passed, released.code(response), outcome.detail)


def grade_by_both(
    sandbox: Sandbox, protocol: EvalProtocol, question: Question, response: str
) -> Grade:
    """Both grades; a second run only if the two rules find different code."""
    ours = grade(sandbox, question, response)
    if _is_same_code(question, response):
        paper = replace(ours, extracted=released.code(response))
    else:
        paper = grade_released(sandbox, question, response)
    return combine(protocol, ours, paper)


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
    defined = _definition(name)
    blocks: list[str] = _BLOCK.findall(response)
    if (block := _last_with(defined, blocks)) is not None:
        return _header(prompt, name) + block
    if defined.search(response) and not blocks:
        return _header(prompt, name) + _from_definition(response, name)
    body = blocks[-1] if blocks else response
    return prompt + body if re.match(r"(?:\s*\n)*[ \t]+\S", body) else None


def _is_same_code(question: Question, response: str) -> bool:
    """Whether both rules take the same function, so that one verdict is enough.

    The released program has the task's function before it, whose redefinition is then called.
    """
    block = _last_with(_definition(question.data["entry_point"]), _BLOCK.findall(response))
    # An import from __future__ must begin a program.
    return (
        block is not None
        and block == block.lstrip()
        and "__future__" not in block
        and (block.strip() == released.code(response))
    )


def _definition(name: str) -> re.Pattern[str]:
    return re.compile(rf"^(?:async )?def {re.escape(name)}\b", re.MULTILINE)


def _last_with(defined: re.Pattern[str], blocks: Sequence[str]) -> str | None:
    """The last block that defines the function."""
    return next((block for block in reversed(blocks) if defined.search(block)), None)


def _prompt(task: str) -> str:
    return _REQUEST.format(prompt=task)


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
