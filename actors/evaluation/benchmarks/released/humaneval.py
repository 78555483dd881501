"""HumanEval as released: lm-evaluation-harness's chat task, the first fenced block."""

from __future__ import annotations

import re

# Of ``python3`` the 3 stays in the code, where it is a statement without effect.
_FENCED = re.compile(r"```(?:python|py)?\s*(.*?)```", re.DOTALL)


def prompt(task: str) -> str:
    """The user turn; ``task`` is the function's head and docstring."""
    return (
        "Complete the following Python function. "
        "Return ONLY the complete function inside a ```python code block, nothing else.\n\n"
        f"```python\n{task}\n```\n"
    )


def code(response: str) -> str:
    """The first closed block, stripped, else the response up to a fence, else all of it."""
    block = _FENCED.search(response)
    return response.partition("```")[0] if block is None else block[1].strip()


def has_block(response: str) -> bool:
    """Whether the response has a closed block."""
    return _FENCED.search(response) is not None


def program(task: str, response: str) -> str:
    """The program that the tests run against: the code continues the task."""
    return task + code(response)
