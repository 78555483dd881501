from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.tiny import make_chat_model, make_student


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    """Folder of a chat model for whole runs."""
    return make_chat_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory):
    """Folder of a student without tokenizer."""
    return make_student(tmp_path_factory.mktemp("models") / "student")


@pytest.fixture(scope="session")
def data_root() -> Path:
    """Copies of published data sets; see ``data.root``."""
    beside = Path(__file__).parents[2] / "shared" / "data"
    root = Path(os.environ.get("MIXSD_DATA_ROOT", beside))
    if not root.is_dir():
        pytest.skip("no copies of data sets: set MIXSD_DATA_ROOT to their folder")
    return root
