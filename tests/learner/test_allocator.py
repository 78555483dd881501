"""Freed memory is reused without new pages from the system."""

import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys, torch
from learner.allocator import keep_freed_memory
torch.set_num_threads(1)
if sys.argv[1] == "kept":
    keep_freed_memory()
def step():
    return [torch.ones(2**21) for _ in range(20)]
for _ in range(3):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(4):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(how):
    command = [sys.executable, "-c", PROGRAM, how]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
def test_tensors_of_every_step_get_new_pages_only_once():
    # 20 tensors of 8 MiB, 2,048 pages of 4 KiB each, in four steps: 163,840.
    if page_faults("as it is") < 1000:
        pytest.skip("this C library keeps them by itself")
    assert page_faults("kept") < 1000
