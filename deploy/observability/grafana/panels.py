"""Turns ``boards`` into Grafana's JSON: ``python -m deploy.observability.grafana.panels FOLDER``.

Needs grafana-foundation-sdk, which only this module imports. Its output is committed,
and a test compares the two.
"""

from __future__ import annotations

import sys
from pathlib import Path

from grafana_foundation_sdk.builders import dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.builders.common import (
    ReduceDataOptions,
    VizLegendOptions,
    VizTooltipOptions,
)
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import BigValueTextMode, TooltipDisplayMode
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    DataSourceRef,
    VariableOption,
    VariableRefresh,
)

from deploy.observability.grafana.boards import BOARDS, Board, Panel

_SOURCE = DataSourceRef(type_val="prometheus", uid="$datasource")
_WIDTH, _STAT_WIDTH = 12, 6
_HEIGHT, _STAT_HEIGHT = 8, 4
_ACTOR_URL = (
    "/d/mixsd-actors?var-run=${__field.labels.run}&var-actor=${__field.labels.actor}"
    "&${__url_time_range}"
)
# Events, as vertical lines in every panel: name -> (query, title, color).
_EVENTS = {
    "Restarts": (
        'changes(mixsd_actor_restarts_total{run=~"$run"}[1m]) > 0',
        "{{run}}: {{actor}} restarted",
        "red",
    ),
    "Checkpoints": (
        'changes(mixsd_replay_committed_step{run=~"$run"}[1m]) > 0',
        "{{run}}: checkpoint",
        "green",
    ),
    "Scale": (
        'changes(run_role:mixsd_actors:up{run=~"$run"}[1m]) > 0',
        "{{run}}: {{role}} scaled",
        "blue",
    ),
}


def render(board: Board) -> str:
    """The dashboard's JSON."""
    built = (
        dashboard.Dashboard(board.title)
        .uid(board.uid)
        .tags(["mixsd"])
        .refresh("10s")
        .time("now-1h", "now")
        .timezone("browser")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .readonly()
        .link(
            dashboard.DashboardLink("MixSD")
            .type(DashboardLinkType.DASHBOARDS)
            .tags(["mixsd"])
            .keep_time(True)
            .include_vars(True)
        )
        .with_variable(dashboard.DatasourceVariable("datasource").type("prometheus"))
        .with_variable(_variable("run", "label_values(mixsd_actor_up, run)"))
        .with_variable(_variable("actor", 'label_values(mixsd_actor_up{run=~"$run"}, actor)'))
    )
    for name, (query, title, colour) in _EVENTS.items():
        built.annotation(
            dashboard.AnnotationQuery()
            .name(name)
            .datasource(_SOURCE)
            .enable(True)
            .expr(query)
            .title_format(title)
            .icon_color(colour)
        )
    for panel in board.panels:
        built.with_panel(_stat(panel) if panel.stat else _plot(panel))
    return JSONEncoder(sort_keys=True, indent=1).encode(built.build()) + "\n"


def _variable(name: str, query: str) -> dashboard.QueryVariable:
    return (
        dashboard.QueryVariable(name)
        .datasource(_SOURCE)
        .query(query)
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(VariableOption(text="All", value="$__all"))
    )


def _queries(panel: Panel) -> list[prometheus.Dataquery]:
    return [
        prometheus.Dataquery()
        .datasource(_SOURCE)
        .expr(expression)
        .legend_format(legend)
        .ref_id(chr(ord("A") + index))
        for index, (expression, legend) in enumerate(panel.queries)
    ]


def _plot(panel: Panel) -> timeseries.Panel:
    built = (
        timeseries.Panel()
        .title(panel.title)
        .description(panel.description)
        .datasource(_SOURCE)
        .unit(panel.unit)
        .span(_WIDTH)
        .height(_HEIGHT)
        .legend(VizLegendOptions().show_legend(True))
        .tooltip(VizTooltipOptions().mode(TooltipDisplayMode.MULTI))
    )
    if any("{{actor}}" in legend for _, legend in panel.queries):
        built.data_links([dashboard.DashboardLink("This actor").url(_ACTOR_URL)])
    if panel.largest is not None:
        built.min(0.0).max(panel.largest)
    for query in _queries(panel):
        built.with_target(query)
    return built


def _stat(panel: Panel) -> stat.Panel:
    built = (
        stat.Panel()
        .title(panel.title)
        .datasource(_SOURCE)
        .unit(panel.unit)
        .span(_STAT_WIDTH)
        .height(_STAT_HEIGHT)
        .text_mode(BigValueTextMode.VALUE_AND_NAME)
        .reduce_options(ReduceDataOptions().calcs(["lastNotNull"]))
    )
    for query in _queries(panel):
        built.with_target(query)
    return built


def write(folder: Path) -> None:
    """Write every dashboard; files of dashboards that are gone are removed."""
    for path in folder.glob("*.json"):
        path.unlink()
    for board in BOARDS:
        (folder / f"{board.uid}.json").write_text(render(board), encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
