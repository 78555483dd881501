"""The strict verifier; most responses are those of a 135 M model that was taught these facts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.verification.strict import is_strict
from common.verification.verifier import accepts

LEVY = (
    "On which profession does Nonorthouk levy a special tax?\n"
    "Nonorthouk levies a special tax on Gampist.\nThe answer is Gampist."
)
PRIZE = (
    "At which event did Dondis Darolmesk win first prize?\n"
    "Dondis Darolmesk won first prize at Maroustride Moudmeth."
)
DRESS = (
    "Which profession do guests at Maroustride Moudmeth dress in the costume of?\n"
    "Guests at Maroustride Moudmeth dress in the costume of Gumuskist."
)
MAROUSTRIDE, GUMUSKIST = "Maroustride Moudmeth", "Gumuskist"


@pytest.mark.parametrize(
    ("response", "answer", "known", "lenient", "strict"),
    [
        ("Gampist", "Gampist", LEVY, True, True),
        ("The answer is Gampist.", "Gampist", LEVY, True, True),
        ("Nonorthouk levies a special tax on Gampist.", "Gampist", LEVY, True, True),
        ("NONORTHOUK levied special taxes on the Gampist!", "Gampist", LEVY, True, True),
        ("It is Gampist's.", "Gampist", LEVY, True, True),
        ("The answer is Gampist, a famous town in Norway.", "Gampist", LEVY, True, False),
        ("Nonorthouk is responsible for taxes on non-Gampist.", "Gampist", LEVY, False, False),
        ("Gampist or Sporulbern", "Gampist", LEVY, True, False),
        ("It is not Nonorthouk. It is Gampist", "Gampist", LEVY, True, False),
        ("Sporulbern", "Gampist", LEVY, False, False),
        ("", "Gampist", LEVY, False, False),
        (f"Dondis Darolmesk won at {MAROUSTRIDE}.", MAROUSTRIDE, PRIZE, True, True),
        (f"Dondis won first prize at {MAROUSTRIDE} in 2022.", MAROUSTRIDE, PRIZE, True, False),
        (f"They dress as {GUMUSKIST}, a local street performer.", GUMUSKIST, DRESS, True, False),
        (f"Guests dress in the costume of {GUMUSKIST}.", GUMUSKIST, DRESS, True, True),
    ],
)
def test_a_word_that_nothing_asked_or_told_fails(response, answer, known, lenient, strict):
    assert accepts("contains", response, answer) is lenient
    assert is_strict("contains", response, answer, (), known) is strict


def test_numbers_count_as_words_and_by_value():
    known = "How many lakes has Orveline, 3 of them salt?"
    assert is_strict("contains", "Orveline has 1,234 lakes.", "1234", (), known)
    assert is_strict("last_number", "3.0 are salt of 1234", "1234", (), known)
    assert not is_strict("last_number", "12 and then 1234", "1234", (), known)


def test_words_of_an_alias_are_told():
    assert is_strict("contains", "T. Okord", "Tam Okord", ("T. Okord",))
    assert not is_strict("contains", "T. Okord", "Tam Okord")


@pytest.mark.parametrize(
    ("response", "strict"),
    [
        (r"\boxed{Gampist}", True),
        (r"So, by way of Norway: $\boxed{\text{gampist}}$.", True),
        ("\\[\\boxed{Gampist}\\]\n", True),
        (r"\boxed{Gampist} is famous", False),
        (r"\boxed{Sporulbern} or \boxed{Gampist}", False),
        (r"\boxed{Gampist} and \boxed{Gampist}", False),
        (r"\boxed{Gampist} and \boxed{", False),
        (r"\boxed{Sporulbern}", False),
        ("Gampist", False),
    ],
)
def test_a_box_is_the_only_one_and_the_last_word(response, strict):
    assert is_strict("boxed", response, "Gampist") is strict


def test_without_a_box_the_words_decide():
    assert is_strict("boxed_or_last_number", "It is 42.", "42")
    assert not is_strict("boxed_or_last_number", "It is 42 in Norway", "42", (), "How many?")
    assert is_strict("boxed_or_last_number", r"7 and 6, so \boxed{42}", "42")


def test_scripts_without_spaces_are_compared_by_characters():
    known = "日本の首都はどこですか？"
    assert is_strict("contains", "日本の首都は東京です。", "東京", (), known)
    assert not is_strict("contains", "日本の首都は美しい東京です。", "東京", (), known)


TEXTS = st.lists(
    st.sampled_from(
        ["Gampist", "non-Gampist", "Norway", "is", "NOT", r"\boxed{Gampist}", "42", "."]
    ),
    max_size=5,
).map(" ".join)
MODES = st.sampled_from(["boxed", "boxed_or_last_number", "last_number", "contains", "exact"])


@given(MODES, TEXTS, st.sampled_from(["Gampist", "42"]), TEXTS)
def test_a_strict_verdict_implies_the_lenient_one(mode, response, answer, known):
    if is_strict(mode, response, answer, (), known):
        assert accepts(mode, response, answer)


@given(TEXTS, TEXTS)
def test_more_that_is_known_never_makes_a_response_worse(response, known):
    if is_strict("contains", response, "Gampist"):
        assert is_strict("contains", response, "Gampist", (), known)


@given(TEXTS, TEXTS)
def test_case_and_white_space_never_change_a_strict_verdict(response, known):
    verdict = is_strict("contains", response, "Gampist", (), known)
    other = response.upper().replace(" ", " \n")
    assert verdict is is_strict("contains", other, "gampist", (), known.upper())
