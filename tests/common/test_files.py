"""The door of the user's files: bytes, text and JSON."""

import gzip
import math
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common import files
from common.errors import UserError, invalid_value, shown
from common.files import parse_json, read_bytes, read_json, read_text


def refused(read, path):
    with pytest.raises(UserError) as error:
        read(path)
    message = str(error.value)
    assert message.startswith(f"{path}: ")
    return message.removeprefix(f"{path}: ")


def test_a_file_is_its_bytes_unpacked_if_its_name_says_so(tmp_path):
    (tmp_path / "a").write_bytes(b"\x00\xff")
    (tmp_path / "a.gz").write_bytes(gzip.compress(b"one") + gzip.compress(b"two"))
    assert read_bytes(tmp_path / "a") == b"\x00\xff"
    assert read_bytes(tmp_path / "a.gz") == b"onetwo"


def test_what_is_no_file_is_refused_without_waiting_for_its_end(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert refused(read_bytes, tmp_path / "none") == (
        "cannot be read (No such file or directory); check the path"
    )
    assert refused(read_bytes, tmp_path) == "cannot be read (a folder, not a file)"
    for endless in (tmp_path / "pipe", "/dev/zero"):
        path = tmp_path / "link"
        path.symlink_to(endless)
        assert refused(read_bytes, path) == "cannot be read (a device or a pipe, not a file)"
        path.unlink()


@pytest.mark.parametrize("name", ["a\0b", "x" * 5000, "file/below"])
def test_a_path_that_cannot_be_is_refused(tmp_path, name):
    (tmp_path / "file").write_text("")
    assert refused(read_bytes, tmp_path / name).startswith("cannot be read (")


def test_a_file_that_may_not_be_read_is_refused(tmp_path, monkeypatch):
    def denied(*arguments, **options):
        raise PermissionError(13, "Permission denied")

    (tmp_path / "a").write_text("x")
    monkeypatch.setattr("pathlib.Path.open", denied)
    assert refused(read_bytes, tmp_path / "a") == "cannot be read (Permission denied)"


@pytest.mark.parametrize("cut", range(1, 40))
def test_a_gzip_file_that_is_cut_anywhere_is_refused(tmp_path, cut):
    packed = gzip.compress(os.urandom(30), mtime=0)
    (tmp_path / "a.gz").write_bytes(packed[:cut])
    assert refused(read_bytes, tmp_path / "a.gz").startswith("cannot be read (")


def test_any_changed_byte_of_a_gzip_file_is_noticed_or_harmless(tmp_path):
    content = b'{"question": "q", "answer": "a"}\n' * 3
    packed, path, found = gzip.compress(content, mtime=0), tmp_path / "a.gz", set()
    for place in range(len(packed)):
        path.write_bytes(packed[:place] + bytes([packed[place] ^ 0x55]) + packed[place + 1 :])
        try:
            found.add(read_bytes(path))
        except UserError as error:
            found.add(str(error).removeprefix(f"{path}: ")[:14])
    assert found == {content, "cannot be read"}


def test_content_over_the_bound_is_refused_however_small_it_is_packed(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "MAX_BYTES", 1000)
    (tmp_path / "a.gz").write_bytes(gzip.compress(bytes(10**6)))
    assert len((tmp_path / "a.gz").read_bytes()) < 2000
    message = "over 1000 bytes of content, too large; split or shorten it"
    assert refused(read_bytes, tmp_path / "a.gz") == message
    (tmp_path / "b").write_bytes(bytes(1000))
    assert len(read_bytes(tmp_path / "b")) == 1000


def test_text_is_utf_8_with_or_without_a_byte_order_mark(tmp_path):
    path = tmp_path / "a"
    for bom in (b"", b"\xef\xbb\xbf"):
        path.write_bytes(bom + "a\r\né\n".encode())
        assert read_text(path) == "a\r\né\n"
    path.write_bytes(b"ab\xff")
    assert refused(read_text, path) == "not UTF-8 text (byte 2); save it in that encoding"
    path.write_text("abc", encoding="utf-16")
    assert "not UTF-8 text (byte 0)" in refused(read_text, path)
    path.write_text("a\nb", encoding="utf-16-le")
    assert refused(read_text, path).startswith("not text (line 1 has a NUL character)")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "EOF while parsing"),
        ("NaN", "expected value"),
        ("[-Infinity]", "invalid number"),
        ('"\\ud800"', "hex escape"),
        ('"\\udfff\\ud800"', "surrogate"),
        ('{"a": 1, "\\u0061": 2}', 'duplicate key "a"'),
        ("9" * 5000, "number out of range"),
        ("[" * 100_000, "recursion limit"),
        ('{"a":' * 100_000, "recursion limit"),
        ('"a\x00"', "control character"),
        ("[1,]", "trailing comma"),
    ],
)
def test_what_is_not_json_by_the_letter_is_refused(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        parse_json(text)
    (tmp_path / "a.json").write_bytes(text.encode())
    assert refused(read_json, tmp_path / "a.json").startswith(("not JSON: ", "not text "))


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**200), 2**200)
    | st.text()
    # Of the floats only those that come back by repr.
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


@settings(deadline=None)
@given(JSON.filter(lambda value: value == value))
def test_whatever_the_standard_library_writes_is_read_the_same(value):
    import json

    for ascii_only in (True, False):
        assert parse_json(json.dumps(value, ensure_ascii=ascii_only)) == value


def test_a_text_in_a_message_is_cut_and_never_moves_the_cursor():
    assert shown("a b") == "a b"
    assert shown("a\x1b[2J\n") == "'a\\x1b[2J\\n'"
    assert shown("x" * 1000) == "x" * 200 + "…"


def test_a_wrong_value_is_named_with_its_field_and_itself():
    item = {"loc": ("a", 1), "type": "int_type", "msg": "Input should be an integer", "input": "x"}
    assert invalid_value(item) == "a.1: input should be an integer, not 'x'"
    assert invalid_value({**item, "type": "missing"}) == "'a.1' is missing"
    assert math.isfinite(len(invalid_value({**item, "input": "x" * 10**6})))
