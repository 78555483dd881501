from __future__ import annotations

import pytest

from actors.evaluation.sandbox.sandbox import Sandbox, SandboxError


@pytest.fixture(scope="module")
def sandbox() -> Sandbox:
    try:
        return Sandbox(timeout_s=20)
    except SandboxError as error:
        pytest.skip(str(error))
