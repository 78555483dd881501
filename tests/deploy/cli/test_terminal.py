import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios

PROGRAM = """
import sys, time
from deploy.cli.terminal import Bar, Stages
with Stages() as say:
    say("four facts")
    say("starting the engine …")
    time.sleep(0.4)
    say("engine is up")
with Bar() as bar:
    for done in range(1, 21):
        bar.show("recall", done, 20)
    bar.show("retrieval", 1, 2)
    time.sleep(0.3)
"""


def test_without_a_terminal_stages_and_tenths_are_lines_without_codes():
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    )
    assert result.stdout.splitlines() == ["four facts", "starting the engine …", "engine is up"]
    assert result.stderr.splitlines() == [
        *("recall: 1 of 20", "recall: 2 of 20", "recall: 4 of 20", "recall: 6 of 20"),
        *(f"recall: {done} of 20" for done in range(8, 21, 2)),
        "retrieval: 1 of 2",
    ]


def test_a_terminal_sees_seconds_and_counts_move_and_keeps_only_what_was_said():
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    environment = {**os.environ, "TERM": "xterm"}
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdout=theirs, stderr=theirs, env=environment
    ) as process:
        os.close(theirs)
        shown = b""
        try:
            while part := os.read(ours, 4096):
                shown += part
        except OSError:  # Linux' word for the other end being closed
            pass
        assert process.wait() == 0
    os.close(ours)
    text = shown.decode()
    assert "starting the engine" in text
    assert "0:00:0" in text
    assert "1/2" in text
    # Stages stay one under the other; the moving line was wiped before the next was said.
    before, _, after = text.partition("engine is up")
    assert before.rfind("\x1b[2K") > before.rfind("starting the engine")
    assert after
