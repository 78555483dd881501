import errno

import pytest

from common.errors import is_disk_full


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "nothing to say"),
        RuntimeError("I/O error: No space left on device (os error 28)"),
        RuntimeError("ledger: database or disk is full; nothing was changed"),
    ],
)
def test_a_full_disk_is_known_by_its_number_or_by_what_libraries_say(error):
    wrapped = ValueError("could not be written")
    wrapped.__cause__ = error
    assert is_disk_full(error)
    assert is_disk_full(wrapped)


def test_other_errors_are_not_a_full_disk():
    assert not is_disk_full(OSError(errno.EACCES, "denied"))
    assert not is_disk_full(None)
