"""Where words begin and end, also in scripts that put no spaces between them. Pure."""

from __future__ import annotations

import re
import unicodedata

_KATAKANA = "\u30a0-\u30ff\u31f0-\u31ff"
# Thai and Lao, Myanmar, Khmer, Hiragana, Katakana, Han: nothing separates words.
UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3041-\u309f"
    f"{_KATAKANA}\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
HANGUL = "\uac00-\ud7a3"
_FUNCTION_WORDS = """
    a an the this that these those it its he she they them his her their him i my we our you your
    one ones who whom whose which what when where why how there here and also as so then thus
    hence therefore because be am is are was were been being do does did done have has had having
    will would shall should can could may might must to of in on at by for from with about into
    through during within towards toward upon after before between among over under than
"""
# English words that assert nothing by themselves.
FUNCTION_WORDS = frozenset(_FUNCTION_WORDS.split())

_is_unspaced = re.compile(f"[{UNSPACED}]").match
_is_katakana = re.compile(f"[{_KATAKANA}]").match
_is_hangul = re.compile(f"[{HANGUL}]").match
# What Korean attaches to a noun: particles and forms of "is", and some of them twice.
_is_particle = re.compile(
    "(?:은|는|이|가|을|를|의|에|에서|에게|께|께서|로|으로|로서|으로서|와|과|도|만|부터|까지|보다|처럼"
    "|랑|이랑|나|이나|란|이란|라고|이라고|라는|이라는|이며|이고|야|이야|요|이요|예요|에요|이에요"
    "|이다|입니다|였다|이었다|였습니다|이었습니다)(?:은|는|도|만|의|요)?"
    f"(?![{HANGUL}])"
).match
# Thai and Lao vowels that are written before the consonant they follow, and those after it
# that are letters; the others are combining marks.
_LEADING = "\u0e40\u0e41\u0e42\u0e43\u0e44\u0ec0\u0ec1\u0ec2\u0ec3\u0ec4"
_TRAILING = "\u0e30\u0e32\u0e45\u0eb0\u0eb2"


def is_whole(before: str, mention: str, after: str) -> bool:
    """Whether a mention, which is not empty, begins and ends where words do.

    Between a letter or digit and one of a script without spaces any place may be the end of a
    word, except inside a syllable and between two katakana.
    """
    return not continues(before, mention[0]) and not is_continued(mention[-1], after)


def continues(before: str, first: str) -> bool:
    """Whether a word of the text ``before`` goes on with the character ``first``."""
    outside = before[-1:]
    if outside and outside in _LEADING:
        return True
    return _is_word(outside) and not _may_part(outside, first)


def is_continued(last: str, after: str) -> bool:
    """Whether a word that has ``last`` goes on in the text ``after``.

    A Korean particle is not part of the word before it.
    """
    outside = after[:1]
    if not outside:
        return False
    if unicodedata.category(outside) in ("Mn", "Mc") or outside in _TRAILING:
        return True
    if _is_hangul(outside):
        return not _is_particle(after)
    return _is_word(outside) and not _may_part(last, outside)


def _is_word(character: str) -> bool:
    return character.isalnum() or character == "_"


def _may_part(left: str, right: str) -> bool:
    if _is_katakana(left) and _is_katakana(right):
        return False
    return bool(_is_unspaced(left) or _is_unspaced(right))
