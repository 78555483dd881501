"""A small WSGI application: ``/metrics`` for Prometheus, the status page for people.

The page and its data are served only to this machine, whatever the address that
metrics are served on. A caller from elsewhere, or a web page of another host name
that a local browser opened, gets the metrics or nothing.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.rundir import finite

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

_FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
}
_HEADERS = [
    (
        "Content-Security-Policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src data:; frame-ancestors 'none'",
    ),
    ("X-Content-Type-Options", "nosniff"),
    ("Cache-Control", "no-store"),
]


class StatusPage:
    """The application.

    Args:
        status: the status with its scores, as JSON.
        points: the run's history (:class:`deploy.observability.history.History`).
        metrics: the application behind ``/metrics``.
    """

    def __init__(
        self,
        status: Callable[[], Mapping[str, object]],
        points: Callable[[], list[dict[str, float]]],
        metrics: WSGIApplication,
    ) -> None:
        self._data: dict[str, Callable[[], Any]] = {"/status.json": status, "/history.json": points}
        self._metrics = metrics

    def __call__(self, environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        path = environ["PATH_INFO"] or "/"
        if path == "/metrics":
            return self._metrics(environ, start)
        if not _is_local(environ):
            return _reply(start, "403 Forbidden", "text/plain", b"for this machine only\n")
        if path in self._data:
            body = json.dumps(finite(self._data[path]()), allow_nan=False).encode()
            return _reply(start, "200 OK", "application/json", body)
        if path in _FILES:
            name, kind = _FILES[path]
            return _reply(start, "200 OK", kind, (Path(__file__).parent / name).read_bytes())
        return _reply(start, "404 Not Found", "text/plain", b"there is /, /status.json, /metrics\n")


def _reply(start: StartResponse, status: str, kind: str, body: bytes) -> list[bytes]:
    start(status, [("Content-Type", kind), ("Content-Length", str(len(body))), *_HEADERS])
    return [body]


def _is_local(environ: WSGIEnvironment) -> bool:
    host = environ.get("HTTP_HOST", "").rpartition(":")[0] or environ.get("HTTP_HOST", "")
    if host not in ("127.0.0.1", "localhost", "[::1]"):
        return False
    address = ipaddress.ip_address(environ["REMOTE_ADDR"])
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback
