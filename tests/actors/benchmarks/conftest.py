"""Where the real data is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from actors.benchmarks.base import Materials
from tests.actors.benchmarks.letters import materials

_BESIDE = Path(__file__).parents[4] / "shared" / "data"


@pytest.fixture(scope="session")
def data_root() -> Path:
    root = Path(os.environ.get("MIXSD_DATA_ROOT", _BESIDE))
    if not root.is_dir():
        pytest.skip("no benchmark data: set MIXSD_DATA_ROOT to a folder with mmlu/, gsm8k/, …")
    return root


@pytest.fixture
def real(data_root: Path) -> Materials:
    return materials(data_root=data_root)
