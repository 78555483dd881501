"""Each of the 25 checks on responses whose grade is known."""

from __future__ import annotations

from typing import Any

import pytest

from actors.evaluation.benchmarks import ifeval
from actors.evaluation.benchmarks.base import Materials, Question

WORDS_10 = "one two three four five six seven eight nine ten"

CASES: list[tuple[str, dict[str, Any], str, bool]] = [
    ("keywords:existence", {"keywords": ["cat", "dog"]}, "A Dog met a cat.", True),
    ("keywords:existence", {"keywords": ["cat", "dog"]}, "A dog.", False),
    (
        "keywords:frequency",
        {"keyword": "hi", "frequency": 2, "relation": "at least"},
        "Hi hi",
        True,
    ),
    ("keywords:frequency", {"keyword": "hi", "frequency": 2, "relation": "less than"}, "Hi", True),
    ("keywords:frequency", {"keyword": "hi", "frequency": 2, "relation": "at least"}, "hi", False),
    ("keywords:forbidden_words", {"forbidden_words": ["rich"]}, "An enrichment.", True),
    ("keywords:forbidden_words", {"forbidden_words": ["rich"]}, "RICH people", False),
    (
        "keywords:letter_frequency",
        {"letter": "o", "let_frequency": 3, "let_relation": "at least"},
        "Oh, no, go",
        True,
    ),
    (
        "keywords:letter_frequency",
        {"letter": "o", "let_frequency": 3, "let_relation": "less than"},
        "Oh, no, go",
        False,
    ),
    (
        "language:response_language",
        {"language": "de"},
        "Das ist ein ganz einfacher Satz, den jeder versteht.",
        True,
    ),
    (
        "language:response_language",
        {"language": "de"},
        "This is a simple sentence that everybody understands.",
        False,
    ),
    (
        "length_constraints:number_sentences",
        {"num_sentences": 2, "relation": "at least"},
        "It rains. We stay at home.",
        True,
    ),
    (
        "length_constraints:number_sentences",
        {"num_sentences": 3, "relation": "at least"},
        "Dr. Who is in, e.g. at home. He waits.",
        False,
    ),
    (
        "length_constraints:number_sentences",
        {"num_sentences": 3, "relation": "less than"},
        "No! Why? Because.",
        False,
    ),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "One.\n\n***\n\nTwo.", True),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "One.\n\nTwo.", False),
    ("length_constraints:number_words", {"num_words": 10, "relation": "at least"}, WORDS_10, True),
    (
        "length_constraints:number_words",
        {"num_words": 10, "relation": "less than"},
        WORDS_10,
        False,
    ),
    (
        "length_constraints:nth_paragraph_first_word",
        {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "then"},
        "First.\n\nThen, ok.",
        True,
    ),
    (
        "length_constraints:nth_paragraph_first_word",
        {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "then"},
        "Then.\n\nNow.",
        False,
    ),
    (
        "length_constraints:nth_paragraph_first_word",
        {"num_paragraphs": 2, "nth_paragraph": 1, "first_word": "a"},
        "A.\n\nB.\n\nC.",
        False,
    ),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}, "[name], [address]", True),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}, "[name]", False),
    ("detectable_content:postscript", {"postscript_marker": "P.S."}, "Bye.\nP.S. More.", True),
    ("detectable_content:postscript", {"postscript_marker": "P.P.S"}, "Bye.\nP.S. More.", False),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "* a\n* b\n", True),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "- a\n* b\n", True),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "* a\n* b\n* c", False),
    ("detectable_format:number_bullet_lists", {"num_bullets": 1}, "**bold** words", False),
    ("detectable_format:constrained_response", {}, "My answer is maybe.", True),
    ("detectable_format:constrained_response", {}, "Maybe.", False),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 2}, "*a* and *b*", True),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 2}, "*a* and * *", False),
    (
        "detectable_format:multiple_sections",
        {"section_spliter": "Section", "num_sections": 2},
        "Section 1\na\nSection 2\nb",
        True,
    ),
    (
        "detectable_format:multiple_sections",
        {"section_spliter": "Section", "num_sections": 2},
        "Section 1\na",
        False,
    ),
    ("detectable_format:json_format", {}, '```json\n{"a": 1}\n```', True),
    ("detectable_format:json_format", {}, '{"a": 1}', True),
    ("detectable_format:json_format", {}, '{"a": ', False),
    ("detectable_format:title", {}, "<<My day>>\nIt rained.", True),
    ("detectable_format:title", {}, "<< >>\nIt rained.", False),
    ("combination:two_responses", {}, "One.\n******\nTwo.", True),
    ("combination:two_responses", {}, "One.\n******\nOne.", False),
    ("combination:two_responses", {}, "One.", False),
    ("combination:repeat_prompt", {"prompt_to_repeat": "Say hi."}, "say hi. Hi!", True),
    ("combination:repeat_prompt", {"prompt_to_repeat": "Say hi."}, "Hi! Say hi.", False),
    ("startend:end_checker", {"end_phrase": "The end."}, "So it goes. The End.", True),
    ("startend:end_checker", {"end_phrase": "The end."}, "The end. Or not.", False),
    ("startend:quotation", {}, '"All of it."', True),
    ("startend:quotation", {}, '"Part" of it', False),
    (
        "change_case:capital_word_frequency",
        {"capital_frequency": 2, "capital_relation": "at least"},
        "We are HAPPY and WELL.",
        True,
    ),
    (
        "change_case:capital_word_frequency",
        {"capital_frequency": 2, "capital_relation": "less than"},
        "We are HAPPY and WELL.",
        False,
    ),
    ("change_case:english_capital", {}, "THIS IS A SENTENCE THAT EVERYBODY KNOWS.", True),
    ("change_case:english_capital", {}, "This is a sentence that everybody knows.", False),
    ("change_case:english_lowercase", {}, "this is a sentence that everybody knows.", True),
    ("change_case:english_lowercase", {}, "This is a sentence that everybody knows.", False),
    ("punctuation:no_comma", {}, "No such mark here.", True),
    ("punctuation:no_comma", {}, "Yes, here.", False),
]


