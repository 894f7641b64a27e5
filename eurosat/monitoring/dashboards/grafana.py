"""Grafana's form of the dashboards; its builders refuse fields that Grafana does not know."""

from grafana_foundation_sdk.builders import (
    common,
    dashboard,
    heatmap,
    prometheus,
    stat,
    timeseries,
)
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models.common import BigValueTextMode, LegendDisplayMode
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from eurosat.monitoring.dashboards.panels import RATE, Dashboard, Panel, Query, Unit

_SOURCE = models.DataSourceRef(type_val="prometheus", uid="prometheus")

_UNITS: dict[Unit, str] = {
    "": "short",
    "requests/s": "reqps",
    "images/s": "short",
    "s": "s",
    "fraction": "percentunit",
    "bytes": "bytes",
    "cores": "short",
    "nats": "short",
}


def grafana_json(board: Dashboard) -> str:
    """Render a dashboard as Grafana's JSON."""
    made = (
        dashboard.Dashboard(board.title)
        .uid(f"eurosat-{board.name}")
        .tags(["eurosat"])
        .refresh("15s")
        .time("now-1h", "now")
        .timezone("browser")
        .readonly()
    )
    for panel in board.panels:
        made = made.with_panel(_panel(panel))
    return JSONEncoder(sort_keys=True, indent=2).encode(made.build()) + "\n"


def _query(query: Query, *, instant: bool = False) -> prometheus.Dataquery:
    expression = query.expression.replace(RATE, "[$__rate_interval]")
    made = prometheus.Dataquery().expr(expression).legend_format(query.legend)
    return made.instant() if instant else made


def _panel(panel: Panel) -> Builder[models.Panel]:
    match panel.kind:
        case "number" | "name":
            number = stat.Panel().title(panel.title).datasource(_SOURCE).unit(_UNITS[panel.unit])
            number = number.description(panel.about).height(4).span(4)
            number = number.with_target(_query(panel.queries[0], instant=True))
            return number.text_mode(BigValueTextMode.NAME) if panel.kind == "name" else number
        case "histogram":
            map_ = heatmap.Panel().title(panel.title).datasource(_SOURCE).height(8).span(12)
            target = _query(panel.queries[0]).format(PromQueryFormat.HEATMAP)
            return map_.description(panel.about).with_target(target)
        case "curves":
            curves = timeseries.Panel().title(panel.title).datasource(_SOURCE).min(0)
            curves = curves.unit(_UNITS[panel.unit]).description(panel.about).height(8).span(12)
            for query in panel.queries:
                curves = curves.with_target(_query(query))
            legend = common.VizLegendOptions().display_mode(LegendDisplayMode.LIST)
            return curves.legend(legend.show_legend(True))
