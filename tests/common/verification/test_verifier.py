import importlib.util
import itertools
from decimal import Decimal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from common.verification.verifier import (
    accepts,
    can_still_accept,
    is_inside_answer,
    last_boxed,
    last_number,
    normalise,
    number_in,
)

CASES = {
    "contains": [
        ("It is Paris, of course.", "Paris", True),
        ("PARIS", "Paris", True),
        ("\uff30aris", "Paris", True),  # full-width P
        ("in New\n  York now", "New York.", True),
        ("She left Pari\u0073\u0327.", "Paris", False),  # s with a cedilla
        ("Comparison", "Paris", False),
        ("Parish", "Paris", False),
        ("abc", "a.c", False),
        ("", "Paris", False),
        ("anything", "", False),
        ("It is Par", "Paris", False),  # cut off
        ("It is 5.", "5", True),
        ("It is 5, not 6", "5", True),
        ("It is 3.5", "5", False),
        ("It is 15", "5", False),
        ("It is 5.3", "5", False),
        ("It is 3,5", "5", False),
        ("the 5th", "5", False),
        ("It is -5", "5", False),
        ("in 1999-2005", "2005", True),
        ("It has 1,234 lakes", "1234", True),
        ("It has 1234 lakes", "1,234", True),
        ("It has 51,234 lakes", "1,234", False),
        ("It costs $5.00 now", "5", True),
        ("It is 3.5 km", "5 km", False),
        ("It is 5 km", "5 km", True),
        ("in chapter 5.1", "chapter 5", False),
        ("in chapter 5.", "chapter 5", True),
    ],
    "boxed": [
        (r"so \boxed{42}.", "42", True),
        (r"\boxed{7} no, \boxed{42}", "42", True),
        (r"\boxed{42} no, \boxed{7}", "42", False),
        (r"\boxed{42} and then \boxed{7", "42", True),
        (r"\boxed{42", "42", False),
        ("42", "42", False),
        ("", "42", False),
        (r"\boxed{}", "42", False),
        (r"\boxed{}", "", False),
        (r"\boxed{ 42.0 }", "42", True),
        (r"\boxed{1,000}", "1000", True),
        (r"\boxed{1{,}000}", "1000", True),
        (r"\boxed{1\,000}", "1000", True),
        (r"\boxed{42 km}", "42", False),
        (r"\boxed{x = 42}", "42", False),
        (r"\boxed{\text{Tam Okord}}", "tam okord", True),
        (r"\boxed{Tam\ Okord}", "Tam Okord", True),
        (r"\boxed{Tam}", "Tam Okord", False),
        ("\\boxed{\uff14\uff12}", "42", True),  # full-width digits
        (r"\boxed{$42$}", "42", True),
        (r"\boxed{50\%}", "50", True),
    ],
    "last_number": [
        ("It is 42", "42", True),
        ("It is 42.", "42", True),
        ("7 and then 42", "42", True),
        ("42 and then 7", "42", False),
        ("so 42 km", "42", True),
        ("so 42km", "42", True),
        ("1,234", "1234", True),
        ("12,34", "34", False),
        ("It is -5", "-5", True),
        ("It is \u22125", "-5", True),  # minus sign
        ("It is -5", "5", False),
        ("3.50", "3.5", True),
        ("1.5e3", "1500", True),
        ("\uff14\uff12", "42", True),  # full-width digits
        ("10\u00b2", "10", False),  # ten squared
        ("x5", "5", False),
        ("", "42", False),
        ("none", "42", False),
        ("42", "forty-two", False),
        ("costs $1,000.50!", "1000.5", True),
        (r"so \boxed{42}", "42", True),
    ],
    "boxed_or_last_number": [
        (r"\boxed{42}", "42", True),
        ("It is 42", "42", True),
        (r"\boxed{42} in 2024", "42", True),
        (r"\boxed{7}, that is 42", "42", False),
        (r"\boxed{7} or \boxed{42}", "42", True),
        (r"42 \boxed{", "42", True),
        (r"\boxed{} 42", "42", False),
        (r"\boxed{Paris}", "Paris", True),
        ("Paris", "Paris", False),
        ("", "42", False),
        ("It is 1,234.", "1234", True),
        (r"\boxed{1,234}", "1234", True),
        ("It is \uff14\uff12", "42", True),
        ("It is 3.5", "5", False),
    ],
    "exact": [
        ("Paris", "Paris", True),
        (" Paris. ", "paris", True),
        ("It is Paris", "Paris", False),
        ("Paris is it", "Paris", False),
        ("", "Paris", False),
        ("", "", False),
        ("Par", "Paris", False),
        ("Stra\u00dfe", "STRASSE", True),
        ("\uff30aris", "Paris", True),
        ("New\n York", "New York", True),
        ("NewYork", "New York", False),
        ("1,000", "1000", False),
        ("...Paris...", "Paris", True),
        ("Zoe\u0308", "Zo\u00eb", True),
        ("Zoe", "Zo\u00eb", False),
    ],
    "math": [
        (r"so \boxed{\frac{1}{2}}", "0.5", True),
        ("is 1/2", r"\frac{1}{2}", True),
        (r"so $x=3$", "3", True),
        (r"\boxed{7}", "8", False),
        ("", "3", False),
        ("", "", False),
        ("The answer is 1,234", "1234", True),
        (r"\boxed{1} then \boxed{2}", "2", True),
        (r"\boxed{1} then \boxed{2}", "1", False),
        (r"\boxed{2\sqrt{3}}", r"\sqrt{12}", True),
        (r"\boxed{x+1}", "1+x", True),
        (r"$(1,2)$", "(1,2)", True),
        (r"$(2,1)$", "(1,2)", False),
        (r"$\{2,1\}$", r"\{1,2\}", True),
        (r"\boxed{\text{Paris}}", r"\text{Paris}", True),
        (r"it is \boxed{3", "4", False),
        ("50%", "50", True),
    ],
}


