from __future__ import annotations

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
