"""IFEval: instructions that a program can check, and the checks.

A response counts when it follows every instruction of its prompt, unedited (the
benchmark's "prompt-level strict accuracy"). The community harness has checkers
too, but importing them takes 419 MB of packages and a download of NLTK's sentence
model. Here a rule splits sentences; langdetect detects languages, as there.
"""

from __future__ import annotations

import json
import operator
import re
from collections import Counter
from collections.abc import Callable
from typing import Any

from actors.evaluation.benchmarks.base import (
    Generation,
    Grade,
    Materials,
    Question,
    ResponseSampling,
)
from actors.evaluation.benchmarks.ifeval_rows import Instructed
from actors.evaluation.benchmarks.sources import Source, read

SOURCE = Source("ifeval", "input_data", "google/IFEval", "ifeval_input_data.jsonl")
_RESPONSE_TOKENS = 1280

# Arguments that are absent are None in some copies of the data.
Arguments = dict[str, Any]
Check = Callable[[str, Arguments], Any]


def build(materials: Materials) -> Generation:
    """All 541 prompts, greedy."""
    rows = read(SOURCE, materials.settings.data_root, Instructed)
    questions = [
        Question(
            f"ifeval-{row.key}",
            materials.prompts.user(row.prompt),
            row.prompt,
            ", ".join(row.instruction_id_list),
            {"instructions": row.instructions},
        )
        for row in materials.subset("ifeval", rows)
    ]
    tokens = materials.settings.benchmark_tokens or _RESPONSE_TOKENS
    return Generation("ifeval", questions, grade, ResponseSampling(tokens))


def grade(question: Question, response: str) -> Grade:
    """Whether all instructions are followed; names those that are not."""
    broken = [
        name
        for name, arguments in question.data["instructions"]
        if not follows(name, arguments or {}, response)
    ]
    return Grade(not broken, response.strip() or None, ", ".join(broken))


def follows(name: str, arguments: Arguments, response: str) -> bool:
    """Whether ``response`` follows one instruction; an empty one follows none."""
    known = {key: value for key, value in arguments.items() if value is not None}
    return bool(response.strip() and CHECKS[name](response, known))


def _compare(count: int, arguments: Arguments, relation: str, bound: str) -> bool:
    at_least = arguments.get(relation, "at least") == "at least"
    return bool((operator.ge if at_least else operator.lt)(count, arguments[bound]))


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text)


def _sentences(text: str) -> int:
    """Ends of sentences: a stop before white space and no small letter, abbreviations aside."""
    text = re.sub(
        r"\b(?:Mr|Mrs|Ms|Dr|Prof|St|Inc|Ltd|Co|Jr|Sr|vs|etc|e\.g|i\.e|[A-Z])\.", "_", text
    )
    pieces = re.split(r"(?<=[.!?])[\"'”’)\]*]*\s+(?![a-z])", text.strip())
    return sum(bool(re.search(r"\w", piece)) for piece in pieces)


def _has(text: str, keyword: str) -> bool:
    return re.search(re.escape(keyword), text, re.IGNORECASE) is not None


def _frequency(text: str, arguments: Arguments) -> bool:
    found = len(re.findall(re.escape(arguments["keyword"]), text, re.IGNORECASE))
    return _compare(found, arguments, "relation", "frequency")


def _letters(text: str, arguments: Arguments) -> bool:
    count = Counter(text.lower())[arguments["letter"].lower()]
    return _compare(count, arguments, "let_relation", "let_frequency")


def _language(text: str, arguments: Arguments) -> bool:
    from langdetect import DetectorFactory, LangDetectException, detect

    DetectorFactory.seed = 0
    try:
        return bool(detect(text) == arguments["language"])
    except LangDetectException:
        # Nothing to tell a language by, as in the published checker.
        return True


def _in_english(text: str) -> bool:
    return _language(text, {"language": "en"})


def _parts(text: str, separator: str) -> list[str] | None:
    """Pieces between separators; empty ones at the ends fall away, elsewhere None."""
    pieces = [piece.strip() for piece in re.split(separator, text)]
    if any(not piece for piece in pieces[1:-1]):
        return None
    return [piece for piece in pieces if piece]


def _paragraphs(text: str, arguments: Arguments) -> bool:
    pieces = _parts(text, r"\s?\*\*\*\s?")
    return pieces is not None and len(pieces) == int(arguments["num_paragraphs"])


def _nth_paragraph(text: str, arguments: Arguments) -> bool:
    pieces = re.split(r"\n\n", text)
    filled = sum(bool(piece.strip()) for piece in pieces)
    which = arguments["nth_paragraph"]
    if which > filled or filled != arguments["num_paragraphs"] or not pieces[which - 1].strip():
        return False
    word = pieces[which - 1].split()[0].lstrip("'\"")
    first = re.match(r"[^.,?!'\"]*", word)
    return first is not None and first[0].lower() == str(arguments["first_word"]).lower()


