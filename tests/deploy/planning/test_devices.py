"""Which device of the list a machine's GPU is."""

import pytest

from deploy.planning import devices


@pytest.mark.parametrize(
    ("name", "gib", "device"),
    [
        ("NVIDIA H100 80GB HBM3", 79, "h100"),
        ("NVIDIA H200", 139, "h200"),
        ("NVIDIA B200", 178, "b200"),
        ("NVIDIA A100-SXM4-80GB", 79, "a100"),
        ("NVIDIA A100-PCIE-40GB", 39, "a100-40gb"),
        ("NVIDIA GeForce RTX 4090", 23, "rtx4090"),
        ("NVIDIA GeForce RTX 5090", 31, "rtx5090"),
        ("NVIDIA L4", 22, "l4"),
        ("NVIDIA L40S", 44, "l40s"),
        ("NVIDIA A10", 22, "a10"),
    ],
)
def test_a_gpu_is_found_by_the_name_that_cuda_gives_it(name, gib, device):
    assert devices.of_gpu(name, gib * 2**30).name == device


@pytest.mark.parametrize("name", ["NVIDIA L40", "NVIDIA GeForce RTX 3090", "Tesla T4", ""])
def test_another_is_not_taken_for_one_of_them(name):
    assert devices.of_gpu(name, 24 * 2**30) is None


def test_every_device_can_be_named():
    assert {devices.find(name).name for name in devices.NAMES} == set(devices.NAMES)
