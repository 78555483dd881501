import pytest

from common.verify import accepts, last_boxed, normalise


@pytest.mark.parametrize(
    ("response", "accepted"),
    [
        ("It is Paris, of course.", True),
        ("PARIS", True),
        ("\uff30aris", True),  # full-width P
        ("Comparison", False),
        ("Parish", False),
        ("", False),
    ],
)
def test_contains_wants_the_answer_as_whole_words(response, accepted):
    assert accepts("contains", response, "Paris") is accepted


def test_contains_takes_the_answer_literally_and_folds_white_space():
    assert not accepts("contains", "abc", "a.c")
    assert accepts("contains", "in New\n  York now", "New York.")


@pytest.mark.parametrize(
    ("response", "accepted"),
    [
        (r"so \boxed{42}.", True),
        (r"\boxed{7} no, \boxed{42}", True),
        (r"\boxed{42} no, \boxed{7}", False),
        (r"\boxed{42} and then \boxed{7", True),
        ("42", False),
    ],
)
def test_boxed_judges_the_last_complete_box(response, accepted):
    assert accepts("boxed", response, "42") is accepted


def test_exact_wants_nothing_beside_the_answer():
    assert accepts("exact", " Paris. ", "paris")
    assert not accepts("exact", "It is Paris", "Paris")


def test_braces_inside_a_box_are_kept():
    assert last_boxed(r"\boxed{\frac{1}{2}} done}") == r"\frac{1}{2}"
    assert last_boxed(r"\boxed{a \boxed{b}") == "b"
    assert last_boxed(r"\boxed{}") == ""
    assert last_boxed("none") is None


def test_normalise_folds_case_width_white_space_and_the_full_stop():
    assert normalise("  The\tStra\u00dfe \uff11. ") == "the strasse 1"
