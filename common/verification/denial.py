"""Mentions of an answer that deny it: "non-Gampist", "not Gampist", "Gampist-free". Pure.

Only what touches the mention counts, an article and quotation marks aside, and only wordings
that hardly occur before a right answer. So "not only Gampist", "nothing but Gampist" and
"without Gampist" are mentions as any other.
"""

from __future__ import annotations

import re

# Characters around a mention that can matter.
REACH = 60

_HYPHEN = "[-\u2010\u2012\u2013\u2212]"
_OPENING = r"(?:(?:an?|the) )?[\"'\u2018\u2019\u201c\u201e\u00ab(\[*_]*"
_BEFORE = re.compile(
    rf"(?<!\w)(?:(?:non|un|anti|ex|pseudo|quasi|semi|counter|pre|post){_HYPHEN}|non "
    r"|(?:(?<!whether or )not|never|nor|neither|no longer|except|except for|excluding|unlike"
    rf"|instead of|rather than|other than|as opposed to|anything but) {_OPENING})\Z"
    rf"|\wn['\u2019]t {_OPENING}\Z"
    # Chinese and Thai; 南非 and the like are parts of Africa, and 是不是 asks.
    "|(?:(?<!是)不是|(?<![东東西南北中亚亞是])非|ไม่ใช่) ?\\Z"
)
# "no" alone is also "in the" in Portuguese, and "number" before a digit.
_NONE = re.compile(rf"(?<!\w)(?:is|are|was|were|be|been|has|have|had|with|there's) no {_OPENING}\Z")
_AFTER = re.compile(
    rf"{_HYPHEN}(?:free|less|like)(?!\w)"
    "|(?:では|じゃ|で)(?:な[いかく]|ありません)"
    "|[이가은는]? ?아[니닙닌]"
)


def is_denied(before: str, mention: str, after: str) -> bool:
    """Whether the text around a mention denies it.

    All three are folded as ``normalise`` does; ``REACH`` characters on either side suffice.
    """
    return bool(
        _BEFORE.search(before)
        or (not mention[0].isdigit() and _NONE.search(before))
        or _AFTER.match(after)
    )