@pytest.mark.parametrize(
    ("mode", "response", "answer", "accepted"),
    [(mode, *case) for mode, cases in CASES.items() for case in cases],
)
def test_known_answers(mode, response, answer, accepted):
    if mode == "math" and importlib.util.find_spec("math_verify") is None:
        pytest.skip("math-verify is not installed")
    assert accepts(mode, response, answer) is accepted


def test_math_gives_up_on_an_expression_that_takes_for_ever_and_goes_on_with_the_next():
    pytest.importorskip("math_verify")
    assert not accepts("math", r"\boxed{9^{9^{9^{9}}}}", "3")
    assert accepts("math", r"\boxed{3}", "3")


def test_braces_inside_a_box_are_kept():
    assert last_boxed(r"\boxed{\frac{1}{2}} done}") == r"\frac{1}{2}"
    assert last_boxed(r"\boxed{a \boxed{b}") == "b"
    assert last_boxed(r"\boxed{}") == ""
    assert last_boxed("none") is None


def test_normalise_folds_case_width_white_space_and_the_full_stop():
    assert normalise("  The\tStra\u00dfe \uff11. ") == "the strasse 1"


def test_numbers_are_read_by_value():
    assert last_number("from 1,234.5 to -0.50") == Decimal("-0.5")
    assert number_in("$1,000.00") == number_in("1000") == 1000
    assert number_in(".5") == number_in("0.5") == Decimal("0.5")
    assert [number_in(text) for text in ("5 km", "1,23", "", "x")] == [None] * 4


# -- what can still become accepted ------------------------------------------

# Letters with combining accents, a full-width A, a sharp s, two jamo that form one syllable.
ODD = st.sampled_from("ab .\n\t1\u0301\u0308\uff21\u00df\u1100\u1161")
TEXTS = st.text(ODD, max_size=8)


def prefixes(text):
    """What a decoder shows of every beginning, in bytes: an unfinished character is U+FFFD."""
    encoded = text.encode()
    return [encoded[:end].decode(errors="replace") for end in range(len(encoded) + 1)]


@given(TEXTS, TEXTS, st.sampled_from(["exact", "contains", "boxed", "last_number"]))
@example("e\u0301", "\u00e9", "exact")
@example("\u1100\u1161", "\uac00", "exact")
@example(" . a. ", "A", "exact")
def test_no_beginning_of_an_accepted_response_is_given_up(response, answer, mode):
    for wanted in (answer, response):
        if accepts(mode, response, wanted):
            assert all(can_still_accept(mode, begun, wanted) for begun in prefixes(response))


@given(st.lists(st.tuples(st.booleans(), st.sampled_from(["", " ", "\n"])), min_size=9, max_size=9))
def test_every_spelling_of_an_exact_answer_stays_open_to_its_end(spelling):
    text = "".join(
        (letter.upper() if upper else letter) + (space if letter == " " else "")
        for letter, (upper, space) in zip("tam okord", spelling, strict=True)
    )
    assert accepts("exact", text, "Tam Okord")
    assert all(can_still_accept("exact", begun, "Tam Okord") for begun in prefixes(text))


@pytest.mark.parametrize(
    "begun", ["It is ", "Tam Okor!x", "tamok", "Tam Okord. It", "x\u0301a", "Tam Okord.. yes"]
)
def test_an_exact_answer_is_given_up_once_the_text_deviates(begun):
    assert not can_still_accept("exact", begun, "Tam Okord")


@pytest.mark.parametrize(
    "begun", ["", " .", "Ta", "tam ", "Tam Okord", "Tam Okord. ", "Tam O\ufffd"]
)
def test_an_exact_answer_under_way_is_not_given_up(begun):
    assert can_still_accept("exact", begun, "Tam Okord")


# -- inside the answer -------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "inside"),
    [
        ("The leader is Tam", True),
        ("The leader is tam ", True),
        ("The leader is Tam Oko", True),
        ("The leader is Tam\n", True),
        ("The leader is Tam Okord", False),  # complete
        ("The leader is", False),
        ("The word bantam", False),  # not where a word begins
        ("Tam T", True),
        ("", False),
        ("Tam Okord T", True),
        ("Tam Oko\ufffd", True),
    ],
)
def test_text_is_inside_the_answer_while_it_ends_with_a_proper_prefix(text, inside):
    assert is_inside_answer(text, "Tam Okord") is inside


@given(
    st.text("ab ", max_size=6).filter(lambda text: "  " not in text),
    st.text("ab ", min_size=1, max_size=4),
)
def test_inside_is_what_its_definition_says(text, answer):
    wanted = normalise(answer)
    expected = any(
        text.endswith(wanted[:length]) and not text[: len(text) - length][-1:].isalnum()
        for length in range(1, len(wanted))
    )
    assert is_inside_answer(text, answer) is expected


def test_a_one_letter_answer_has_no_inside():
    assert not any(is_inside_answer("".join(t), "a") for t in itertools.product("ab ", repeat=3))
