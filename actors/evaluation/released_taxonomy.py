"""The classes of wrong responses in the paper's released code, the first that fits.

On questions that are not about trained facts:

``format``    no box; on HumanEval neither a closed code block nor a box
``leakage``   it names a trained entity that the question does not mention
``collapse``  an answer without reasoning: besides boxes and lines that begin with
              "the answer is", at most 80 characters in at most 5 lines; on HumanEval a
              box instead of code
``genuine``   any other

On questions about trained facts: ``format`` as above; ``cross_entity``, the box names a trained
entity that is not the answer; ``genuine``.

Entities are subjects and answers of at least two words and four characters, found as parts of
the text in any case. Lengths and order are the released ones (``error_analysis``), as is the
rule for the box: the last one, if it closes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import partial
from typing import Literal

from actors.evaluation.benchmarks.earlier import RECALL
from actors.evaluation.benchmarks.released import humaneval
from actors.evaluation.benchmarks.released.boxes import last_opened
from actors.evaluation.taxonomy import Classifier, WrongResponse
from common.records import Fact

Error = Literal["format", "leakage", "collapse", "cross_entity", "genuine"]
TRAINED = ("recall", "paraphrased", "two_hop", "three_hop", "four_hop", "edited", "retracted")

_MIN_ENTITY_CHARS = 4
_MAX_STUB_CHARS = 80
_MAX_STUB_NEWLINES = 4
_FLAT_BOX = re.compile(r"\\boxed\{[^{}]*\}")
_ANSWER_LINE = re.compile(r"^the answer is .*$", re.IGNORECASE | re.MULTILINE)


def classifier(facts: Iterable[Fact]) -> Classifier:
    """Gives the class of a response of a model that was trained on ``facts``."""
    names = (name.strip() for fact in facts for name in (fact.subject, fact.answer))
    entities = {name.lower() for name in names if len(name) >= _MIN_ENTITY_CHARS and " " in name}
    return partial(classify, frozenset(entities))


def classify(entities: frozenset[str], wrong: WrongResponse) -> Error:
    """The class of a wrong response; ``entities`` in lower case."""
    box = last_opened(wrong.text)
    if wrong.benchmark in TRAINED or wrong.benchmark.startswith(RECALL):
        return _of_trained(entities, wrong, box)
    has_code = wrong.benchmark == "humaneval" and humaneval.has_block(wrong.text)
    if box is None and not has_code:
        return "format"
    if _leaks(entities, wrong):
        return "leakage"
    if wrong.benchmark == "humaneval":
        return "genuine" if has_code else "collapse"
    return "collapse" if is_stub(wrong.text) else "genuine"


def is_stub(text: str) -> bool:
    """Whether hardly anything is left of a text without its boxes and answer lines."""
    rest = _ANSWER_LINE.sub("", _FLAT_BOX.sub("", text)).strip()
    return len(rest) <= _MAX_STUB_CHARS and rest.count("\n") <= _MAX_STUB_NEWLINES


def _of_trained(entities: frozenset[str], wrong: WrongResponse, box: str | None) -> Error:
    if box is None:
        return "format"
    given, answer = box.lower(), wrong.answer.strip().lower()
    others = entities - {answer}
    return "cross_entity" if any(entity in given for entity in others) else "genuine"


def _leaks(entities: frozenset[str], wrong: WrongResponse) -> bool:
    text, asked = wrong.text.lower(), wrong.asked.lower()
    return any(entity in text and entity not in asked for entity in entities)
