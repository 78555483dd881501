"""The identity of a model's weights: what evaluations are keyed by."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path


def weights_hash(files: Mapping[str, str]) -> str:
    """One hash from the SHA-256 of each weights file; what lies in subfolders is no weights."""
    weights = sorted(item for item in files.items() if re.fullmatch(r"[^/]+\.safetensors", item[0]))
    return hashlib.sha256(json.dumps(weights).encode()).hexdigest()[:16]


def folder_hash(folder: Path) -> str:
    """:func:`weights_hash` of the safetensors in ``folder``; reads them whole."""
    return weights_hash({path.name: file_hash(path) for path in folder.glob("*.safetensors")})


def file_hash(path: Path) -> str:
    """SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
