"""``data check``: checks custom data; the rules are in ``common.corpora.inspection``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from common.config import run_config
from common.config.sections import EngineSettings, RolloutSettings
from common.corpora import canonical
from common.corpora.inspection import Inspection, inspect
from common.errors import UserError
from common.models import Model
from common.prompts import PRESETS, Preset, Prompts, preset, tokens_needed
from common.records import Fact
from common.verification.facts import is_right
from common.verification.verifier import Mode

Say = Callable[[str], None]
_SHOWN = 20
_RENDERED = 3
_ASKED_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class DataCheckSettings:
    """``model`` None leaves out all that needs a tokenizer; ``verify``, ``expert`` None: the
    preset's."""

    model: str | None
    preset: Preset
    verify: Mode | None
    expert: str | None
    engine: EngineSettings
    max_tokens: int
    ask: bool


def settings(
    config: Path | None,
    *,
    model: str | None = None,
    prompts: str | None = None,
    context: int | None = None,
    max_tokens: int | None = None,
    ask: bool = False,
) -> DataCheckSettings:
    """What is given on the command line, else in a run's file, else by default.

    Args:
        config: a run's file.
        model: folder or Hub id; none: lengths and prompts are not checked.
        prompts: name of a prompt preset.
        context: tokens that prompt and target may have together.
        max_tokens: longest target in tokens.
        ask: let the model answer each question, to find facts that it knows already.

    Raises:
        UserError: a bad file, an unknown preset, a bound that is no length.
    """
    run = run_config.load(config) if config is not None else None
    if prompts is not None and prompts not in PRESETS:
        raise UserError(f"--prompts {prompts}: not one of {', '.join(PRESETS)}")
    for option, value, least in (("--context", context, 32), ("--max-tokens", max_tokens, 1)):
        if value is not None and value < least:
            raise UserError(f"{option} {value}: at least {least} is needed")
    engine = run.engine if run is not None else EngineSettings()
    if context is not None:
        engine = engine.model_copy(update={"max_model_len": context})
    chosen = DataCheckSettings(
        model=model or (run.model if run is not None else None),
        preset=preset(prompts or (run.prompts if run is not None else "kgfact")),
        verify=run.rollout.verify if run is not None else None,
        expert=run.method.expert_template if run is not None else None,
        engine=engine,
        max_tokens=max_tokens or (run.rollout if run is not None else RolloutSettings()).max_tokens,
        ask=ask,
    )
    if ask and chosen.model is None:
        raise UserError("--ask: a model is needed; give --model or --config")
    return chosen


def run(spec: str, chosen: DataCheckSettings, say: Say) -> list[str]:
    """Report on the facts that ``spec`` names; returns the problems.

    Raises:
        UserError: they cannot be read at all, or the model cannot be had.
    """
    found = inspect(spec)
    problems = list(found.problems)
    _say_counts(found, say)
    facts = found.scan.facts
    if facts:
        problems += _canonical(facts, Prompts(_TextOnly(), chosen.preset, 0, chosen.verify), say)
    if chosen.model is not None and facts:
        from common import models

        model = models.load(models.resolve(chosen.model, say=say))
        end = model.stop_token_ids[0]
        prompts = Prompts(model.tokenizer, chosen.preset, end, chosen.verify, expert=chosen.expert)
        problems += _lengths(found, prompts, chosen, say)
        _say_prompts(facts[:_RENDERED], prompts, model, say)
        if chosen.ask:
            _say_known(facts, prompts, model, chosen, say)
    elif chosen.model is None:
        say("lengths and prompts: not checked; give --model or --config")
    if problems:
        _say_list(f"PROBLEMS: {len(problems)}", problems, say)
    else:
        say("no problems")
    return problems


def _say_counts(found: Inspection, say: Say) -> None:
    say(f"facts: {len(found.scan.facts)}")
    for name, items in found.splits.items():
        say(f"split {name}: {len(items)} questions")
    _say_list(f"duplicates: {len(found.duplicates)}", found.duplicates, say)
    _say_list(f"contradictory facts: {len(found.contradictions)}", found.contradictions, say)


class _TextOnly:
    """A tokenizer for checks of text: it has no tokens."""

    def apply_chat_template(self, conversation: list[dict[str, str]], **options: Any) -> Any:
        raise NotImplementedError

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        raise NotImplementedError

    def decode(self, token_ids: Sequence[int], **options: Any) -> str:
        raise NotImplementedError

    def __len__(self) -> int:
        return 0


def _canonical(facts: Sequence[Fact], prompts: Prompts, say: Say) -> list[str]:
    """Say how many canonical targets verify; returns the problem if they are too few."""
    found = canonical.verify(prompts, facts)
    say(found.summary)
    return [found.problem] if found.problem else []


def _lengths(found: Inspection, prompts: Prompts, chosen: DataCheckSettings, say: Say) -> list[str]:
    """Say how long facts are; returns those that do not fit."""
    context = chosen.engine.max_model_len
    needed = {fact.id: tokens_needed(prompts, fact, chosen.max_tokens) for fact in found.scan.facts}
    lengths = sorted(needed.values())
    say(
        f"tokens of prompt and target: {lengths[0]} to {lengths[-1]}, median {median(lengths):g}; "
        f"the context has {context}"
    )
    too_long = [
        f"{found.scan.places[fact_id]}: prompt and target take {length} tokens, more than {context}"
        for fact_id, length in needed.items()
        if length > context
    ]
    items = [item for split in found.splits.values() for item in split]
    if items:
        longest = max(len(prompts.retrieval(item)) for item in items) + chosen.max_tokens
        say(f"tokens of the longest question of a split and its answer: {longest}")
    return too_long


def _say_prompts(facts: Sequence[Fact], prompts: Prompts, model: Model, say: Say) -> None:
    for fact in facts:
        for name, token_ids in (("naive", prompts.naive(fact)), ("expert", prompts.expert(fact))):
            say(f"--- {fact.id}, {name} prompt, {len(token_ids)} tokens")
            say(model.tokenizer.decode(token_ids, skip_special_tokens=False))
        say(f"--- {fact.id}, canonical answer")
        say(prompts.canonical_text(fact))
    say("---")


def _say_known(
    facts: Sequence[Fact], prompts: Prompts, model: Model, chosen: DataCheckSettings, say: Say
) -> None:
    """Ask each naive prompt at T = 0; one answer is no proof, many are a warning."""
    from actors.inference.batch import BatchRunner
    from actors.inference.engine import Engine
    from actors.inference.requests import Sampling

    say(f"the model answers {len(facts)} questions …")
    engine = Engine(
        model.folder,
        chosen.engine.plain,
        max_requests=_ASKED_AT_ONCE,
        stop_token_ids=model.stop_token_ids,
    )
    try:
        generated = BatchRunner(engine, _ASKED_AT_ONCE).generate(
            [prompts.naive(fact) for fact in facts],
            [chosen.max_tokens] * len(facts),
            [Sampling()] * len(facts),
        )
    finally:
        engine.close()
    known = [
        f"{fact.id}: {fact.question!r} is answered {prompts.text(token_ids)!r}"
        for fact, token_ids in zip(facts, generated, strict=True)
        if is_right(prompts.mode, prompts.text(token_ids), fact)
    ]
    _say_list(f"facts the model already knows: {len(known)} of {len(facts)}", known, say)


def _say_list(title: str, lines: Sequence[str], say: Say) -> None:
    say(title)
    for line in lines[:_SHOWN]:
        say(f"  {line}")
    if len(lines) > _SHOWN:
        say(f"  … and {len(lines) - _SHOWN} more")