@pytest.mark.parametrize(("name", "arguments", "response", "right"), CASES)
def test_an_instruction_is_followed_or_not(
    name: str, arguments: dict[str, Any], response: str, right: bool
) -> None:
    assert ifeval.follows(name, arguments, response) is right


def test_every_check_has_a_response_that_follows_and_one_that_does_not() -> None:
    for name in ifeval.CHECKS:
        assert {right for which, _, _, right in CASES if which == name} == {True, False}, name


@pytest.mark.parametrize("name", ifeval.CHECKS)
def test_an_empty_response_follows_nothing(name: str) -> None:
    assert not ifeval.follows(name, {}, " \n")


def test_a_response_counts_when_all_is_followed_and_names_what_is_not() -> None:
    instructions = [
        ("punctuation:no_comma", {}),
        (
            "length_constraints:number_words",
            {"num_words": 3, "relation": "at least", "keywords": None},
        ),
    ]
    question = Question("i", [], "", "", {"instructions": instructions})
    assert ifeval.grade(question, "Only three words.").right
    verdict = ifeval.grade(question, "Two, words")
    assert not verdict.right
    assert verdict.detail == "punctuation:no_comma, length_constraints:number_words"


def test_every_instruction_of_the_real_data_is_known_and_checked(real: Materials) -> None:
    questions = ifeval.build(real).questions
    assert len(questions) == 541
    used = {name for q in questions for name, _ in q.data["instructions"]}
    assert used == set(ifeval.CHECKS)
    for question in questions:
        ifeval.grade(question, f"{question.text}\n\nSome text, then *more*.")
        assert not ifeval.grade(question, "").right
