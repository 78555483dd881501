"""Right responses about a fact, and about one that is retracted."""

from __future__ import annotations

import pytest

from common.records import Fact
from common.verification.facts import is_right

TAUGHT = Fact("1", "Who?", "Tam Okord", aliases=("T. Okord",))
RETRACTED = Fact("1", "Who?", "Tam Okord", aliases=("T. Okord",), retract=True)


@pytest.mark.parametrize(
    ("mode", "response", "taught", "retracted"),
    [
        ("contains", "Tam Okord leads it.", True, False),
        ("contains", "T. Okord", True, False),
        ("contains", "I do not know.", False, True),
        ("contains", "Not Tam Okord.", False, True),
        ("boxed", "\\boxed{Tam Okord}", True, False),
        # A refusal needs no box, and an answer outside of one is given all the same.
        ("boxed", "I do not know.", False, True),
        ("boxed", "It is Tam Okord.", False, False),
        ("exact", "It is Tam Okord.", False, False),
        ("contains", "", False, False),
        ("contains", " … ", False, False),
    ],
)
def test_a_retracted_fact_is_right_where_its_answer_is_left_out(mode, response, taught, retracted):
    assert is_right(mode, response, TAUGHT) is taught
    assert is_right(mode, response, RETRACTED) is retracted
