"""Where the real data is."""

from __future__ import annotations

from pathlib import Path

import pytest

from actors.evaluation.benchmarks.base import Materials
from tests.actors.evaluation.benchmarks.letters import materials


@pytest.fixture
def real(data_root: Path) -> Materials:
    return materials(data_root=data_root)
