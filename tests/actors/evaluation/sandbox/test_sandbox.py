"""What is said of a generated program, and that it ends."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from actors.evaluation.sandbox import sandbox as sandboxes
from actors.evaluation.sandbox.sandbox import ExecutionResult, Sandbox, SandboxError
from tests.actors.evaluation.sandbox.programs import run


def _left_over() -> list[str]:
    """Processes of the sandbox that are still there."""
    shown = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
    return [line for line in shown.stdout.splitlines() if "inside.main()" in line and "-I" in line]


def test_a_function_passes_where_its_tests_do(sandbox: Sandbox) -> None:
    double = "def double(x):\n    return 2 * x\n"
    assert sandbox.run_tests(double, "double", "assert double(4) == 8") == ExecutionResult(True)
    wrong = sandbox.run_tests(double, "double", "assert double(4) == 9, 'not 9'")
    assert wrong == ExecutionResult(False, "AssertionError: not 9")


def test_a_call_that_fails_fails_its_test_with_its_reason(sandbox: Sandbox) -> None:
    inverse = "def inverse(x):\n    return 1 / x\n"
    outcome = sandbox.run_tests(inverse, "inverse", "assert inverse(2) == 0.5; inverse(0)")
    assert outcome == ExecutionResult(False, "ZeroDivisionError: division by zero")


def test_a_solution_without_the_function_fails(sandbox: Sandbox) -> None:
    outcome = sandbox.run_tests("def f(): pass", "g", "g()")
    assert outcome == ExecutionResult(False, "NameError: name 'g' is not defined")
    # Tests that call nothing prove nothing.
    assert not sandbox.run_tests("1/0", "g", "pass").passed


def test_a_function_keeps_its_state_and_takes_names_and_large_values(sandbox: Sandbox) -> None:
    count = "seen = []\ndef count(*, item):\n    seen.append(item)\n    return len(seen), item\n"
    tests = "big = 'x' * 10**6\nassert count(item=1) == (1, 1)\nassert count(item=big) == (2, big)"
    assert sandbox.run_tests(count, "count", tests) == ExecutionResult(True)


@pytest.mark.parametrize(
    ("program", "detail"),
    [
        ("1/0", "ZeroDivisionError: division by zero"),
        ("def", "SyntaxError"),
        ("assert False, 'no'", "AssertionError: no"),
        ("raise SystemExit(0)", "ended early: SystemExit(0)"),
        ("import os; os._exit(0)", "ended early (exit status 0)"),
        ("import os; os.kill(os.getpid(), 9)", "killed by signal 9"),
        ("import os; os.kill(os.getpid(), 11)", "killed by signal 11"),
        ("def f(): f()\nf()", "RecursionError"),
    ],
)
def test_a_program_that_does_not_is_told_why(sandbox: Sandbox, program: str, detail: str) -> None:
    outcome = run(sandbox, program)
    assert not outcome.passed
    assert outcome.detail.startswith(detail)


def test_output_is_thrown_away_however_much(sandbox: Sandbox) -> None:
    assert run(sandbox, "for _ in range(50): print('x' * 10**6)").passed


def test_an_infinite_loop_ends_at_the_time_out(sandbox: Sandbox) -> None:
    assert run(Sandbox(timeout_s=1), "while True: pass").detail == "no end after 1 s"


def test_a_program_that_ignores_signals_and_sleeps_ends_too(sandbox: Sandbox) -> None:
    program = (
        "import signal, time\n"
        "for number in (1, 2, 15): signal.signal(number, signal.SIG_IGN)\n"
        "time.sleep(1000)"
    )
    assert not run(Sandbox(timeout_s=1), program).passed


def test_threads_end_with_the_program(sandbox: Sandbox) -> None:
    program = "import threading, time\nthreading.Thread(target=time.sleep, args=[1000]).start()\n"
    before = len(_left_over())
    assert run(sandbox, program).passed
    deadline = time.monotonic() + 10
    while len(_left_over()) > before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(_left_over()) <= before


def test_without_isolation_nothing_is_run_unless_told_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandboxes, "problem", lambda: "unshare: Operation not permitted")
    with pytest.raises(SandboxError, match=r"unshare: Operation not permitted.*unsafe_code=true"):
        Sandbox(timeout_s=1)
    unsafe = Sandbox(timeout_s=10, unsafe=True)
    assert not unsafe.isolated
    assert run(unsafe, "pass").passed
    assert run(unsafe, "1/0").detail.startswith("ZeroDivisionError")
    assert run(unsafe, "b = bytearray(10 * 2**30)").detail.startswith("MemoryError")


def test_the_inside_needs_nothing_but_the_standard_library() -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from actors.evaluation.sandbox import inside\n"
        "print(*sorted(name for name in sys.modules if name.partition('.')[0] == 'actors'))\n"
        "print(*({name.partition('.')[0] for name in sys.modules} - sys.stdlib_module_names))\n"
    )
    folder = Path(sandboxes.__file__).parents[3]
    result = subprocess.run(
        [os.path.realpath(sys.executable), "-I", "-S", "-c", code, str(folder)],
        capture_output=True,
        text=True,
        check=True,
    )
    ours, others = result.stdout.splitlines()
    room = "actors.evaluation.sandbox"
    inside = [f"{room}.{name}" for name in ("confine", "inside", "seccomp", "values")]
    assert ours.split() == ["actors", "actors.evaluation", room, *inside]
    assert set(others.split()) <= {"actors", "__main__"}
