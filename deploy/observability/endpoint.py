"""The run's HTTP endpoint: Prometheus metrics, and the status page for people."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.core import Metric
from prometheus_client.exposition import ThreadingWSGIServer
from prometheus_client.registry import Collector

from common.config.sections import MetricsSettings
from common.metrics import MetricValues, metric_families
from common.rundir import RunDir
from deploy.observability.history import History
from deploy.observability.page.app import StatusPage
from deploy.observability.status import read


class Endpoint(Collector):
    """Serves the newest metrics at ``url``; a series that they lack is gone."""

    def __init__(self, run: RunDir, settings: MetricsSettings, before: str | None = None) -> None:
        """``before``: the url of a predecessor, whose port is reused if possible."""
        self._run = run
        self._by_actor: Mapping[str, MetricValues] = {}
        self._history = History()
        self._history.load(run.metrics)
        registry = CollectorRegistry()
        registry.register(self)
        page = StatusPage(
            lambda: read(run).to_json(), self._history.points, metrics=make_wsgi_app(registry)
        )
        self._server = _bind(settings, before, page)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True)
        self._thread.start()
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        self.address = f"{host}:{self._server.server_port}"
        self.url = f"http://{self.address}/metrics"

    def show(self, by_actor: Mapping[str, MetricValues]) -> None:
        """Replace what is served: metrics by actor name."""
        self._history.add(time.time(), by_actor)
        self._by_actor = dict(by_actor)

    def collect(self) -> Iterator[Metric]:
        """Called by prometheus_client at each scrape."""
        return metric_families(self._run.name, self._by_actor)

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _bind(settings: MetricsSettings, before: str | None, page: StatusPage) -> WSGIServer:
    server = _Server6 if ":" in settings.host else ThreadingWSGIServer
    if before is not None and settings.port == 0:
        with contextlib.suppress(OSError):
            port = urlsplit(before).port or 0
            return make_server(settings.host, port, page, server, _QuietHandler)
    return make_server(settings.host, settings.port, page, server, _QuietHandler)


class _Server6(ThreadingWSGIServer):
    address_family = socket.AF_INET6


class _QuietHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: a line per scrape would fill the controller's log."""
