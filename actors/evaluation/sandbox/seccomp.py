"""Which system calls a confined process may make: a seccomp filter of the kernel.

The filter is a list of what Python and its standard library need to compute, to use
files and to run threads. Every other call fails with ``ENOSYS``, which C libraries and
Python take for an old kernel; new calls of newer kernels are therefore refused as well.
Among the refused: new processes and programs, namespaces, mounts, ptrace and the memory
of other processes, System V and POSIX shared memory, memfd, io_uring, keyrings, BPF,
and sockets (of which AF_VSOCK would reach beyond a network namespace).

Numbers are those of Linux 6.1's ``asm/unistd.h``, for x86_64 and aarch64.
"""

import ctypes
import errno
import os

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
KILL_PROCESS, ALLOW, ERRNO = 0x80000000, 0x7FFF0000, 0x00050000

# Fields of struct seccomp_data: byte offsets. Little endian: the low half comes first.
NUMBER, ARCHITECTURE, ARGUMENTS = 0, 4, 16
AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
MACHINES = tuple(AUDIT_ARCH)

# Classic BPF: load a word, and it with a constant, jump if equal, return.
LOAD, AND, JUMP_IF_EQUAL, RETURN = 0x20, 0x54, 0x15, 0x06

# Name, number on x86_64, number on aarch64 (- where there is no such call).
CALLS = """
read 0 63; write 1 64; readv 19 65; writev 20 66; pread64 17 67; pwrite64 18 68; preadv 295 69
pwritev 296 70; open 2 -; openat 257 56; close 3 57; close_range 436 436; lseek 8 62; stat 4 -
fstat 5 80; lstat 6 -; newfstatat 262 79; statx 332 291; access 21 -; faccessat 269 48
faccessat2 439 439; readlink 89 -; readlinkat 267 78; getcwd 79 17; chdir 80 49; fchdir 81 50
mkdir 83 -; mkdirat 258 34; rmdir 84 -; unlink 87 -; unlinkat 263 35; rename 82 -; renameat 264 38
renameat2 316 276; link 86 -; linkat 265 37; symlink 88 -; symlinkat 266 36; truncate 76 45
ftruncate 77 46; fallocate 285 47; fsync 74 82; fdatasync 75 83; getdents64 217 61; dup 32 23
dup2 33 -; dup3 292 24; fcntl 72 25; flock 73 32; umask 95 166; chmod 90 -; fchmod 91 52
fchmodat 268 53; utimensat 280 88; statfs 137 43; fstatfs 138 44; sendfile 40 71
copy_file_range 326 285; fadvise64 221 223

mmap 9 222; munmap 11 215; mremap 25 216; mprotect 10 226; brk 12 214; madvise 28 233; msync 26 227

futex 202 98; set_tid_address 218 96; set_robust_list 273 99; get_robust_list 274 100; rseq 334 293
gettid 186 178; sched_yield 24 124; sched_getaffinity 204 123; sched_getparam 143 121
sched_getscheduler 145 120; getcpu 309 168; arch_prctl 158 -; exit 60 93; exit_group 231 94
restart_syscall 219 128

rt_sigaction 13 134; rt_sigprocmask 14 135; rt_sigreturn 15 139; rt_sigpending 127 136
rt_sigtimedwait 128 137; rt_sigsuspend 130 133; sigaltstack 131 132; pause 34 -; alarm 37 -
setitimer 38 103; getitimer 36 102; kill 62 129; tkill 200 130; tgkill 234 131

poll 7 -; ppoll 271 73; select 23 -; pselect6 270 72; epoll_create1 291 20; epoll_ctl 233 21
epoll_wait 232 -; epoll_pwait 281 22; eventfd2 290 19; pipe 22 -; pipe2 293 59; wait4 61 260
waitid 247 95; socketpair 53 199; getsockname 51 204; getpeername 52 205; getsockopt 55 209
sendto 44 206; recvfrom 45 207; shutdown 48 210

clock_gettime 228 113; clock_getres 229 114; clock_nanosleep 230 115; nanosleep 35 101
gettimeofday 96 169; time 201 -; times 100 153; getrusage 98 165

getpid 39 172; getppid 110 173; getpgrp 111 -; getpgid 121 155; getsid 124 156; getuid 102 174
geteuid 107 175; getgid 104 176; getegid 108 177; getresuid 118 148; getresgid 120 150
getgroups 115 158; uname 63 160; sysinfo 99 179; getrandom 318 278; getrlimit 97 163
prlimit64 302 261; getpriority 140 141
"""

# Calls that are allowed only where (argument number & mask) is one of the values.
# clone: threads, never processes or namespaces; a C library falls back to it from clone3,
# whose flags lie in memory, where a filter cannot see them.
CLONE_THREAD, CLONE_NEW_SPACES = 0x00010000, 0x7E020000
# TCGETS (isatty), FIONBIO, FIOCLEX, FIONCLEX, FIONREAD.
IOCTLS = (0x5401, 0x5421, 0x5451, 0x5450, 0x541B)
CONDITIONAL = {
    "clone 56 220": (0, CLONE_THREAD | CLONE_NEW_SPACES, (CLONE_THREAD,)),
    "ioctl 16 29": (1, 0xFFFFFFFF, IOCTLS),
}

Instruction = tuple[int, int, int, int]


class _Filter(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def number(call: str, machine: str) -> int | None:
    """The number of a line of the table on a machine."""
    text = call.split()[1 + MACHINES.index(machine)]
    return None if text == "-" else int(text)


def program(machine: str) -> list[Instruction]:
    """The filter of a machine: (code, jump if true, jump if false, constant) of each step."""
    steps: list[Instruction] = [
        (LOAD, 0, 0, ARCHITECTURE),
        (JUMP_IF_EQUAL, 1, 0, AUDIT_ARCH[machine]),
        # 32-bit calls have other numbers.
        (RETURN, 0, 0, KILL_PROCESS),
        (LOAD, 0, 0, NUMBER),
    ]
    for call in CALLS.replace("\n", ";").split(";"):
        if call.strip() and (known := number(call, machine)) is not None:
            steps += [(JUMP_IF_EQUAL, 0, 1, known), (RETURN, 0, 0, ALLOW)]
    refuse = (RETURN, 0, 0, ERRNO | errno.ENOSYS)
    for call, (argument, mask, values) in CONDITIONAL.items():
        known = number(call, machine)
        assert known is not None
        check = [(LOAD, 0, 0, ARGUMENTS + 8 * argument), (AND, 0, 0, mask)]
        for value in values:
            check += [(JUMP_IF_EQUAL, 0, 1, value), (RETURN, 0, 0, ALLOW)]
        check.append(refuse)
        steps += [(JUMP_IF_EQUAL, 0, len(check), known), *check]
    return [*steps, refuse]


def install() -> None:
    """Filter the calls of this process and of all its threads from now on, for good.

    Raises:
        OSError: the kernel refuses, or the machine is not known.
    """
    machine = os.uname().machine
    if machine not in MACHINES:
        raise OSError(errno.ENOTSUP, f"seccomp: no table of system calls for {machine}")
    steps = program(machine)
    code = b"".join(
        kind.to_bytes(2, "little") + bytes((yes, no)) + constant.to_bytes(4, "little")
        for kind, yes, no, constant in steps
    )
    libc = ctypes.CDLL(None, use_errno=True)
    filter_ = _Filter(len(steps), code)
    if (
        libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == -1
        or libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(filter_), 0, 0) == -1
    ):
        raise OSError(ctypes.get_errno(), f"seccomp: {os.strerror(ctypes.get_errno())}")
