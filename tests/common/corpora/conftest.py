from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data_root() -> Path:
    """Copies of published data sets; see ``data.root``."""
    beside = Path(__file__).parents[4] / "shared" / "data"
    root = Path(os.environ.get("MIXSD_DATA_ROOT", beside))
    if not root.is_dir():
        pytest.skip("no copies of data sets: set MIXSD_DATA_ROOT to their folder")
    return root
