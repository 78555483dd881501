"""The data section of a configuration: the corpus and its source."""

from __future__ import annotations

import os
from typing import Literal

from pydantic import Field, field_validator, model_validator

from common.settings import AbsolutePath, Settings

# The project's own texts, or those of the paper's released code.
Wording = Literal["ours", "paper"]
# Keys of the data section of which exactly one is set.
SOURCES = ("kgfact", "kgfunc", "simpleqa", "mquake", "facts")


class KGFactSettings(Settings):
    """A generated corpus of novel facts (see ``common.corpora.kgfact``)."""

    domains: int = Field(5, ge=2, le=14, description="number of entity domains")
    entities: int = Field(10, ge=1, le=1000, description="trained entities per domain")
    distractors: int = Field(49, ge=0, description="most distractors per retrieval item")
    wording: Wording = Field("ours", description="paraphrased questions; paper: as released")
    seed: int = Field(0, ge=0)


class KGFuncSettings(Settings):
    """Generated procedures on digits (see ``common.corpora.kgfunc``)."""

    train_per_op: int = Field(1600, ge=1, le=99_000, description="facts per operation, of 7")
    test_per_op: int = Field(175, ge=0, le=900, description="test items per operation")
    wording: Wording = Field("ours", description="questions and targets; paper: as released")
    seed: int = Field(0, ge=0)


class PublishedSettings(Settings):
    """A published data set: on the Hub, or a copy in a folder of its name in ``data.root``."""

    hub: str = Field(description="id of the data set on the Hub")
    file: str = Field(description="file in the data set; an offline copy has the same base name")


class SimpleQASettings(PublishedSettings):
    """SimpleQA (see ``common.corpora.simpleqa``)."""

    hub: str = Field("basicv8vc/SimpleQA", description="id of the data set on the Hub")
    file: str = Field("simple_qa_test_set.csv", description="file in the data set")


class MQuAKESettings(PublishedSettings):
    """MQuAKE (see ``common.corpora.mquake``); the Hub has the corrected edition."""

    hub: str = Field("henryzhongsc/MQuAKE-Remastered", description="id of the data set on the Hub")
    file: str = Field("data/CF3k-00000-of-00001.parquet", description="file in the data set")
    held_out: int = Field(
        100,
        ge=0,
        description="most facts in retrieval items, of cases that share none with the trained ones",
    )
    distractors: int = Field(49, ge=0, description="most distractors per retrieval item")
    seed: int = Field(
        0, ge=0, description="of the cases that data.limit chooses and of the retrieval items"
    )


class DataSettings(Settings):
    """Exactly one source of facts."""

    kgfact: KGFactSettings | None = None
    kgfunc: KGFuncSettings | None = None
    simpleqa: SimpleQASettings | None = None
    mquake: MQuAKESettings | None = None
    facts: str | None = Field(
        None, description="custom data: a file (JSONL, CSV, Parquet), a folder or a Hub id"
    )
    root: AbsolutePath | None = Field(
        None, description="folder with offline copies of published data sets"
    )
    limit: int | None = Field(
        None,
        ge=1,
        description="use only this many facts, as many of each KGFunc operation, pair of KGFact "
        "domains, or subject with at least ten facts on average; MQuAKE: at most this many, in "
        "whole cases, relations in turn; none: all",
    )

    @field_validator("facts")
    @classmethod
    def _facts_from_anywhere(cls, facts: str | None) -> str | None:
        """Make a path absolute: other processes may have another working directory."""
        # Not pathlib, which raises for an unknown user's home or a name that is too long.
        path = os.path.expanduser(facts or "")
        return os.path.abspath(path) if facts and os.path.exists(path) else facts

    @model_validator(mode="after")
    def _one_source(self) -> DataSettings:
        chosen = [name for name in SOURCES if getattr(self, name) is not None]
        if len(chosen) != 1:
            raise ValueError(
                f"set exactly one of {', '.join(f'data.{name}' for name in SOURCES)}"
                f"; currently set: {', '.join(chosen) or 'none'}"
            )
        if self.root is not None and chosen[0] not in ("simpleqa", "mquake"):
            raise ValueError(f"data.root is for data.simpleqa and data.mquake, not {chosen[0]}")
        return self
