"""Generic prompts, which are about no fact, for methods that rehearse them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path

from pydantic import BaseModel

from common import files
from common.corpora import tables
from common.errors import UserError
from common.records import Fact
from common.settings import Text

# Everyday requests with short answers, one a line; our own.
PACKAGED = Path(__file__).parent / "rehearsal.txt"


class _Prompt(BaseModel):
    prompt: Text


def read_prompts(path: Path | None) -> list[str]:
    """The distinct prompts of a file of records, or the packaged ones, in order.

    Raises:
        UserError: the file cannot be read, a record has no text ``prompt``, or there is none.
    """
    if path is None:
        return files.read_text(PACKAGED).splitlines()
    prompts = [tables.parse(record, _Prompt).prompt for record in tables.read(path)]
    if not prompts:
        raise UserError(f"method.prompts_file: {path} contains no prompts; name another file")
    return list(dict.fromkeys(prompts))


def add(
    facts: Sequence[Fact], prompts: Sequence[str], count: int, *, answers_differ: bool
) -> list[Fact]:
    """The facts, and ``count`` generic prompts spread evenly among them.

    Args:
        facts: of the corpus.
        prompts: taken in turn, again and again if ``count`` is larger.
        count: of generic prompts.
        answers_differ: whether a prompt that comes again may get another answer.

    Raises:
        UserError: prompts would be repeated and get the same answer, or a fact has the id of one.
    """
    if count > len(prompts) and not answers_differ:
        raise UserError(
            f"method.share asks for {count} generic prompts beside {len(facts)} facts, but there "
            f"are {len(prompts)}, and at rollout.temperature 0 a prompt that is repeated gets the "
            "same answer; lower the share, name a longer method.prompts_file, or raise the "
            "temperature"
        )
    generic = [
        Fact(f"rehearsal-{number}", prompt, "")
        for number, prompt in enumerate(islice(cycle(prompts), count))
    ]
    if taken := {fact.id for fact in facts} & {prompt.id for prompt in generic}:
        raise UserError(
            f"fact {min(taken)}: generic prompts have such ids; give the fact another one"
        )
    places = [
        ((at + 0.5) / len(part), fact) for part in (facts, generic) for at, fact in enumerate(part)
    ]
    return [fact for _, fact in sorted(places, key=lambda place: place[0])]
