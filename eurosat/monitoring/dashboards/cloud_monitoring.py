"""Cloud Monitoring's form of the dashboards (API monitoring.googleapis.com, v1).

Google's sidecar sends the metrics to Managed Service for Prometheus, which takes the same queries.
"""

import json
from typing import Any

from eurosat.monitoring.dashboards.panels import RATE, Dashboard, Panel, Query, Unit

_COLUMNS = 48
"""Columns of a mosaic layout."""

_UNITS: dict[Unit, str] = {
    "": "1",
    "requests/s": "1/s",
    "images/s": "1/s",
    "s": "s",
    "fraction": "10^2.%",
    "bytes": "By",
    "cores": "1",
    "nats": "1",
}
"""Units of the API (UCUM)."""


def cloud_monitoring_json(board: Dashboard) -> str:
    """Render a dashboard for ``gcloud monitoring dashboards create --config-from-file``."""
    tiles, x, y, row = [], 0, 0, 0
    for panel in board.panels:
        width, height = (8, 8) if panel.kind in ("number", "name") else (24, 16)
        if x + width > _COLUMNS:
            x, y = 0, y + row
        tiles.append(
            {"xPos": x, "yPos": y, "width": width, "height": height, "widget": _widget(panel)}
        )
        x, row = x + width, height
    content = {
        "displayName": board.title,
        "labels": {"eurosat": ""},
        "mosaicLayout": {"columns": _COLUMNS, "tiles": tiles},
    }
    return json.dumps(content, indent=2) + "\n"


def _widget(panel: Panel) -> dict[str, Any]:
    content: dict[str, Any]
    match panel.kind:
        case "number":
            content = {"scorecard": {"timeSeriesQuery": _query(panel.queries[0], panel.unit)}}
        case "name":
            content = {
                "timeSeriesTable": {"dataSets": [_data(panel, query) for query in panel.queries]}
            }
        case "curves":
            content = _chart(panel, "LINE")
        case "histogram":
            content = _chart(panel, "STACKED_BAR")
    return {"title": panel.title, **content}


def _chart(panel: Panel, plot: str) -> dict[str, Any]:
    sets = [
        _data(panel, query)
        | {"plotType": plot, "targetAxis": "Y1", "legendTemplate": _legend(query)}
        for query in panel.queries
    ]
    return {"xyChart": {"dataSets": sets, "yAxis": {"scale": "LINEAR"}}}


def _data(panel: Panel, query: Query) -> dict[str, Any]:
    return {"timeSeriesQuery": _query(query, panel.unit)}


def _query(query: Query, unit: Unit) -> dict[str, str]:
    return {
        "prometheusQuery": query.expression.replace(RATE, "[${__interval}]"),
        "unitOverride": _UNITS[unit],
    }


def _legend(query: Query) -> str:
    """Write a label as ``${metric.labels.NAME}`` instead of ``{{NAME}}``."""
    return query.legend.replace("{{", "${metric.labels.").replace("}}", "}")
