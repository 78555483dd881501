"""The power is cut on a real file system: what is on the disk at that moment is all there is.

The disk is the image behind a loop device. Its file has what ext4 has handed to the device, and
nothing of what the kernel still keeps in memory; so a copy of it is the disk after a power cut.
"""

from __future__ import annotations

import contextlib
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from safetensors.torch import load_file

from common.ledger import open_view
from common.rundir import RunDir
from deploy.control.launch import fit_ledger
from learner.checkpoint_folder import CheckpointFolder
from tests.faults.toy_training import EPOCHS, FACTS

pytestmark = [pytest.mark.slow, pytest.mark.faults]
CUTS = 4


@contextlib.contextmanager
def mounted(image: Path, folder: Path) -> Iterator[Path]:
    """The file system in ``image``, which forces nothing to disk by itself for five minutes."""
    folder.mkdir(exist_ok=True)
    mount = ["mount", "-o", "loop,commit=300", str(image), str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("this machine does not let us mount an image")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def image(tmp_path):
    """An empty disk of 64 MiB."""
    if os.geteuid() != 0 or shutil.which("mkfs.ext4") is None:
        pytest.skip("a file system of our own needs root and mkfs.ext4")
    path = tmp_path / "disk.img"
    with path.open("wb") as file:
        file.truncate(64 * 2**20)
    subprocess.run(["mkfs.ext4", "-q", str(path)], check=True, capture_output=True)
    return path


class Training:
    """``toy_training`` in a process of its own."""

    def __init__(self, folder: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.toy_training", str(folder / "run")],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line.strip())

    def until(self, steps: int) -> str:
        """Wait for so many lines; the last."""
        line = ""
        for _ in range(steps):
            line = self._lines.get(timeout=60)
            if line == "done":
                break
        return line

    def halt(self) -> str | None:
        """Stop it wherever it is; the last line that it has printed since, if any."""
        self._process.send_signal(signal.SIGSTOP)
        # A call that waits for the disk in this moment still comes to its end.
        time.sleep(0.5)
        line = None
        while not self._lines.empty():
            line = self._lines.get()
        return line

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


def sound_step(run: RunDir) -> int:
    """The step from which training resumes; the ledger fits to it."""
    assert fit_ledger(run, accept_older=False) == []
    with contextlib.closing(open_view(run.ledger)) as ledger:
        assert ledger.counts() == ledger.recount()
        last_step = ledger.counts().last_step
    return CheckpointFolder(run.checkpoints).resume_point(last_step).step


def test_training_goes_on_from_the_last_commit_and_trains_all_exactly_once(image, tmp_path):
    folder = tmp_path / "disk"
    for cut in range(CUTS):
        after = image.with_name(f"after-{cut}.img")
        with mounted(image, folder):
            training = Training(folder)
            committed = training.until(5 + 7 * cut)
            committed = training.halt() or committed
            shutil.copyfile(image, after)
            training.kill()
        image = after
        with mounted(image, folder):
            assert committed.startswith("step "), "it was done before the power was cut"
            assert sound_step(RunDir(folder / "run")) >= int(committed.removeprefix("step "))
    with mounted(image, folder):
        training = Training(folder)
        assert training.until(10_000) == "done"
        training.kill()
        run = RunDir(folder / "run")
        newest = run.checkpoints / f"step_{sound_step(run)}"
        counts = load_file(newest / "model.safetensors")["counts"]
        assert counts.tolist() == [EPOCHS] * FACTS
        with contextlib.closing(open_view(run.ledger)) as ledger:
            assert len(set(ledger.trained())) == len(ledger.trained()) == EPOCHS * FACTS