def _postscript(text: str, arguments: Arguments) -> bool:
    marker = arguments["postscript_marker"].lower()
    dotted = {"p.p.s": r"p\.\s?p\.\s?s", "p.s.": r"p\.\s?s\."}
    pattern = dotted.get(marker, re.escape(marker))
    return re.search(rf"\s*{pattern}.*$", text.lower(), re.MULTILINE) is not None


def _bullets(text: str, arguments: Arguments) -> bool:
    starred = re.findall(r"^\s*\*[^*].*$", text, re.MULTILINE)
    dashed = re.findall(r"^\s*-.*$", text, re.MULTILINE)
    return bool(len(starred) + len(dashed) == arguments["num_bullets"])


def _highlights(text: str, arguments: Arguments) -> bool:
    single = [part for part in re.findall(r"\*[^\n*]*\*", text) if part.strip("*").strip()]
    double = [part for part in re.findall(r"\*\*[^\n*]*\*\*", text) if part[2:-2].strip()]
    return bool(len(single) + len(double) >= arguments["num_highlights"])


def _sections(text: str, arguments: Arguments) -> bool:
    splitter = re.escape(arguments["section_spliter"].strip())
    count = len(re.split(rf"\s?{splitter}\s?\d+\s?", text)) - 1
    return bool(count >= arguments["num_sections"])


def _json(text: str, arguments: Arguments) -> bool:
    bare = re.sub(r"^```(?:json)?\s*|\s*```$", "", text.strip(), flags=re.IGNORECASE)
    try:
        json.loads(bare)
    except ValueError:
        return False
    return True


def _two_responses(text: str, arguments: Arguments) -> bool:
    pieces = _parts(text, r"\*{6}")
    return pieces is not None and len(pieces) == 2 and pieces[0] != pieces[1]


def _repeats(text: str, arguments: Arguments) -> bool:
    wanted = arguments["prompt_to_repeat"].strip().lower()
    return text.strip().lower().startswith(wanted)


def _ends(text: str, arguments: Arguments) -> bool:
    return text.strip().strip('"').lower().endswith(arguments["end_phrase"].strip().lower())


def _quoted(text: str, arguments: Arguments) -> bool:
    bare = text.strip()
    return len(bare) > 1 and bare[0] == bare[-1] == '"'


def _capital_words(text: str, arguments: Arguments) -> bool:
    # A hyphen or apostrophe does not end a word.
    count = sum(word.isupper() for word in re.findall(r"\w+(?:['’.&-]\w+)*", text))
    return _compare(count, arguments, "capital_relation", "capital_frequency")


CHECKS: dict[str, Check] = {
    "keywords:existence": lambda text, a: all(_has(text, word) for word in a["keywords"]),
    "keywords:frequency": _frequency,
    "keywords:forbidden_words": lambda text, a: (
        not any(
            re.search(rf"\b{re.escape(word)}\b", text, re.IGNORECASE)
            for word in a["forbidden_words"]
        )
    ),
    "keywords:letter_frequency": _letters,
    "language:response_language": _language,
    "length_constraints:number_sentences": lambda text, a: _compare(
        _sentences(text), a, "relation", "num_sentences"
    ),
    "length_constraints:number_paragraphs": _paragraphs,
    "length_constraints:number_words": lambda text, a: _compare(
        len(_words(text)), a, "relation", "num_words"
    ),
    "length_constraints:nth_paragraph_first_word": _nth_paragraph,
    "detectable_content:number_placeholders": lambda text, a: (
        len(re.findall(r"\[.*?\]", text)) >= a["num_placeholders"]
    ),
    "detectable_content:postscript": _postscript,
    "detectable_format:number_bullet_lists": _bullets,
    "detectable_format:constrained_response": lambda text, a: any(
        f"My answer is {answer}." in text for answer in ("yes", "no", "maybe")
    ),
    "detectable_format:number_highlighted_sections": _highlights,
    "detectable_format:multiple_sections": _sections,
    "detectable_format:json_format": _json,
    "detectable_format:title": lambda text, a: any(
        title.strip("<>").strip() for title in re.findall(r"<<[^\n]+>>", text)
    ),
    "combination:two_responses": _two_responses,
    "combination:repeat_prompt": _repeats,
    "startend:end_checker": _ends,
    "startend:quotation": _quoted,
    "change_case:capital_word_frequency": _capital_words,
    "change_case:english_capital": lambda text, a: text.isupper() and _in_english(text),
    "change_case:english_lowercase": lambda text, a: text.islower() and _in_english(text),
    "punctuation:no_comma": lambda text, a: "," not in text,
}
