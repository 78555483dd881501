"""YAML from users: what a configuration cannot mean is refused with the line."""

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from common.config.yaml_file import parse, read
from common.errors import UserError


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3", "line 3: key 'a' is in line 1 already"),
        ("a: {b: 1,\n  b: 2}", "line 2: key 'b' is in line 1 already"),
        ("a: 1\n? !!str a\n: 2", "line 2: key 'a' is in line 1 already"),
        ("a: 1\nb: .inf", "line 2: .inf is not a finite number"),
        ("a: -.INF", "line 1: -.INF is not a finite number"),
        ("a: .nan", "line 1: .nan is not a finite number"),
        ("a: 1.0e+999", r"line 1: 1.0e\+999 is not a finite number"),
        ("a: " + "9" * 5000, "line 1: an integer of over 70 digits"),
        ("a: 0x" + "f" * 5000, "line 1: an integer of over 70 digits"),
        ("a: 190" + ":59" * 5000, "line 1: an integer of over 70 digits"),
        ('a: "\\ud800"', "surrogates not allowed"),
        ('a: "x\\0y"', "a NUL character in a value"),
        ("a: &x 1\nb: *x", r"aliases \(\*name\) are not supported"),
        ("a: !!python/object:os.system x", "line 1: could not determine a constructor"),
        ("a: [", "line 1: expected"),
        ("[" * 90_000, "more than 40 levels"),
        ("- " * 90_000, "more than 40 levels"),
    ],
)
def test_a_text_is_refused_with_line_and_reason(text, message):
    with pytest.raises(UserError, match=f"^here: not YAML: .*{message}"):
        parse(text, "here")


def test_names_may_return_in_another_section():
    assert parse("a: {x: 1}\nb: {x: 2}", "here") == {"a": {"x": 1}, "b": {"x": 2}}


def test_a_large_number_of_64_bits_is_read_in_every_notation():
    text = f"[{2**64 - 1}, {2**64 - 1:#x}, 0b{2**64 - 1:b}]"
    assert parse(text, "here") == [2**64 - 1] * 3


def test_a_file_is_refused_where_it_is_no_file(tmp_path):
    with pytest.raises(UserError, match=r"cannot be read \(a folder, not a file\)"):
        read(tmp_path)
    (tmp_path / "zero").symlink_to("/dev/zero")
    with pytest.raises(UserError, match="a device or a pipe"):
        read(tmp_path / "zero")


def texts(value):
    """All texts in a value, keys included."""
    if isinstance(value, str):
        return [value]
    inner = [*value, *value.values()] if isinstance(value, dict) else value
    return [text for one in inner for text in texts(one)] if isinstance(inner, list) else []


@settings(deadline=None)
@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**64), 2**64)
        | st.text()
        | st.floats(allow_nan=False, allow_infinity=False),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=8,
    )
)
def test_what_yaml_writes_is_read_the_same_or_refused(value):
    class Plain(yaml.SafeDumper):
        def ignore_aliases(self, data):
            return True

    text = yaml.dump(value, Dumper=Plain, allow_unicode=True)
    if any("\0" in text for text in texts(value)):
        with pytest.raises(UserError, match="NUL"):
            parse(text, "here")
    else:
        assert parse(text, "here") == yaml.safe_load(text)
