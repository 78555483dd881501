"""What a generated program can reach: memory, files, processes, the kernel and the network."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from actors.evaluation.sandbox import sandbox as sandboxes
from actors.evaluation.sandbox.sandbox import ExecutionResult, Sandbox
from tests.actors.evaluation.sandbox.programs import run


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder that may be lost."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "diary.txt").write_text("dear diary")
    monkeypatch.setenv("HOME", str(home))
    return home


@pytest.mark.parametrize(
    "program",
    [
        "import os; os.fork()",
        "import os; os.posix_spawn('/usr/bin/env', ['env'], {})",
        "import os; os.execv('/usr/bin/env', ['env'])",
        "import subprocess; subprocess.run(['/usr/bin/env'])",
        "import multiprocessing; multiprocessing.get_context('fork').Process().start()",
    ],
)
def test_there_are_no_other_processes(sandbox: Sandbox, program: str) -> None:
    outcome = run(sandbox, program)
    assert outcome.detail.startswith("OSError: [Errno 38] Function not implemented"), outcome


def test_threads_are_bounded(sandbox: Sandbox) -> None:
    program = (
        "import threading\nthreading.stack_size(2**16)\nhold = threading.Event()\n"
        "for _ in range({}): threading.Thread(target=hold.wait, daemon=True).start()\n"
    )
    assert run(sandbox, program.format(16)).passed
    assert run(sandbox, program.format(200)).detail == "RuntimeError: can't start new thread"


def test_ten_gigabytes_are_refused(sandbox: Sandbox) -> None:
    assert run(sandbox, "b = bytearray(100 * 2**20)").passed
    assert run(sandbox, "b = bytearray(10 * 2**30)").detail.startswith("MemoryError")


def test_removing_the_home_folder_removes_nothing_of_ours(sandbox: Sandbox, home: Path) -> None:
    # A harmless probe first: the folder must not be there at all.
    probe = f"import os; assert not os.path.exists({str(home)!r}), 'visible'"
    assert run(sandbox, probe) == ExecutionResult(True)
    assert run(sandbox, "import os; assert os.path.expanduser('~') == '/tmp'").passed
    run(sandbox, f"import shutil; shutil.rmtree({str(home)!r})")
    run(sandbox, "import shutil; shutil.rmtree('/', ignore_errors=True)")
    assert (home / "diary.txt").read_text() == "dear diary"


def test_the_home_folder_cannot_be_read(sandbox: Sandbox, home: Path) -> None:
    outcome = run(sandbox, f"open({str(home / 'diary.txt')!r})")
    assert outcome.detail.startswith("FileNotFoundError")
    assert run(sandbox, "import os; assert 'TOKEN' not in ' '.join(os.environ)").passed
    assert run(sandbox, "import os; assert not os.path.exists('/proc/self')").passed


@pytest.mark.parametrize("path", ["/new", "/usr/new", "/bin/new", "/dev/new", "/etc/new"])
def test_the_file_system_is_read_only(sandbox: Sandbox, path: str) -> None:
    outcome = run(sandbox, f"open({path!r}, 'w')")
    assert outcome.detail.startswith(("OSError: [Errno 30]", "PermissionError")), outcome


def test_the_temporary_folder_is_writable_and_forgotten(sandbox: Sandbox) -> None:
    name = f"mixsd-{os.getpid()}"
    assert run(sandbox, f"open('/tmp/{name}', 'w').write('x'); open('here', 'w')").passed
    assert not (Path("/tmp") / name).exists()
    assert run(sandbox, "import os; assert os.listdir('/tmp') == []").passed


# What is no address space of a process, so that its limit does not hold it.
OUTSIDE = {
    "System V shared memory": """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
libc.shmat.restype = ctypes.c_void_p
for _ in range(3):
    segment = libc.shmget(0, 120 << 20, 0o1600)
    assert segment >= 0, "refused"
    address = ctypes.c_void_p(libc.shmat(segment, None, 0))
    ctypes.memset(address, 1, 120 << 20)
    libc.shmdt(address)
""",
    "memfd": """
import os
for name in range(30):
    file = os.memfd_create(str(name))
    for _ in range(10):
        os.write(file, bytes(1 << 20))
""",
    "files": """
for number in range(30):
    open(f"/tmp/{number}", "wb").write(bytes(10 << 20))
""",
    "empty files": """
for number in range(10_000):
    open(f"/tmp/{number}", "w").close()
""",
    "processes": """
import os, time
for _ in range(4):
    if os.fork() == 0:
        held = bytearray(100 << 20)
        time.sleep(2)
        os._exit(0)
