"""Names of made-up entities: every domain has sounds of its own.

A word is onset vowel [glide vowel] link ending: two or three syllables, at
least six letters. The sounds of all domains together spell about 150,000
words, few enough to compare each with a dictionary once and for all:
``_ENGLISH`` lists those that Webster's Second International, the GNU
Collaborative International Dictionary or the vocabulary of the packaged
tokenizer has, and names that people bear. They are never handed out.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from itertools import product

MIN_WORD_LETTERS = 6

# The order of the domains is the direction of the edges: earlier to later.
# Onsets / vowels / glides / links / endings, and again endings where a name
# has a second word.
_SOUNDS = {
    "person": "t d m r k l br s / a e i o / l r v / vr sk ld rv lm nd / in el is / elle ard ov esk",
    "location": "b h v dr gl w n s / a o u e / l r n / rn lv mb rth ndr zm / ath um est ouk",
    "organization": "k v st z cr ph m / e o a y / r l n / ntr lv xt rm ld / ex or ane / ond ax und",
    "event": "f s g l ch ar m / e i ou a / r l n / str lf nn rg ll dm / ide al ent / ive onde eth",
    "profession": "t d k br w g sp m / o a u i / l m r / lb rk mp nt rv sk / ist wright ern",
    "hobby": "sk b d fl p st w gr / e u o i / l r d / lv zb rf nk gm thr / ing ling",
    "skill": "m c p l n v gr s / o e a y / r d l / rd lm phr sc ndr lt / ance ence ism oft",
    "physical_object": "gr th b kr n d v / u o a i / r l n / rm zg lk dd rkh ndr / uth agg ox urn",
    "product": "v z n x l f pl r / e i a o / l r v / lm xt v zz rb nk / a ix o yl",
    "service": "sw h r g c tr l fl / i a ee o / l d r / ft rr pl nd mm bb / or eem ash / ex in ull",
    "media_work": "s l th m d v or / a e i u / l n r / lm lt nth rr v ph / a en or / une el adre",
    "digital_tool": "b k z v p y cl / y i o e / b l n / bb tr xl kk pl mb / ot yx od um",
    "task": "h br dr k m t sn w / a u o i / l r d / rg mp lk tch ndl ft / od um age arn",
    "time_period": "tr p m s c v h ul / e o i a / l v r / v zl rl ndr th nk / ene ade ial urn",
}
DOMAINS = tuple(_SOUNDS)

_ENGLISH = """
barnum bombyx bonking bunking calescence candor caplin carlene celtism condor cothurn dandel
dantist darrel darren delving dervis draftage driftage dunking fallal fenestral flunking gastral
gimmor girondin gobbin handrest hibbin horror hulkage kantist karvel landis landor manavel mandel
maniva mannide margent marlene marvel marvin mendel mentha mervin methene minargent mindel
ministral mirror miskin mistral moleskin morindin morvin nascence nephrism northest numbest peplum
pinking punkling purfling rabbin reskin robbin rondel rondelle saliva salmis salten sandel sargent
sephen sinistral siskin skinking skunking stinking stonking tarantist targum thelma thereva thivel
tintist triplex trivial verrel vitrum waftage wampum winking winkling
"""


class Names:
    """Hands out names: no word twice, no name inside another, whatever the case."""

    def __init__(self, seed: int, domains: tuple[str, ...]) -> None:
        self._seed = seed
        self._domains = domains
        self._words = set(_ENGLISH.split())
        self._names: set[str] = set()
        self._parts: set[str] = set()

    def slice(self, label: str, count: int) -> dict[str, list[str]]:
        """``count`` further names for every domain."""
        return {domain: self._draw(label, domain, count) for domain in self._domains}

    def _draw(self, label: str, domain: str, count: int) -> list[str]:
        rng = random.Random(f"{self._seed}:{label}:{domain}")
        onsets, vowels, glides, links, *endings = _sounds(domain)
        drawn: list[str] = []
        while len(drawn) < count:
            words = []
            for ending in endings:
                middle = [glides, vowels] if rng.randrange(2) else []
                words.append("".join(map(rng.choice, [onsets, vowels, *middle, links, ending])))
            name = " ".join(words)
            if min(map(len, words)) < MIN_WORD_LETTERS or self._words.intersection(words):
                continue
            parts = set(_parts(name, MIN_WORD_LETTERS))
            if name in self._parts or parts & self._names:
                continue
            self._words.update(words)
            self._names.add(name)
            self._parts |= parts
            drawn.append(name.title())
        return drawn


def spellings() -> set[str]:
    """Every word that can come out, in lower case: what a dictionary is compared with."""
    words: set[str] = set()
    for domain in DOMAINS:
        onsets, vowels, glides, links, *endings = _sounds(domain)
        for ending in endings:
            for middle in ([], [glides, vowels]):
                words.update(map("".join, product(onsets, vowels, *middle, links, ending)))
    return {word for word in words if len(word) >= MIN_WORD_LETTERS} - set(_ENGLISH.split())


def contained(names: Iterable[str]) -> list[tuple[str, str]]:
    """Pairs (inner, outer) of which one name is part of the other, whatever the case."""
    known = {name.casefold(): name for name in names}
    least = min(map(len, known), default=1)
    return [
        (known[part], name)
        for folded, name in known.items()
        for part in sorted(known.keys() & set(_parts(folded, least)) - {folded})
    ]


def _sounds(domain: str) -> list[list[str]]:
    return [sound.split() for sound in _SOUNDS[domain].split("/")]


def _parts(text: str, least: int) -> Iterator[str]:
    """Substrings of at least ``least`` characters."""
    for start in range(len(text)):
        for end in range(start + least, len(text) + 1):
            yield text[start:end]
