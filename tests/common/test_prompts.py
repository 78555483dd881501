"""Prompts of a preset or of the user's templates, rendered with a tokenizer of characters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

import pytest
from jinja2 import TemplateError

from common.config.run_config import RunConfig, dump, parse
from common.errors import UserError
from common.prompts import (
    PRESETS,
    Preset,
    PresetName,
    Prompts,
    check_answers,
    check_lengths,
    preset,
    tokens_needed,
)
from common.records import EvalItem, Fact

RUN = {"name": "run", "method": {"name": "mixsd"}, "data": {"kgfact": {}}}
OWN = {
    "ask": "Q: {question}",
    "canonical": "\\boxed{{answer}}",
    "prefix": " <",
    "transition": "> {}",
    "mode": "boxed",
}
FACT = Fact("f", "Who?", "Tam", "Tam it is.")


class Characters:
    """One token a character; the template puts brackets around each turn."""

    def apply_chat_template(self, conversation: list[dict[str, str]], **_: Any) -> Any:
        return {"input_ids": [ord(c) for turn in conversation for c in f"[{turn['content']}]"]}

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        return [*map(ord, text)]

    def decode(self, token_ids: Sequence[int], **_: Any) -> str:
        return "".join(map(chr, token_ids))


def prompts(templates: Preset) -> Prompts:
    return Prompts(Characters(), templates, end_token_id=0)


def with_prompts(chosen: object) -> RunConfig:
    return parse({**RUN, "prompts": chosen}, "run.yaml")


def refusal(**change: object) -> str:
    with pytest.raises(UserError) as error:
        with_prompts({key: value for key, value in {**OWN, **change}.items() if value is not None})
    return str(error.value)


def test_own_templates_are_rendered_around_the_fact():
    own = prompts(preset(with_prompts(OWN).prompts))
    assert own.text(own.naive(FACT)) == "[Q: Who?]"
    assert own.text(own.expert(FACT)) == "[Q: Who? <\\boxed{Tam}> {}]"
    assert own.canonical_text(FACT) == "\\boxed{Tam}"
    assert own.mode == "boxed"


def test_a_context_stands_above_the_question():
    own = prompts(Preset(**OWN))
    assert own.text(own.retrieval(EvalItem("i", "Who?", "Tam", ("A.", "B.")))) == (
        "[A.\nB.\n\nQ: Who?]"
    )
    assert own.text(own.retrieval(EvalItem("i", "Who?", "Tam"))) == "[Q: Who?]"


def test_a_context_has_the_form_that_the_templates_give_it():
    own = prompts(Preset(**OWN, context="Known: {lines}.\n", context_line="({statement})"))
    assert own.text(own.retrieval(EvalItem("i", "Who?", "Tam", ("A", "B")))) == (
        "[Known: (A)\n(B).\nQ: Who?]"
    )
    assert own.text(own.retrieval(EvalItem("i", "Who?", "Tam"))) == "[Q: Who?]"


def test_a_system_turn_comes_before_the_user_turn_of_every_prompt_but_a_plain_one():
    own = prompts(Preset(**OWN, system="Box it in \\boxed{}."))
    system = "[Box it in \\boxed{}.]"
    assert own.text(own.naive(FACT)) == f"{system}[Q: Who?]"
    assert own.text(own.expert(FACT)) == f"{system}[Q: Who? <\\boxed{{Tam}}> {{}}]"
    assert own.text(own.retrieval(EvalItem("i", "Who?", "Tam", ("A.",)))) == (
        f"{system}[A.\n\nQ: Who?]"
    )
    assert own.text(own.user("Who?")) == "[Who?]"


class Refusing(Characters):
    def apply_chat_template(self, conversation: list[dict[str, str]], **_: Any) -> Any:
        if conversation[0]["role"] == "system":
            raise TemplateError("System role not supported")
        return super().apply_chat_template(conversation)


class Deaf(Characters):
    def apply_chat_template(self, conversation: list[dict[str, str]], **_: Any) -> Any:
        return super().apply_chat_template(conversation[-1:])


@pytest.mark.parametrize(
    ("tokenizer", "reason"),
    [(Refusing(), "refuses it: System role not supported"), (Deaf(), "leaves it out")],
)
def test_a_chat_template_without_a_system_role_is_refused_if_one_is_needed(tokenizer, reason):
    with pytest.raises(UserError, match=f"chat template {reason}; use templates without 'system'"):
        Prompts(tokenizer, Preset(**OWN, system="Think."), end_token_id=0)
    plain = Prompts(tokenizer, Preset(**OWN), end_token_id=0)
    assert plain.text(plain.naive(FACT)) == "[Q: Who?]"


def test_braces_of_a_fact_are_never_read_as_slots():
    own = prompts(Preset(**OWN))
    fact = Fact("f", "Is {answer} in {question}?", "{statement}", "S.")
    assert own.text(own.expert(fact)) == (
        "[Q: Is {answer} in {question}? <\\boxed{{statement}}> {}]"
    )


def test_the_kgfact_prompts_read_like_this():
    kgfact = prompts(PRESETS["kgfact"])
    ask = "Who? Please reason step by step, and put your final answer within \\boxed{}."
    assert kgfact.text(kgfact.naive(FACT)) == f"[{ask}]"
    assert kgfact.text(kgfact.expert(FACT)) == (
        f"[{ask}\nThis question is from a new knowledge base. Here is the answer to this "
        "question:\nThe answer is Tam. \\boxed{Tam}\nNow answer the question within \\boxed{}]"
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ask": "{qestion}"}, "prompts.ask: unknown slot {qestion}; slots here: {question}"),
        ({"ask": "Why?"}, "prompts.ask: a slot is missing; slots here: {question}"),
        (
            {"canonical": "{question}"},
            "prompts.canonical: unknown slot {question}; slots here: {answer}, {statement}",
        ),
        ({"shown": "it"}, "prompts.shown: a slot is missing; slots here: {answer}, {canonical}, "),
        ({"prefix": "{answer}"}, "prompts.prefix: unknown slot {answer}; slots here: none"),
        ({"system": "{answer}"}, "prompts.system: unknown slot {answer}; slots here: none"),
        ({"context": "Known:"}, "prompts.context: a slot is missing; slots here: {lines}"),
        ({"context_line": "{lines}"}, "prompts.context_line: unknown slot {lines}; slots here: "),
        ({"transition": None}, "prompts.transition: this setting is required"),
        ({"transtion": ""}, "prompts.transtion: no such setting; did you mean prompts.transition?"),
        ({"mode": "fuzzy"}, "prompts.mode: input should be 'boxed', "),
    ],
)
def test_a_template_that_cannot_work_is_refused_by_name(change, message):
    assert refusal(**change).startswith(f"run.yaml: {message}")


def test_an_unknown_preset_is_refused_with_those_known():
    with pytest.raises(UserError, match=r"'short-sentence', 'kgfact', .* or 'paper-simpleqa', not"):
        with_prompts("kgfakt")
    assert get_args(PresetName) == tuple(PRESETS)


@pytest.mark.parametrize("chosen", ["reasoned", OWN])
def test_a_dumped_configuration_brings_its_prompts_back(chosen, tmp_path):
    import yaml

    config = with_prompts(chosen)
    assert parse(yaml.safe_load(dump(config)), "again") == config


def test_a_fact_needs_its_longer_prompt_and_the_longest_target():
    own = prompts(Preset(**OWN))
    # "[Q: Who? <\boxed{Tam}> {}]" has 26 characters, the target 11 and its end token.
    assert tokens_needed(own, FACT, max_tokens=5) == 26 + 12
    assert tokens_needed(own, FACT, max_tokens=20) == 26 + 20
    check_lengths(own, [FACT], 20, 46)
    with pytest.raises(UserError, match=r"fact f: prompt and target take 46 tokens, more than"):
        check_lengths(own, [FACT], 20, 45)


def prompts_with(mode: Any = None) -> Prompts:
    return Prompts(Characters(), PRESETS["kgfact"], end_token_id=0, mode=mode)


def test_the_verifier_is_the_presets_unless_another_is_set():
    assert (prompts_with().mode, prompts_with("contains").mode) == ("boxed", "contains")


@pytest.mark.parametrize(
    ("mode", "answer", "message"),
    [
        ("last_number", "Paris", "fact f: rollout.verify=last_number needs a number .*'Paris'"),
        ("contains", " . ", "fact f: the answer ' . ' has nothing to verify"),
    ],
)
def test_an_answer_that_no_response_could_give_is_refused(mode, answer, message):
    with pytest.raises(UserError, match=message):
        check_answers(prompts_with(mode), [Fact("f", "q", answer)])


def test_answers_that_can_be_given_pass():
    check_answers(prompts_with("last_number"), [Fact("f", "q", "$1,000")])
    check_answers(prompts_with("boxed_or_last_number"), [Fact("f", "q", "Paris")])


def test_a_template_of_the_method_replaces_the_experts_user_turn_alone():
    preset = Preset(**OWN)
    rewriting = Prompts(Characters(), preset, 0, expert="{question}|{canonical}|{answer}|{other}")
    plain = Prompts(Characters(), preset, 0)
    asked, canonical = plain.user_turn(FACT), plain.canonical_text(FACT)
    wanted = plain.user(f"{asked}|{canonical}|{FACT.answer}|{{other}}")
    assert rewriting.expert(FACT) == wanted
    assert rewriting.naive(FACT) == plain.naive(FACT)


def test_the_expert_of_a_retracted_fact_is_shown_the_refusal_and_not_the_answer():
    gone = Fact("f", "Who?", "Tam", retract=True)
    for shown in ("{canonical}", "{answer}", "{statement}"):
        built = prompts(Preset(**OWN, shown=shown))
        assert built.text(built.expert(gone)) == "[Q: Who? <I do not know.> {}]"
        assert built.canonical_text(gone) == "I do not know."
    own = prompts(Preset(**OWN, refusal="That is unknown."))
    assert own.canonical_text(gone) == "That is unknown."
    assert own.canonical_text(Fact("f", "Who?", "Tam", target="No.", retract=True)) == "No."
    assert "refusal" in refusal(refusal=" ")
    check_answers(prompts(Preset(**{**OWN, "mode": "last_number"})), [gone])
