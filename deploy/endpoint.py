"""The run's one Prometheus endpoint."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from common.config import MetricsSettings
from common.metrics import Snapshot, families


class Endpoint(Collector):
    """Serves the newest snapshots at ``url``; a series that is not shown again is gone."""

    def __init__(self, run: str, settings: MetricsSettings, before: str | None) -> None:
        """``before``: the url of a predecessor, whose port is taken again if it can be."""
        self._run = run
        self._snapshots: Mapping[str, Snapshot] = {}
        registry = CollectorRegistry()
        registry.register(self)
        ports = [settings.port]
        if before is not None and settings.port == 0:
            ports.insert(0, urlsplit(before).port or 0)
        for port in ports:
            try:
                self._server, self._thread = start_http_server(port, settings.host, registry)
                break
            except OSError:
                if port == settings.port:
                    raise
        self.url = f"http://{settings.host}:{self._server.server_port}/metrics"

    def show(self, snapshots: Mapping[str, Snapshot]) -> None:
        """Replace what is served: metrics by actor name."""
        self._snapshots = dict(snapshots)

    def collect(self) -> Iterator[Metric]:
        """Called by prometheus_client at each scrape."""
        return families(self._run, self._snapshots)

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._thread.join()
