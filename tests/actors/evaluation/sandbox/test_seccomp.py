"""The filter, read by an interpreter of its instructions, for both machines."""

from __future__ import annotations

import os
import re
import struct
from pathlib import Path

import pytest

from actors.evaluation.sandbox import seccomp

ALLOWED, REFUSED, KILLED = seccomp.ALLOW, seccomp.ERRNO | 38, seccomp.KILL_PROCESS
OTHER = {"x86_64": "aarch64", "aarch64": "x86_64"}
HEADERS = {
    "x86_64": Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    "aarch64": Path("/usr/include/asm-generic/unistd.h"),
}
# Numbers on x86_64 and aarch64 (None: no such call) of what must never be allowed.
DANGEROUS = {
    "fork": (57, None),
    "vfork": (58, None),
    "clone3": (435, 435),
    "execve": (59, 221),
    "execveat": (322, 281),
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "mount_setattr": (442, 442),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "shmget": (29, 194),
    "shmat": (30, 196),
    "semget": (64, 190),
    "msgget": (68, 186),
    "mq_open": (240, 180),
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438),
    "kcmp": (312, 272),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "open_by_handle_at": (304, 265),
    "name_to_handle_at": (303, 264),
    "personality": (135, 92),
    "prctl": (157, 167),
    "seccomp": (317, 277),
    "socket": (41, 198),
    "connect": (42, 203),
    "sendmsg": (46, 211),
    "recvmsg": (47, 212),
    "setuid": (105, 146),
    "capset": (126, 91),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "settimeofday": (164, 170),
    "fanotify_init": (300, 262),
    "landlock_create_ruleset": (444, 444),
    "syslog": (103, 116),
    "acct": (163, 89),
    "quotactl": (179, 60),
}


def _answer(machine: str, number: int, *arguments: int, architecture: str | None = None) -> int:
    """What the filter returns for a system call with its arguments."""
    data = struct.pack(
        "<IIQ6Q",
        number,
        seccomp.AUDIT_ARCH[architecture or machine],
        0,
        *(*arguments, 0, 0, 0, 0, 0, 0)[:6],
    )
    word, step, program = 0, 0, seccomp.program(machine)
    while True:
        code, yes, no, constant = program[step]
        step += 1
        if code == seccomp.LOAD:
            (word,) = struct.unpack_from("<I", data, constant)
        elif code == seccomp.AND:
            word &= constant
        elif code == seccomp.JUMP_IF_EQUAL:
            step += yes if word == constant else no
        elif code == seccomp.RETURN:
            return constant
        else:
            raise AssertionError(f"unknown instruction {code:#x}")


def _numbers(machine: str) -> dict[str, int]:
    calls = [*seccomp.CALLS.replace("\n", ";").split(";"), *seccomp.CONDITIONAL]
    found = {call.split()[0]: seccomp.number(call, machine) for call in calls if call.strip()}
    return {name: number for name, number in found.items() if number is not None}


@pytest.mark.parametrize("machine", seccomp.MACHINES)
def test_no_dangerous_call_is_allowed(machine: str) -> None:
    for name, numbers in DANGEROUS.items():
        number = numbers[seccomp.MACHINES.index(machine)]
        assert number is None or _answer(machine, number) == REFUSED, name


@pytest.mark.parametrize("machine", seccomp.MACHINES)
def test_only_calls_of_the_table_are_allowed(machine: str) -> None:
    allowed = {number for number in range(5000) if _answer(machine, number) == ALLOWED}
    numbers = _numbers(machine)
    assert allowed == {numbers[name] for name in numbers.keys() - {"clone", "ioctl"}}
    # x32 calls of x86_64 have a bit of their own.
    assert _answer(machine, 0x40000000 + numbers["read"]) == REFUSED


@pytest.mark.parametrize("machine", seccomp.MACHINES)
def test_a_call_of_another_architecture_kills(machine: str) -> None:
    read = _numbers(machine)["read"]
    assert _answer(machine, read) == ALLOWED
    assert _answer(machine, read, architecture=OTHER[machine]) == KILLED


@pytest.mark.parametrize("machine", seccomp.MACHINES)
def test_clone_makes_threads_alone(machine: str) -> None:
    clone = _numbers(machine)["clone"]
    thread = 0x003D0F00  # what glibc's pthread_create passes
    assert _answer(machine, clone, thread) == ALLOWED
    assert _answer(machine, clone, 17) == REFUSED  # fork: SIGCHLD
    assert _answer(machine, clone, 0x4111) == REFUSED  # vfork
    for space in (17, 25, 26, 27, 28, 29, 30):  # CLONE_NEWNS to CLONE_NEWNET
        assert _answer(machine, clone, 1 << space | 17) == REFUSED
        assert _answer(machine, clone, 1 << space | thread) == REFUSED


@pytest.mark.parametrize("machine", seccomp.MACHINES)
def test_ioctl_asks_for_terminals_and_sets_flags_alone(machine: str) -> None:
    ioctl = _numbers(machine)["ioctl"]
    assert _answer(machine, ioctl, 0, 0x5401) == ALLOWED
    assert _answer(machine, ioctl, 0, 0x5412) == REFUSED  # TIOCSTI types into a terminal


@pytest.mark.parametrize("machine", seccomp.MACHINES)
def test_the_numbers_are_those_of_the_kernel_headers(machine: str) -> None:
    if not HEADERS[machine].exists():
        pytest.skip(f"no {HEADERS[machine]}")
    text = HEADERS[machine].read_text()
    pattern = r"#define __NR(?:3264)?_(\w+)\s+(\d+)$"
    known = {name: int(number) for name, number in re.findall(pattern, text, re.MULTILINE)}
    # The generic table has one name for both word sizes.
    known.setdefault("newfstatat", known.get("fstatat", -1))
    dangerous = {
        name: numbers[seccomp.MACHINES.index(machine)] for name, numbers in DANGEROUS.items()
    }
    for name, number in {**_numbers(machine), **dangerous}.items():
        # Headers may be older than the newest calls.
        assert number is None or known.get(name, number) == number, name
    assert len(_numbers(machine).keys() & known.keys()) > 100


def test_an_unknown_machine_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    names = os.uname()
    monkeypatch.setattr(os, "uname", lambda: os.uname_result((*names[:4], "vax")))
    with pytest.raises(OSError, match="no table of system calls for vax"):
        seccomp.install()
