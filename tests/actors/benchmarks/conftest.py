"""Where the real data is."""

from __future__ import annotations

from pathlib import Path

import pytest

from actors.benchmarks.base import Materials
from tests.actors.benchmarks.letters import materials


@pytest.fixture
def real(data_root: Path) -> Materials:
    return materials(data_root=data_root)
