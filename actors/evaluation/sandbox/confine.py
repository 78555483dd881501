"""How a process locks itself up: Linux namespaces, a root of its own, limits.

Standard library only: it runs in a bare interpreter (see ``inside``).
"""

import ctypes
import os
import resource
import signal
import sys
from collections.abc import Callable
from typing import Any

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC = 0x00020000, 0x04000000, 0x08000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000
MS_NOSUID, MS_NODEV, MS_BIND, MS_REC, MS_PRIVATE = 2, 4, 1 << 12, 1 << 14, 1 << 18
MNT_DETACH = 2
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS = 1, 4, 38
CAPABILITY_VERSION_3 = 0x20080522
# C libraries do not wrap these three; on the machines that seccomp knows.
PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
KEYCTL = {"x86_64": 250, "aarch64": 219}
MOUNT_SETATTR, AT_FDCWD, AT_RECURSIVE, MOUNT_ATTR_RDONLY = 442, -100, 0x8000, 1
JOIN_SESSION_KEYRING = 1

NOBODY = 65534
# Files in memory, besides the address space: bytes, and how many.
TMP_MIB = 64
MAX_FILES = 1024
MAX_FILE_BYTES = 16 * 2**20
MAX_OPEN_FILES = 64
MAX_THREADS = 64

# What a program may read beside the Python installation.
SHOWN = ("/usr", "/bin", "/lib", "/lib64", "/etc/ld.so.cache")
DEVICES = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")

libc = ctypes.CDLL(None, use_errno=True)


def call(name: str, *arguments: Any) -> None:
    """A C function that answers -1 for an error."""
    plain = [os.fsencode(value) if isinstance(value, str) else value for value in arguments]
    if getattr(libc, name)(*plain) == -1:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")


def isolate() -> None:
    """Leave users, files, processes, keys and network of this machine behind."""
    leave_keyring()
    python = os.path.realpath(sys.base_prefix)
    scratch, source = mount_point(python), python
    if os.geteuid() == 0:
        source, scratch = prepare_for_nobody(python, scratch)
    user, group = os.geteuid(), os.getegid()
    spaces = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS
    call("unshare", CLONE_NEWUSER | spaces)
    # The same user inside: no program has a use for being root there.
    write("/proc/self/setgroups", "deny")
    write("/proc/self/uid_map", f"{user} {user} 1")
    write("/proc/self/gid_map", f"{group} {group} 1")
    build_root(scratch, python, source)
    change_root(scratch)


def leave_keyring() -> None:
    """Take an empty session keyring; where that is refused, keyctl is too (``seccomp``)."""
    if (number := KEYCTL.get(os.uname().machine)) is not None:
        libc.syscall(number, JOIN_SESSION_KEYRING, None)


def prepare_for_nobody(python: str, scratch: str) -> tuple[str, str]:
    """As root: put Python where nobody can reach it, in our mounts only, and be nobody."""
    call("unshare", CLONE_NEWNS)
    call("mount", "none", "/", None, MS_REC | MS_PRIVATE, None)
    call("mount", "tmpfs", scratch, "tmpfs", MS_NOSUID | MS_NODEV, "mode=755,size=1m")
    source, root = f"{scratch}/python", f"{scratch}/root"
    os.mkdir(source)
    os.mkdir(root)
    call("mount", python, source, None, MS_BIND | MS_REC, None)
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    # Changing the user gave /proc/self to root; the maps are written there.
    call("prctl", PR_SET_DUMPABLE, 1, 0, 0, 0)
    return source, root


def mount_point(python: str) -> str:
    """A folder to build the new root on that hides nothing we need."""
    for folder in ("/mnt", "/media", "/srv", "/opt", "/var/tmp", "/tmp"):
        if os.path.isdir(folder) and not f"{python}/".startswith(f"{folder}/"):
            return folder
    raise OSError("no folder to mount on")


def build_root(root: str, python: str, source: str) -> None:
    """Python, the system's libraries and four devices, read-only; /tmp in memory."""
    call("mount", "none", "/", None, MS_REC | MS_PRIVATE, None)
    call("mount", "tmpfs", root, "tmpfs", MS_NOSUID | MS_NODEV, "mode=755,size=1m")
    os.mkdir(f"{root}/tmp")
    for path in (*SHOWN, *DEVICES):
        show(path, path, root)
    if not f"{python}/".startswith("/usr/"):
        show(source, python, root)
    # struct mount_attr: set, clear, propagation, user namespace.
    attributes = (ctypes.c_uint64 * 4)(MOUNT_ATTR_RDONLY, 0, 0, 0)
    size = ctypes.c_size_t(ctypes.sizeof(attributes))
    arguments = (AT_FDCWD, root, AT_RECURSIVE, ctypes.byref(attributes), size)
    call("syscall", MOUNT_SETATTR, *arguments)
    options = f"mode=1777,size={TMP_MIB}m,nr_inodes={MAX_FILES}"
    call("mount", "tmpfs", f"{root}/tmp", "tmpfs", MS_NOSUID | MS_NODEV, options)


def show(source: str, path: str, root: str) -> None:
    """Let ``path`` inside be what ``source`` is here; what is missing stays so."""
    target = root + path
    os.makedirs(os.path.dirname(target), exist_ok=True)
    if os.path.islink(path):
        os.symlink(os.readlink(path), target)
        return
    if os.path.isdir(source):
        os.makedirs(target, exist_ok=True)
    elif os.path.exists(source):
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o644))
    else:
        return
    call("mount", source, target, None, MS_BIND | MS_REC, None)


def change_root(root: str) -> None:
    """Make ``root`` the root, and forget the old one."""
    number = PIVOT_ROOT.get(os.uname().machine)
    if number is None:
        raise OSError(f"pivot_root: unknown on {os.uname().machine}")
    os.chdir(root)
    # Onto itself: the old root then lies on top and is taken away (pivot_root(2)).
    call("syscall", number, ".", ".")
    call("umount2", ".", MNT_DETACH)
    os.chdir("/tmp")


def drop_privileges() -> None:
    """No capability inside the namespaces, and none to gain by executing a file."""
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    call("capset", ctypes.byref(header), ctypes.byref((ctypes.c_uint32 * 6)()))
    call("prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def limit(memory_bytes: int, cpu_s: int, *, isolated: bool) -> None:
    """Bounds of one process; isolated, there is only one (``seccomp``)."""
    bounds = {
        resource.RLIMIT_AS: memory_bytes,
        resource.RLIMIT_CPU: cpu_s,
        resource.RLIMIT_FSIZE: MAX_FILE_BYTES,
        resource.RLIMIT_NOFILE: MAX_OPEN_FILES,
        resource.RLIMIT_CORE: 0,
    }
    if isolated:
        # Elsewhere it would count every process of the user.
        bounds[resource.RLIMIT_NPROC] = MAX_THREADS
    for which, bound in bounds.items():
        _, hard = resource.getrlimit(which)
        bound = bound if hard == resource.RLIM_INFINITY else min(bound, hard)
        resource.setrlimit(which, (bound, bound))


def in_child(work: Callable[[], int]) -> int:
    """Exit status of ``work`` in a forked process, which dies with this one; −N for signal N."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            call("prctl", PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            status = work()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def write(path: str, text: str) -> None:
    """Write a file of /proc in one piece."""
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)
