from __future__ import annotations

import pytest

from common.corpora.kgfact import KGFact, KGFactSpec, build


@pytest.fixture(scope="module")
def small() -> KGFact:
    return build(KGFactSpec(domains=5, entities=10, seed=0))
