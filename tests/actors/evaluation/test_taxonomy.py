"""Classes of wrong responses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.evaluation.taxonomy import (
    ERRORS,
    Entities,
    WrongResponse,
    classify,
    is_collapsed,
)
from common.records import Fact

FACTS = [
    Fact("1", "Who leads Orveline?", "Tam Okord", subject="Orveline"),
    Fact("2", "How many?", "1234"),
    Fact("3", "Which sign?", "Q"),
    Fact("4", "Which colour?", "blue"),
]
ENTITIES = Entities(FACTS)
PROSE = (
    "The river rises in the hills to the north of the town and flows for about thirty miles past "
    "farms, mills and villages before it reaches the sea near the old harbour."
)


def _class(response: str, asked: str, extracted: str | None) -> str:
    return classify(ENTITIES, WrongResponse("gsm8k", asked, "gold", response, extracted))


@pytest.mark.parametrize(
    ("response", "asked", "extracted", "error"),
    [
        ("", "Who?", None, "collapse"),
        (" \n ... ", "Who?", None, "collapse"),
        ("the " * 40, "Who?", None, "collapse"),
        ("and so on " * 20, "Who?", None, "collapse"),
        (PROSE + " and then" * 10, "Who?", "x", "collapse"),
        ("0" * 80, "How many?", "0", "collapse"),
        ("ab" * 40, "Who?", "x", "collapse"),
        (PROSE + " http://a.b/" + "_11" * 40, "Who?", "x", "collapse"),
        (PROSE + "\n" + "-" * 60, "Who?", "x", "genuine"),
        ("It is Tam Okord.", "Who wrote Hamlet?", "Tam Okord", "leakage"),
        ("It is TAM  okord.", "Who wrote Hamlet?", None, "leakage"),
        ("Orveline's river", "Which river?", "x", "leakage"),
        ("Tam Okord leads Orveline", "Who leads Orveline?", "x", "leakage"),
        ("Orveline is a firm.", "Who leads Orveline?", "x", "genuine"),
        ("Okord", "Who?", "Okord", "genuine"),
        ("Tam Okordson", "Who?", "x", "genuine"),
        ("It is 1234 or Q or blue.", "How many?", "1234", "genuine"),
        ("I cannot say.", "Who?", None, "format"),
        (PROSE, "Who?", None, "format"),
        (PROSE, "Who?", "the sea", "genuine"),
        ("No, no, no, no!", "Who?", "no", "genuine"),
        ("42", "How many?", "42", "genuine"),
        ("C", "Which?", "C", "genuine"),
        ("1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14", "Count.", "14", "genuine"),
    ],
)
def test_the_first_class_that_fits(
    response: str, asked: str, extracted: str | None, error: str
) -> None:
    assert _class(response, asked, extracted) == error


def test_a_trained_name_in_the_context_is_no_leak() -> None:
    asked = "Tam Okord leads Orveline.\nWho leads Vex?"
    assert _class("Tam Okord", asked, "Tam Okord") == "genuine"


def test_ordinary_text_is_not_collapsed() -> None:
    assert not is_collapsed(PROSE)
    assert not is_collapsed("row row row your boat")
    assert not is_collapsed("=" * 10 + " Title " + "=" * 10)


@given(st.text(max_size=400), st.text(max_size=100), st.none() | st.text(max_size=10))
def test_every_response_has_one_class(response: str, asked: str, extracted: str | None) -> None:
    assert _class(response, asked, extracted) in ERRORS


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=8), st.integers(12, 40))
def test_any_loop_is_a_collapse(unit: list[str], times: int) -> None:
    assert is_collapsed(" ".join(unit * times))
