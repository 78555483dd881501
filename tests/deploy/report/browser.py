"""Pages in a headless browser, from a server that logs nothing."""

from __future__ import annotations

import contextlib
import functools
import http.server
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

CHROMIUM = shutil.which("chromium")


@contextlib.contextmanager
def served(folder: Path) -> Iterator[int]:
    """The port of a server of the files in ``folder``."""
    handler = functools.partial(_Quiet, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        pass

    def send_error(self, code: int, *arguments: object, **named: object) -> None:
        # Browsers request an icon that no page names.
        super().send_response(204 if self.path == "/favicon.ico" else code)
        super().end_headers()


def browse(port: int, path: str, profile: Path, *options: str) -> tuple[str, str]:
    """What the browser prints about a page, and its messages."""
    assert CHROMIUM is not None
    command = [
        *(CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic"),
        *("--no-first-run", "--disable-background-networking", "--disable-component-update"),
        *("--disable-sync", "--enable-logging=stderr", "--virtual-time-budget=3000"),
        *(f"--user-data-dir={profile / 'browser'}", *options, f"http://127.0.0.1:{port}/{path}"),
    ]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return result.stdout, result.stderr
