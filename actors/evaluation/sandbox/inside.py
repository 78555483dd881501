"""What runs inside the sandbox: a solution that answers calls, or the tests that make them.

``sandbox`` starts this twice, each time with namespaces of its own. The solution's
process has the code under test and neither the tests nor their verdict; the tests'
process has no code of the solution and gets plain data from it (``values``). Two pipes
join them: calls, and their results.

Standard input holds the task as JSON; standard output gets the verdict of the tests, or
why no verdict came. Standard library only: it runs in a bare interpreter.

Three processes of each: the first waits outside; its child is init of the new process
tree, whose end kills all others there; init's child runs the code.
"""

import json
import os
import sys
from dataclasses import dataclass
from typing import Any, BinaryIO

from actors.evaluation.sandbox import confine, seccomp, values

MAX_DETAIL = 500


@dataclass(frozen=True)
class Task:
    """``role`` is solution or tests; ``read`` and ``write`` are its ends of the two pipes."""

    role: str
    source: str
    entry_point: str
    read: int
    write: int
    isolated: bool
    memory_bytes: int
    cpu_s: int


class SolutionError(Exception):
    """What a call of the function raised, or why there is no function."""


class Gone(Exception):
    """The solution's process answers no more."""


class Candidate:
    """The function under test, for its tests: a call asks the solution's process."""

    def __init__(self, calls: BinaryIO, results: BinaryIO) -> None:
        self._calls, self._results = calls, results

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        try:
            self._calls.write(values.dumps([arguments, named]))
            self._calls.flush()
        except BrokenPipeError:
            raise Gone from None
        return self.answer()

    def answer(self) -> Any:
        """The next result."""
        line = self._results.readline()
        if not line.endswith(b"\n"):
            raise Gone
        error, result = values.loads(line)
        if error is not None:
            raise SolutionError(error)
        return result


def serve(task: Task, calls: BinaryIO, results: BinaryIO) -> None:
    """Define the function, then answer calls until there are no more."""
    process = os.getpid()
    namespace: dict[str, Any] = {"__name__": "__main__"}
    try:
        exec(compile(task.source, "solution.py", "exec"), namespace)
        if task.entry_point not in namespace:
            raise NameError(f"name {task.entry_point!r} is not defined")
        function = namespace[task.entry_point]
        first = values.dumps((None, None))
    except BaseException as error:
        first = values.dumps((_text(error), None))
    results.write(first)
    results.flush()
    for call in calls:
        arguments, named = values.loads(call)
        try:
            result = values.dumps((None, function(*arguments, **named)))
        except BaseException as error:
            result = values.dumps((_text(error), None))
        if os.getpid() != process:
            # Without isolation the function may fork; its children come by here too.
            os._exit(0)
        results.write(result)
        results.flush()


def judge(task: Task, calls: BinaryIO, results: BinaryIO) -> tuple[bool, str]:
    """Whether the tests pass, and why not; no reason where the solution's process is gone."""
    candidate = Candidate(calls, results)
    try:
        candidate.answer()
        # The tests may call the function by its name.
        namespace = {"__name__": "__main__", task.entry_point: candidate}
        exec(compile(task.source, "tests.py", "exec"), namespace)
    except Gone:
        return False, ""
    except SolutionError as error:
        return False, str(error)
    except BaseException as error:
        return False, _text(error)
    return True, ""


def _text(error: BaseException) -> str:
    try:
        if isinstance(error, SystemExit):
            return f"ended early: SystemExit({error.code!r})"[:MAX_DETAIL]
        return f"{type(error).__name__}: {error}"[:MAX_DETAIL]
    except Exception:
        return type(error).__name__


def main() -> None:
    """Lock up, run what standard input holds, and report on standard output."""
    task = Task(**json.load(sys.stdin))
    report = os.dup(1)

    def say(passed: bool, detail: str) -> None:
        os.write(report, json.dumps({"passed": passed, "detail": detail}).encode() + b"\n")

    def work() -> int:
        null = os.open("/dev/null", os.O_RDWR)
        for descriptor in range(3):
            os.dup2(null, descriptor)
        confine.limit(task.memory_bytes, task.cpu_s, isolated=task.isolated)
        if task.isolated:
            try:
                seccomp.install()
            except OSError as error:
                say(False, f"isolation failed: {error.strerror}")
                return 1
        read, write = os.fdopen(task.read, "rb"), os.fdopen(task.write, "wb")
        if task.role == "solution":
            os.close(report)
            serve(task, read, write)
        else:
            say(*judge(task, write, read))
        return 0

    def watch() -> int:
        status = confine.in_child(work)
        if status < 0:
            say(False, f"killed by signal {-status}")
        return abs(status)

    def init() -> int:
        confine.drop_privileges()
        return watch()

    if not task.isolated:
        os.chdir(os.environ["HOME"])
        sys.exit(watch())
    try:
        confine.isolate()
    except OSError as error:
        say(False, f"isolation failed: {error.strerror or error}")
        sys.exit(1)
    sys.exit(abs(confine.in_child(init)))
