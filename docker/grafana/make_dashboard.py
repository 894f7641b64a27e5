"""Writes dashboards/service.json, the dashboard of the service's metrics.

Run ``python docker/grafana/make_dashboard.py`` after a change. The builders of Grafana's
foundation SDK refuse fields that Grafana does not know.
"""

from pathlib import Path

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
from grafana_foundation_sdk.models.common import BigValueTextMode, LegendDisplayMode
from grafana_foundation_sdk.models.dashboard import DataSourceRef, Panel
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

PATH = Path(__file__).with_name("dashboards") / "service.json"

_SOURCE = DataSourceRef(type_val="prometheus", uid="prometheus")
_RATE = "[$__rate_interval]"
_PROBES = 'route!~"/health|/metrics|/v2/health/.*|/v2/models/.*/ready"'
"""Leaves out the requests of probes and of Prometheus, which would outnumber those of clients."""


def query(expression: str, legend: str = "", *, instant: bool = False) -> prometheus.Dataquery:
    """Make a query of Prometheus."""
    made = prometheus.Dataquery().expr(expression).legend_format(legend)
    return made.instant() if instant else made


def number(title: str, expression: str, unit: str = "short", about: str = "") -> stat.Panel:
    """Make a panel with one number."""
    panel = stat.Panel().title(title).datasource(_SOURCE).unit(unit).height(4).span(4)
    return panel.with_target(query(expression, instant=True)).description(about)


def curves(
    title: str, unit: str, *queries: prometheus.Dataquery, about: str = ""
) -> Builder[Panel]:
    """Make a panel with curves over time."""
    panel = timeseries.Panel().title(title).datasource(_SOURCE).unit(unit).height(8).span(12)
    panel = panel.min(0).description(about)
    legend = common.VizLegendOptions().display_mode(LegendDisplayMode.LIST).show_legend(True)
    for target in queries:
        panel = panel.with_target(target)
    return panel.legend(legend)


def quantile(fraction: float) -> prometheus.Dataquery:
    """Make the query of a quantile of the time of an answer."""
    buckets = f"sum by (le) (rate(eurosat_request_seconds_bucket{{{_PROBES}}}{_RATE}))"
    return query(f"histogram_quantile({fraction}, {buckets})", f"{fraction:.0%}")


def confidence() -> Builder[Panel]:
    """Make a heat map of the probabilities of the predicted classes."""
    target = query(f"sum by (le) (increase(eurosat_confidence_bucket{_RATE}))", "{{le}}")
    panel = heatmap.Panel().title("Probability of the predicted class").datasource(_SOURCE)
    return panel.height(8).span(12).with_target(target.format(PromQueryFormat.HEATMAP))


def service_dashboard() -> dashboard.Dashboard:
    """Make the dashboard."""
    errors = f'sum(rate(eurosat_requests_total{{status=~"5..",{_PROBES}}}{_RATE}))'
    total = f"sum(rate(eurosat_requests_total{{{_PROBES}}}{_RATE}))"
    images = f"sum(rate(eurosat_batch_size_sum{_RATE}))"
    calls = f"sum(rate(eurosat_batch_size_count{_RATE}))"
    board = (
        dashboard.Dashboard("eurosat: service")
        .uid("eurosat-service")
        .tags(["eurosat"])
        .refresh("15s")
        .time("now-1h", "now")
        .timezone("browser")
        .readonly()
    )
    model = stat.Panel().title("Model").datasource(_SOURCE).height(4).span(8)
    panels: list[Builder[Panel]] = [
        model.with_target(
            query("eurosat_model_info", "{{version}} ({{format}})", instant=True)
        ).text_mode(BigValueTextMode.NAME),
        number("Requests", total, "reqps", "Without probes and scrapes."),
        number(
            "Errors",
            f"({errors} or vector(0)) / {total}",  # there is no series before the first error
            "percentunit",
            "Fraction of answers with status 5xx.",
        ),
        number("In flight", "sum(eurosat_requests_in_flight)"),
        number(
            "Worker exits", "sum(increase(eurosat_worker_exits_total[1h]))", about="In an hour."
        ),
        curves(
            "Requests by status",
            "reqps",
            query(
                f"sum by (status) (rate(eurosat_requests_total{{{_PROBES}}}{_RATE}))", "{{status}}"
            ),
        ),
        curves(
            "Time of an answer",
            "s",
            *(quantile(fraction) for fraction in (0.5, 0.95, 0.99)),
            about="From a request's first byte to its answer.",
        ),
        curves(
            "Predictions by class",
            "short",
            query(f"sum by (label) (rate(eurosat_predictions_total{_RATE}))", "{{label}}"),
            about="Classified images per second.",
        ),
        confidence(),
        curves(
            "Images in one call of the model",
            "short",
            query(f"{images} / {calls}", "mean"),
        ),
        curves(
            "Images that could not be read",
            "short",
            query(f"sum(rate(eurosat_images_rejected_total{_RATE}))", "rejected"),
            about="Images per second.",
        ),
    ]
    for panel in panels:
        board = board.with_panel(panel)
    return board


def render() -> str:
    """Render the dashboard as JSON."""
    return JSONEncoder(sort_keys=True, indent=2).encode(service_dashboard().build()) + "\n"


if __name__ == "__main__":
    PATH.write_text(render(), "utf-8", newline="\n")
