"""What a generated program can and cannot do."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from actors.evaluation.sandbox import sandbox as sandboxes
from actors.evaluation.sandbox.sandbox import ExecutionResult, Sandbox, SandboxError


@pytest.fixture(scope="module")
def sandbox() -> Sandbox:
    try:
        return Sandbox(timeout_s=20)
    except SandboxError as error:
        pytest.skip(str(error))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder that may be lost."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "diary.txt").write_text("dear diary")
    monkeypatch.setenv("HOME", str(home))
    return home


def _left_over() -> list[str]:
    """Processes of the sandbox that are still there."""
    shown = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
    return [line for line in shown.stdout.splitlines() if "confine.py" in line and "-I" in line]


def test_a_program_that_runs_to_its_end_passes(sandbox: Sandbox) -> None:
    assert sandbox.run("assert sum([1, 2]) == 3") == ExecutionResult(True)


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
    outcome = sandbox.run(program)
    assert not outcome.passed
    assert outcome.detail.startswith(detail)


def test_output_is_thrown_away_however_much(sandbox: Sandbox) -> None:
    assert sandbox.run("for _ in range(50): print('x' * 10**6)").passed


def test_an_infinite_loop_ends_at_the_time_out(sandbox: Sandbox) -> None:
    assert Sandbox(timeout_s=1).run("while True: pass").detail == "no end after 1 s"


def test_a_program_that_ignores_signals_and_sleeps_ends_too(sandbox: Sandbox) -> None:
    program = (
        "import signal, time\n"
        "for number in (1, 2, 15): signal.signal(number, signal.SIG_IGN)\n"
        "time.sleep(1000)"
    )
    assert not Sandbox(timeout_s=1).run(program).passed


def test_children_end_with_the_program(sandbox: Sandbox) -> None:
    program = (
        "import os, time\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    if os.fork() == 0:\n"
        "        time.sleep(1000)\n"
        "    os._exit(0)\n"
    )
    before = len(_left_over())
    assert sandbox.run(program).passed
    deadline = time.monotonic() + 10
    while len(_left_over()) > before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(_left_over()) <= before


def test_a_fork_bomb_stops_at_the_limit_and_leaves_nothing(sandbox: Sandbox) -> None:
    # First a counted one: the limit holds, so that the bomb is safe to try.
    counted = (
        "import os, time\nchildren = 0\n"
        "try:\n"
        "    for _ in range(40):\n"
        "        if os.fork() == 0:\n"
        "            time.sleep(5); os._exit(0)\n"
        "        children += 1\n"
        "except OSError:\n"
        "    raise SystemExit(children)\n"
    )
    outcome = Sandbox(timeout_s=20, processes=16).run(counted)
    assert outcome.detail.startswith("ended early: SystemExit(")
    assert 0 < int(outcome.detail.partition("(")[2].rstrip(")")) < 16
    before = len(_left_over())
    bomb = (
        "import os\nwhile True:\n    try:\n        os.fork()\n    except OSError:\n        pass\n"
    )
    assert not Sandbox(timeout_s=1, processes=16).run(bomb).passed
    deadline = time.monotonic() + 10
    while len(_left_over()) > before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(_left_over()) <= before


def test_ten_gigabytes_are_refused(sandbox: Sandbox) -> None:
    assert sandbox.run("b = bytearray(100 * 2**20)").passed
    assert sandbox.run("b = bytearray(10 * 2**30)").detail.startswith("MemoryError")


def test_removing_the_home_folder_removes_nothing_of_ours(sandbox: Sandbox, home: Path) -> None:
    # A harmless probe first: the folder must not be there at all.
    probe = f"import os; assert not os.path.exists({str(home)!r}), 'visible'"
    assert sandbox.run(probe) == ExecutionResult(True)
    assert sandbox.run("import os; assert os.path.expanduser('~') == '/tmp'").passed
    sandbox.run(f"import os; os.system('rm -rf ~ {home}')")
    assert (home / "diary.txt").read_text() == "dear diary"


def test_the_home_folder_cannot_be_read(sandbox: Sandbox, home: Path) -> None:
    outcome = sandbox.run(f"open({str(home / 'diary.txt')!r})")
    assert outcome.detail.startswith("FileNotFoundError")
    assert sandbox.run("import os; assert 'TOKEN' not in ' '.join(os.environ)").passed


@pytest.mark.parametrize("path", ["/new", "/usr/new", "/bin/new", "/dev/new", "/etc/new"])
def test_the_file_system_is_read_only(sandbox: Sandbox, path: str) -> None:
    outcome = sandbox.run(f"open({path!r}, 'w')")
    assert outcome.detail.startswith(("OSError: [Errno 30]", "PermissionError")), outcome


def test_the_temporary_folder_is_writable_and_forgotten(sandbox: Sandbox) -> None:
    name = f"mixsd-{os.getpid()}"
    assert sandbox.run(f"open('/tmp/{name}', 'w').write('x'); open('here', 'w')").passed
    assert not (Path("/tmp") / name).exists()
    assert sandbox.run("import os; assert os.listdir('/tmp') == []").passed


def test_a_file_cannot_fill_the_memory(sandbox: Sandbox) -> None:
    program = (
        "import signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "f = open('/tmp/big', 'wb')\nfor _ in range(200): f.write(bytes(2**20))\n"
    )
    assert sandbox.run(program).detail.startswith("OSError: [Errno 27]")


@pytest.mark.parametrize("address", ["('127.0.0.1', {port})", "('192.0.2.1', 53)"])
def test_a_socket_reaches_nobody(sandbox: Sandbox, address: str) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        target = address.format(port=port)
        outcome = sandbox.run(f"import socket; socket.create_connection({target}, 2)")
    assert outcome.detail.startswith(("OSError", "ConnectionRefusedError", "TimeoutError"))


def test_a_program_has_no_privileges_and_sees_no_other_process(sandbox: Sandbox) -> None:
    assert sandbox.run("import os; assert os.getuid() != 0 and os.getpid() < 10").passed
    assert not sandbox.run("import os; os.kill(os.getppid(), 0); os.chroot('/tmp')").passed
    assert sandbox.run(f"import os\ntry: os.kill({os.getpid()}, 0)\nexcept OSError: pass").passed
    mount = (
        "import ctypes, os\nos.mkdir('/tmp/m')\n"
        "assert ctypes.CDLL(None).mount(b'none', b'/tmp/m', b'tmpfs', 0, None) == -1"
    )
    assert sandbox.run(mount).passed


def test_without_isolation_nothing_is_run_unless_told_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandboxes, "_problem", lambda: "unshare: Operation not permitted")
    with pytest.raises(SandboxError, match=r"unshare: Operation not permitted.*unsafe_code=true"):
        Sandbox(timeout_s=1)
    unsafe = Sandbox(timeout_s=10, unsafe=True)
    assert not unsafe.isolated
    assert unsafe.run("pass").passed
    assert unsafe.run("1/0").detail.startswith("ZeroDivisionError")
    assert unsafe.run("b = bytearray(10 * 2**30)").detail.startswith("MemoryError")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")
def test_an_ordinary_user_is_contained_too() -> None:
    python = "/usr/bin/python3"
    folder = Path(sandboxes.__file__).parents[3]
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from actors.evaluation.sandbox.sandbox import Sandbox\n"
        "box = Sandbox(timeout_s=20)\n"
        "assert box.run('pass').passed\n"
        "print(box.run(\"open('/etc/passwd')\").detail)\n"
    )
    if not os.path.exists(python):
        pytest.skip(f"no {python} that everybody may run")
    result = subprocess.run(
        [python, "-B", "-c", code, str(folder)],
        user=65534,
        group=65534,
        extra_groups=[],
        env={"HOME": "/nonexistent"},
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
    )
    if "Permission denied" in result.stderr or "ModuleNotFoundError" in result.stderr:
        pytest.skip("the source is not readable for everybody")
    if "SandboxError" in result.stderr:
        pytest.skip(result.stderr.strip().splitlines()[-1])
    assert result.stdout.startswith("FileNotFoundError"), result.stderr


def test_the_inside_needs_nothing_but_the_standard_library() -> None:
    result = subprocess.run(
        [
            os.path.realpath(sys.executable),
            "-I",
            "-S",
            "-c",
            "import sys, runpy; runpy.run_path(sys.argv[1]); print('ok')",
            str(Path(sandboxes.__file__).parent / "confine.py"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.stdout == "ok\n", result.stderr
