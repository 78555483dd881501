"""Attempts that end early because the answer no longer fits."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.verification.token_budget import TokenBudget, TokenPieces
from common.verification.verifier import accepts

# "Gampist" takes "Gam" and "pist" at least.
PIECES = TokenPieces(["Gam", " Gam", "pist", "ist", "a", " town", "\\", "boxed", "{", "}", " in "])


def budget(mode, *answers):
    return TokenBudget(mode, answers, PIECES)


def test_an_answer_that_takes_two_tokens_and_the_stop_token_does_not_fit_in_two():
    town = budget("contains", "Gampist")
    assert town.most == 3
    assert not town.settled("It is", 3)
    assert town.settled("It is", 2)


def test_what_is_written_of_the_answer_is_not_needed_again():
    town = budget("contains", "Gampist")
    assert not town.settled("It is GAM", 2)
    assert not town.settled("It is Gampist", 1)
    assert town.settled("It is Gampis", 1)


def test_the_shortest_spelling_counts():
    # A letter that no token has is assumed to take one.
    assert budget("contains", "Gampist", "Q").most == 2
    assert budget("contains", "Gampist in Gam").most == 5


def test_a_box_takes_three_tokens_its_content_two_and_its_end_one():
    town = budget("boxed", "Gampist")
    assert town.most == 7
    assert town.settled("It is Gampist", 6)
    assert town.settled("\\boxed{Gam}", 6)
    # With the backslash, and with an open box of which nothing is known.
    assert not town.settled("It is \\", 6)
    assert not town.settled("\\boxed{x", 2)
    assert town.settled("\\boxed{x", 1)


def test_a_mention_that_is_denied_may_count_after_one_more_token():
    town = budget("contains", "Gampist")
    assert not accepts("contains", "Gampist-like", "Gampist")
    assert accepts("contains", "Gampist-likely", "Gampist")
    assert not town.settled("Gampist-like", 2)


@pytest.mark.parametrize(
    ("mode", "answer"),
    [
        *(("contains", "1000"), ("contains", "Köln"), ("last_number", "7")),
        *(("boxed_or_last_number", "7"), ("math", "\\frac{1}{2}")),
    ],
)
def test_one_token_may_write_an_answer_that_has_many_forms(mode, answer):
    assert budget(mode, answer).most == 2


def test_of_a_box_with_a_number_only_its_beginning_is_sure():
    assert budget("boxed", "1000").most == 4


ANSWERS = ["fim ab", "Gampist", "a", "10", "aé", "Straße", "tel", "\\text{ab} c"]
# What folds to a letter, or to several; spaces; LaTeX that a box may have between its letters.
SAME = {
    "f": "fF\uff46",
    "i": "iI\u2148",
    "fi": "\ufb01",
    "ss": "ß",
    "tel": "\u2121",
    " ": " \u3000",
}
NOISE = ["\\,", "$", "\\!", "\\left", "{\\text{", "}"]
AFTER = ["", "s", "-like", "ly", "\uc73c", "\ub85c", ".", "\u0301", " in it", "} ", "\\boxed{x}"]


@st.composite
def tokens_of_a_text(draw):
    """A mode, an answer, and a text that may give it, cut into tokens at any bytes."""
    mode = draw(st.sampled_from(["contains", "boxed", "boxed_or_last_number"]))
    answer, is_boxed = draw(st.sampled_from(ANSWERS)), mode != "contains"
    text = answer
    for plain in draw(st.lists(st.sampled_from(sorted(SAME)), max_size=3)):
        text = text.replace(plain, draw(st.sampled_from(SAME[plain])))
    if is_boxed:
        text = text.replace(" ", draw(st.sampled_from([" ", "~", "\\ ", " $ "])))
        for noise in draw(st.lists(st.sampled_from(NOISE), max_size=2)):
            at = draw(st.integers(0, len(text)))
            text = text[:at] + noise + text[at:]
        wrapped = draw(st.sampled_from(["{}", "\\text{{{}}}", " {}.", "${}$"])).format(text)
        text = f"\\boxed{{{wrapped}}}"
    before = draw(st.sampled_from(["", "It is ", "non-", "\\boxed{x} or ", "\\box", "Ga "]))
    data = (before + text + "".join(draw(st.lists(st.sampled_from(AFTER), max_size=3)))).encode()
    cuts = sorted(draw(st.sets(st.integers(1, max(1, len(data) - 1)), max_size=8)))
    tokens = [data[i:j] for i, j in zip([0, *cuts], [*cuts, len(data)], strict=True) if i < j]
    return mode, answer, tokens


def decode(tokens):
    return b"".join(tokens).decode(errors="replace")


@settings(deadline=None, max_examples=500)
@given(tokens_of_a_text())
def test_no_text_that_would_be_accepted_is_settled_before_its_end(case):
    mode, answer, tokens = case
    if not accepts(mode, decode(tokens), answer):
        return
    # No vocabulary writes it in fewer tokens than one that has just these.
    limits = TokenBudget(mode, [answer], TokenPieces(decode([token]) for token in tokens))
    for at in range(len(tokens) + 1):
        assert not limits.settled(decode(tokens[:at]), len(tokens) - at + 1)
