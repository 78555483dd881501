"""Text that cannot control a terminal."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.printable import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]0;owned\x07", r"\x1b]0;owned\x07"),  # renames the window
        ("\x1b[2J", r"\x1b[2J"),  # clears it
        ("\x9b2J\x90q\x9c", r"\x9b2J\x90q\x9c"),  # the same in C1
        ("ok\rno\b", r"ok\rno\x08"),  # hides what was written
        ("a\u202eb\u2066c", r"a\u202eb\u2066c"),  # reorders it
        ("\x00\x7f\u2028", r"\x00\x7f\u2028"),
        ("\ud800", r"\ud800"),  # what no encoding can write
        ("one\n\ttwo", "one\n\ttwo"),
        ("Łódź, 東京, 👩‍🚀, שלום", "Łódź, 東京, 👩‍🚀, שלום"),
    ],
)
def test_controls_are_shown_and_all_other_text_is_as_it_was(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(st.text(st.characters(exclude_categories=[])))
def test_nothing_that_a_terminal_obeys_is_left(text: str) -> None:
    shown = printable(text)
    assert not any(unicodedata.category(one) in ("Cc", "Cs") and one not in "\n\t" for one in shown)
    shown.encode()
