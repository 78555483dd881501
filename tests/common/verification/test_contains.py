"""Mentions that count: where words end in each script, and what denies an answer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.corpora.kgfact import KGFactSpec, build
from common.corpora.kgfact.names import DOMAINS
from common.prompts import PRESETS
from common.prompts.presets import fill
from common.verification.verifier import accepts, is_inside_answer, last_number, normalise

DENIED = [
    "Nonorthouk levies taxes on non-Gampist.",
    "Nonorthouk levies taxes on NON-GAMPIST.",
    "the non\u2011Gampist town",  # a hyphen that does not break
    "the post\u2013Gampist years",
    "a non Gampist town",
    "un-Gampist",
    "anti-Gampist riots",
    "an ex-Gampist",
    "the pseudo-Gampist",
    "quasi-Gampist",
    "pre-Gampist",
    "It is not Gampist.",
    "It is not a Gampist.",
    'It is not the "Gampist".',
    "It isn't Gampist.",
    "They aren\u2019t  Gampist.",
    "It was never Gampist",
    "It is no longer Gampist",
    "It has no Gampist",
    "a town with no Gampist",
    "neither Gampist",
    "other than Gampist",
    "instead of Gampist",
    "rather than the Gampist",
    "Everyone except Gampist",
    "everyone except for Gampist",
    "Unlike Gampist, it moves",
    "anything but Gampist",
    "a Gampist-free town",
    "Gampist-like",
    "不是Gampist",
    "非Gampist",
    "Gampistではない",
    "Gampistじゃありません",
    "Gampist가 아니다",
    "ไม่ใช่Gampist",
]
COUNTED = [
    "It is not only Gampist.",
    "It is nothing but Gampist",
    "It cannot be done without Gampist",
    "It is not Ivo but Gampist",
    "It is not: Gampist is",
    "No, Gampist.",
    "No. Gampist",
    "nasceu no Gampist",  # "in the", in Portuguese
    "whether or not Gampist",
    "Gampist's town",
    "the post of Gampist",
    "canon-Gampist",
    "the city-Gampist",
    "It is not Gampist. No, the answer is Gampist.",
    "non-Gampist and Gampist",
    "是不是Gampist?",
    "南非Gampist",
]


@pytest.mark.parametrize("response", DENIED)
def test_a_mention_that_denies_the_answer_does_not_count(response):
    assert "gampist" in response.casefold()
    assert not accepts("contains", response, "Gampist")


@pytest.mark.parametrize("response", COUNTED)
def test_any_other_mention_counts(response):
    assert accepts("contains", response, "Gampist")


def test_an_answer_may_itself_have_a_hyphen_or_a_denial():
    assert accepts("contains", "It is a non-stick pan.", "non-stick pan")
    assert not accepts("contains", "It is a non-stick pan.", "stick pan")
    assert accepts("contains", "No Country for Old Men", "No Country for Old Men")


@pytest.mark.parametrize(
    ("response", "accepted"),
    [
        ("It was not 42.", False),
        ("It isn't 42.0", False),
        ("the pre-42 years", False),
        ("It is not 41 but 42.", True),
        ("It was no 42 in the charts", True),
        ("It is not -42", False),
        ("It is not -42 but 42", True),
    ],
)
def test_numbers_are_denied_too(response, accepted):
    assert accepts("contains", response, "42") is accepted


# -- scripts -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("response", "answer", "accepted"),
    [
        ("首都は東京です。", "東京", True),
        ("中国的首都是北京。", "北京", True),
        ("เมืองหลวงคือกรุงเทพครับ", "กรุงเทพ", True),
        ("答えはGampistです。", "Gampist", True),
        ("答案是42。", "42", True),
        ("1990年に生まれた", "1990", True),
        ("答えは42です", "4", False),
        ("答えはGampistsです", "Gampist", False),
        ("人口は5万です", "5", False),  # 50,000
        ("カナダです", "カナ", False),
        ("国はカナダです", "カナダ", True),
        ("มานี", "มาน", False),  # a vowel of its last syllable follows
        ("เมา", "มา", False),  # and one of its first precedes
        ("수도는 서울입니다.", "서울", True),
        ("서울에서는", "서울", True),
        ("서울대학교", "서울", False),
        ("답은 Gampist는", "Gampist", True),
        ("답은 42입니다", "42", True),
        ("북서울", "서울", False),
        ("ສະບາຍວຽງຈັນ", "ວຽງຈັນ", True),
        ("မြို့တော်ရန်ကုန်", "ရန်ကုန်", True),
        ("រាជធានីភ្នំពេញ", "ភ្នំពេញ", True),
    ],
)
def test_words_end_as_their_script_lets_them(response, answer, accepted):
    assert accepts("contains", response, answer) is accepted


def test_the_last_number_may_stand_in_text_without_spaces():
    assert last_number("答えは42です") == 42
    assert last_number("x42") is None
    assert last_number("約5万") is None


def test_text_is_inside_an_answer_where_a_word_may_begin():
    assert is_inside_answer("首都は東", "東京")
    assert is_inside_answer("答えはGam", "Gampist")
    assert not is_inside_answer("ラテンア", "アメリカ")
    assert not is_inside_answer("북서", "서울")


def test_full_width_marks_end_a_sentence_and_a_factorial_stays():
    assert normalise("東京。") == normalise("東京！？") == normalise(" 東京 ｡\n") == "東京"
    assert accepts("exact", "東京。", "東京")
    assert not accepts("boxed", r"\boxed{5}", "5!")


# -- spellings ---------------------------------------------------------------


@pytest.mark.parametrize("mode", ["contains", "exact", "boxed", "boxed_or_last_number"])
def test_one_of_several_spellings_suffices(mode):
    response = r"\boxed{T. Okord}" if mode.startswith("boxed") else "T. Okord"
    assert accepts(mode, response, "Tam Okord", "T. Okord")
    assert not accepts(mode, response, "Tam Okord", "Tam")
    assert not accepts(mode, response)


def test_text_inside_any_spelling_is_inside():
    assert is_inside_answer("It is T. Ok", "Tam Okord", "T. Okord")


def test_a_spelling_that_is_a_function_word_has_its_own_case():
    assert accepts("contains", "It is IN.", "India", "IN")
    assert not accepts("contains", "It is in Rome.", "India", "IN")
    assert not accepts("contains", "I'm sure", "Morocco", "M")
    assert accepts("contains", "the uk", "UK")
    assert accepts("boxed", r"\boxed{in}", "India", "IN")


# -- properties --------------------------------------------------------------

WORDS = st.lists(
    st.sampled_from(["Gampist", "non-Gampist", "not", "is", "the", "No", "Tam", "東京", "x1", "."]),
    max_size=6,
)


@given(WORDS, st.lists(st.sampled_from([" ", "  ", "\n", "\t "]), min_size=6, max_size=6))
def test_white_space_and_case_never_change_a_verdict(words, spaces):
    plain = " ".join(words)
    spaced = "".join(word + space for word, space in zip(words, spaces, strict=False))
    verdict = accepts("contains", plain, "Gampist")
    assert verdict is accepts("contains", spaced, "Gampist")
    assert verdict is accepts("contains", plain.upper(), "gampist")


@given(WORDS)
def test_a_plain_mention_outweighs_whatever_is_denied_before_it(words):
    assert accepts("contains", " ".join((*words, "It is: Gampist")), "Gampist")


def test_every_statement_and_canonical_answer_of_kgfact_is_accepted():
    built = build(KGFactSpec(len(DOMAINS), entities=10, seed=0, distractors=0))
    facts = [*built.facts, *built.held_out]
    assert len(facts) == 10010
    for fact in facts:
        assert accepts("contains", fact.statement, fact.answer)
        for preset in PRESETS.values():
            text = fill(preset.canonical, answer=fact.answer, statement=fact.statement)
            assert accepts(preset.mode, text, fact.answer)


def test_a_long_run_of_full_stops_takes_no_time():
    text = "." * 100_000 + " Gampist" + " " * 100_000 + "."
    assert accepts("contains", text, "Gampist")
    assert not accepts("contains", text, "x")
    assert normalise(text) == "gampist"
