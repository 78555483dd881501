"""Answers about the run's corpus, compared as released.

KGFact and MQuAKE: ``loose``. KGFunc: ``strict``. SimpleQA: ``exact``.
"""

from __future__ import annotations

import re

from actors.evaluation.benchmarks.base import Grade, Grader, Question
from actors.evaluation.benchmarks.released.boxes import last_opened
from common.corpora import Comparison

_TAGS = re.compile(r"<answer>(.*?)</answer>", re.DOTALL | re.IGNORECASE)
_NUMBER = re.compile(r"-?\d+\.?\d*")
_WRAPPED = re.compile(
    r"\s*\\(?:text(?:bf|it|sc)?|math(?:rm|bf|it|sf|tt)|operatorname)\{(.+)\}\s*\Z"
)
_FRACTION = re.compile(r"\\frac\{([^}]+)\}\{([^}]+)\}")
_TOLERANCE = 1e-6


def loose(question: Question, response: str) -> Grade:
    """Equal as in ``strict``, or the answer is part of a text that was extracted."""
    return _grade(question, response, part=True)


def strict(question: Question, response: str) -> Grade:
    """Equal as numbers within 1e-6, or as text without LaTeX commands, spacing and case."""
    return _grade(question, response, part=False)


def exact(question: Question, response: str) -> Grade:
    """The last box, else the text after ``</think>``, else the text: equal but for case."""
    found = last_opened(response)
    if found is None:
        found = response.partition("</think>")[2] if "</think>" in response else response
        found = found.strip() or None
    answer = question.answer.lower().strip()
    return Grade(found is not None and found.lower().strip() == answer, found)


COMPARISONS: dict[Comparison, Grader] = {"loose": loose, "strict": strict, "exact": exact}


def extract(response: str) -> str | None:
    """The last box, else the first ``<answer>``, else the last number, else the whole text."""
    box = last_opened(response)
    if box is not None:
        return box
    if (tagged := _TAGS.search(response)) is not None:
        return tagged[1].strip()
    numbers = _NUMBER.findall(response)
    return str(numbers[-1]) if numbers else response.strip() or None


def normalise(answer: str) -> str:
    """A number as Python writes the float, or text without dress and in lower case."""
    text = _undressed(answer.strip().replace("\\$", "").replace("$", ""))
    digits = text.replace(" ", "").replace(",", "")
    try:
        fraction = _FRACTION.match(digits)
        if fraction is not None and (below := float(fraction[2])):
            return str(float(fraction[1]) / below)
        return str(float(digits))
    except ValueError:
        return " ".join(text.split()).lower()


def _undressed(text: str) -> str:
    """Peel text commands, and braces that enclose the whole."""
    while True:
        wrapped = _WRAPPED.match(text)
        if wrapped is not None:
            inner = wrapped[1].strip()
        elif _is_enclosed(text):
            inner = text[1:-1].strip()
        else:
            return text
        text = inner


def _is_enclosed(text: str) -> bool:
    if not (len(text) > 1 and text[0] == "{" and text[-1] == "}"):
        return False
    depth = 0
    for index, letter in enumerate(text):
        depth += {"{": 1, "}": -1}.get(letter, 0)
        if letter == "}" and depth == 0 and index < len(text) - 1:
            return False
    return True


def _grade(question: Question, response: str, *, part: bool) -> Grade:
    found = extract(response)
    return Grade(found is not None and _accepts(found, question.answer, part), found)


def _accepts(found: str, answer: str, part: bool) -> bool:
    given, wanted = normalise(found), normalise(answer)
    if given == wanted:
        return True
    try:
        return abs(float(given) - float(wanted)) < _TOLERANCE
    except ValueError:
        return part and bool(given) and wanted in given
