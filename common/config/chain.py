"""The earlier runs that a run continues, as its configuration records them."""

from __future__ import annotations

from pydantic import Field

from common.corpora.settings import DataSettings
from common.settings import AbsolutePath, Settings


class Link(Settings):
    """An earlier run of the chain, as it was when the next one began."""

    run: AbsolutePath = Field(description="its folder")
    model: str = Field(description="what it was taught from; of the first link: the original base")
    checkpoint: AbsolutePath = Field(description="its selected checkpoint, which was taught next")
    weights: str = Field(description="hash of that checkpoint's weights")
    data: DataSettings
    facts: str = Field(description="hash of its facts, as in its identity.json")
