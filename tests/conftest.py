from __future__ import annotations

import pytest

from tests.integration.tiny import make_model


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("models") / "tiny")