""",
}


@pytest.mark.parametrize("name", OUTSIDE)
def test_memory_outside_the_address_space_is_bounded(sandbox: Sandbox, name: str) -> None:
    outcome = run(Sandbox(timeout_s=20, memory_mib=200), OUTSIDE[name])
    assert outcome.detail.startswith(("AssertionError: refused", "OSError")), outcome


# Numbers of x86_64 and aarch64 with their arguments; each succeeds without the filter, or
# fails for another reason than ENOSYS.
KERNEL = {
    "unshare(CLONE_NEWUSER)": (272, 97, 0x10000000),
    "setns": (308, 268, 0, 0),
    "mount": (165, 40, 0, 0, 0, 0, 0),
    "open_tree": (428, 428, 0, 0, 0),
    "io_uring_setup": (425, 425, 8, 0),
    "keyctl": (250, 219, 0, -3, 0),
    "add_key": (248, 217, 0, 0, 0, 0, 0),
    "ptrace": (101, 117, 0, 0, 0, 0),
    "process_vm_readv": (310, 270, 1, 0, 0, 0, 0, 0),
    "pidfd_open": (434, 434, 1, 0),
    "bpf": (321, 280, 0, 0, 0),
    "perf_event_open": (298, 241, 0, 0, -1, -1, 0),
    "userfaultfd": (323, 282, 1),
    "open_by_handle_at": (304, 265, 0, 0, 0),
    "mq_open": (240, 180, 0, 0, 0, 0),
    "msgget": (68, 186, 0, 0o1600),
    "seccomp": (317, 277, 0, 0, 0),
    "socket(AF_VSOCK)": (41, 198, 40, 1, 0),
    "clone(CLONE_NEWUSER)": (56, 220, 0x10000000 | 17, 0, 0, 0, 0),
    "clone(CLONE_THREAD | CLONE_NEWNET)": (56, 220, 0x40010000, 0, 0, 0, 0),
    "ioctl(TIOCSTI)": (16, 29, 0, 0x5412, 0),
}


@pytest.mark.parametrize("name", KERNEL)
def test_a_system_call_that_computing_does_not_need_is_refused(sandbox: Sandbox, name: str) -> None:
    x86_64, aarch64, *arguments = KERNEL[name]
    number = x86_64 if os.uname().machine == "x86_64" else aarch64
    program = (
        "import ctypes, errno\nlibc = ctypes.CDLL(None, use_errno=True)\n"
        f"assert libc.syscall({number}, *map(ctypes.c_long, {arguments})) == -1\n"
        "assert ctypes.get_errno() == errno.ENOSYS, ctypes.get_errno()\n"
    )
    assert run(sandbox, program) == ExecutionResult(True)


def test_what_computing_needs_works(sandbox: Sandbox) -> None:
    program = """
import asyncio, concurrent.futures, datetime, decimal, hashlib, os, pathlib, queue, random, re
import secrets, select, shutil, signal, sqlite3, sys, tempfile, threading, time, zlib
with concurrent.futures.ThreadPoolExecutor(4) as pool:
    assert list(pool.map(abs, [-1, 2])) == [1, 2]
assert asyncio.run(asyncio.sleep(0.01, "slept")) == "slept"
with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder, "a")
    path.write_text("text")
    shutil.copy(path, path.with_name("b"))
    os.link(path, path.with_name("c"))
    assert sorted(os.listdir(folder)) == ["a", "b", "c"]
    base = sqlite3.connect(path.with_name("d"))
    base.execute("create table t (x)")
    base.close()
try:
    signal.signal(signal.SIGALRM, lambda *_: (_ for _ in ()).throw(TimeoutError()))
    signal.setitimer(signal.ITIMER_REAL, 0.01)
    time.sleep(5)
except TimeoutError:
    pass
assert secrets.token_hex() and time.time() and datetime.datetime.now() and os.cpu_count()
assert open("/dev/urandom", "rb").read(2) and os.times() and os.getlogin is not None
"""
    assert run(sandbox, program) == ExecutionResult(True)


def test_a_file_cannot_fill_the_memory(sandbox: Sandbox) -> None:
    program = (
        "import signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "f = open('/tmp/big', 'wb')\nfor _ in range(200): f.write(bytes(2**20))\n"
    )
    assert run(sandbox, program).detail.startswith("OSError: [Errno 27]")


@pytest.mark.parametrize("address", ["('127.0.0.1', {port})", "('192.0.2.1', 53)"])
def test_a_socket_reaches_nobody(sandbox: Sandbox, address: str) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        target = address.format(port=port)
        outcome = run(sandbox, f"import socket; socket.create_connection({target}, 2)")
    assert outcome.detail.startswith(("OSError", "ConnectionRefusedError", "TimeoutError"))


def test_a_program_has_no_privileges_and_sees_no_other_process(sandbox: Sandbox) -> None:
    assert run(sandbox, "import os; assert os.getuid() != 0 and os.getpid() < 10").passed
    assert not run(sandbox, "import os; os.kill(os.getppid(), 0); os.chroot('/tmp')").passed
    assert run(sandbox, f"import os\ntry: os.kill({os.getpid()}, 0)\nexcept OSError: pass").passed
    mount = (
        "import ctypes, os\nos.mkdir('/tmp/m')\n"
        "assert ctypes.CDLL(None).mount(b'none', b'/tmp/m', b'tmpfs', 0, None) == -1"
    )
    assert run(sandbox, mount).passed


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")
def test_an_ordinary_user_is_contained_too() -> None:
    python = "/usr/bin/python3"
    folder = Path(sandboxes.__file__).parents[3]
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from actors.evaluation.sandbox.sandbox import Sandbox\n"
        "box = Sandbox(timeout_s=20)\n"
        "assert box.run_tests('def f(): return 1', 'f', 'assert f() == 1').passed\n"
        "print(box.run_tests(\"def f(): open('/etc/passwd')\", 'f', 'f()').detail)\n"
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
