"""What ``auto`` stands for on machines of every kind."""

import sys
import types

import pytest

from common import hardware


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Describes the machine; returns what ``detect`` finds on it."""
    monkeypatch.delenv("ATEN_CPU_CAPABILITY", raising=False)
    monkeypatch.setattr(hardware, "_CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(hardware, "_DRIVER", tmp_path / "driver")

    def describe(cpuinfo="", torch=None):
        (tmp_path / "cpuinfo").write_text(cpuinfo)
        if torch is not None:
            (tmp_path / "driver").write_text("NVRM version: 580")
            monkeypatch.setitem(sys.modules, "torch", torch)
        return hardware.detect.__wrapped__()

    return describe


def torch_with(cuda, *, works=True, bfloat16=True):
    return types.SimpleNamespace(
        __version__="2.13.0",
        version=types.SimpleNamespace(cuda=cuda),
        cuda=types.SimpleNamespace(
            is_available=lambda: works,
            device_count=lambda: 2,
            get_device_properties=lambda at: types.SimpleNamespace(
                name="NVIDIA L4", total_memory=(at + 1) * 2**30
            ),
            is_bf16_supported=lambda including_emulation: bfloat16 or including_emulation,
        ),
    )


@pytest.mark.parametrize(
    ("flags", "dtype"),
    [
        ("flags\t: fpu avx avx2 avx512f", "float32"),
        ("flags\t: avx2 avx512f avx512_bf16", "bfloat16"),
        ("flags\t: avx2 amx_bf16 amx_tile", "bfloat16"),
        ("Features\t: fp asimd bf16", "bfloat16"),
        ("Features\t: fp asimd", "float32"),
    ],
)
def test_a_cpu_computes_in_bfloat16_only_with_units_for_it(machine, flags, dtype):
    found = machine(flags)
    assert (found.device, found.dtype("cpu"), found.remark) == ("cpu", dtype, "")


def test_units_that_are_masked_are_not_there(machine, monkeypatch):
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "avx2")
    assert machine("flags: avx512_bf16").cpu_dtype == "float32"


def test_a_gpu_is_used_if_the_installed_torch_can(machine):
    found = machine("flags: avx2", torch_with("13.0"))
    assert (found.device, found.dtype("cuda"), found.dtype("cpu")) == (
        *("cuda", "bfloat16"),
        "float32",
    )


def test_gpus_are_counted_and_the_smallest_counts(machine):
    found = machine("", torch_with("13.0"))
    assert (found.gpus, found.gpu, found.gpu_bytes) == (2, "NVIDIA L4", 2**30)


def test_a_gpu_without_bfloat16_computes_in_float32_and_never_in_float16(machine):
    assert machine("", torch_with("13.0", bfloat16=False)).dtype("cuda") == "float32"


def test_a_driver_alone_is_no_gpu_and_the_reason_is_given(machine):
    found = machine("", torch_with(None))
    assert found.device == "cpu"
    assert "torch 2.13.0 is built without CUDA" in found.remark
    found = machine("", torch_with("13.0", works=False))
    assert found.device == "cpu"
    assert "CUDA 13.0 finds none" in found.remark


def test_a_containers_quota_bounds_the_cores(tmp_path, monkeypatch):
    monkeypatch.setattr(hardware, "_CPU_QUOTA", tmp_path / "cpu.max")
    monkeypatch.setattr(hardware.os, "sched_getaffinity", lambda pid: set(range(8)))
    for text, cores in (("max 100000", 8), ("250000 100000", 2), ("50000 100000", 1)):
        (tmp_path / "cpu.max").write_text(text)
        assert hardware.num_cores() == cores
    (tmp_path / "cpu.max").unlink()
    assert hardware.num_cores() == 8


def test_a_containers_limit_bounds_the_memory(tmp_path, monkeypatch):
    path = tmp_path / "memory.max"
    monkeypatch.setattr(hardware, "_MEMORY_LIMITS", (path,))
    physical = hardware.memory_bytes()
    assert physical > 2**28
    for text, expected in (("max", physical), (str(2**27), 2**27), (str(2**62), physical)):
        path.write_text(text)
        assert hardware.memory_bytes() == expected
