"""The dashboards and their panels, independent of the system that shows them."""

import math
from dataclasses import dataclass
from typing import Literal

from eurosat.monitoring.alerts import ROUTES
from eurosat.monitoring.drift.families import FAMILY_ALPHA

RATE = "[RATE]"
"""Stands in expressions for the window of a rate, which each system writes in its own way."""

Unit = Literal["", "requests/s", "images/s", "s", "fraction", "bytes", "cores", "nats"]


@dataclass(frozen=True)
class Query:
    """A query in PromQL; ``legend`` names its curves, with labels in double braces."""

    expression: str
    legend: str = ""


@dataclass(frozen=True)
class Panel:
    """A panel of a dashboard.

    Attributes:
        title: The heading.
        kind: ``"number"`` is one number, ``"name"`` the legend of one series, ``"curves"`` are
            values over time, and ``"histogram"`` is a heat map of the buckets of a histogram.
        queries: What the panel shows.
        unit: Unit of the values.
        about: One sentence about the values, if the title does not say enough.
    """

    title: str
    kind: Literal["number", "name", "curves", "histogram"]
    queries: tuple[Query, ...]
    unit: Unit = ""
    about: str = ""


@dataclass(frozen=True)
class Dashboard:
    """A dashboard; ``name`` is the name of its files."""

    name: str
    title: str
    panels: tuple[Panel, ...]


def _number(title: str, expression: str, unit: Unit = "", about: str = "") -> Panel:
    return Panel(title, "number", (Query(expression),), unit, about)


def _curves(title: str, unit: Unit, *queries: tuple[str, str], about: str = "") -> Panel:
    return Panel(title, "curves", tuple(Query(*query) for query in queries), unit, about)


def _histogram(title: str, metric: str) -> Panel:
    expression = f"sum by (le) (increase({metric}_bucket{RATE}))"
    return Panel(title, "histogram", (Query(expression, "{{le}}"),))


def _rate(series: str, by: str = "") -> str:
    return f"sum{f' by ({by}) ' if by else ''}(rate({series}{RATE}))"


def _quantiles(histogram: str, labels: str = "") -> list[tuple[str, str]]:
    buckets = f"sum by (le) (rate({histogram}_bucket{labels}{RATE}))"
    return [(f"histogram_quantile({q}, {buckets})", f"{q:.0%}") for q in (0.5, 0.95, 0.99)]


# Every Prometheus client gives process metrics, so they are restricted to the service's instances.
_OURS = "and on (job, instance) eurosat_model_info"

_TOTAL = _rate(f"eurosat_requests_total{{{ROUTES}}}")
_FAILED = _rate(f'eurosat_requests_total{{{ROUTES},status=~"5.."}}')
_FLAGS = _rate("eurosat_ood_flags_total")
_IMAGES = _rate("eurosat_predictions_total")
_STAGE = "eurosat_stage_duration_seconds"

SERVICE = Dashboard(
    "service",
    "eurosat: service",
    (
        Panel("Model", "name", (Query("eurosat_model_info", "{{version}} ({{format}})"),)),
        _number("Requests", _TOTAL, "requests/s", "Requests for predictions."),
        _number("Failures", f"{_FAILED} / {_TOTAL}", "fraction", "Answers with status 5xx."),
        _number("In flight", "sum(eurosat_requests_in_flight)"),
        _number(
            "Process exits", "sum(increase(eurosat_process_exits_total[1h]))", about="In an hour."
        ),
        _number("Age", f"time() - min(process_start_time_seconds {_OURS})", "s"),
        _curves(
            "Requests by status",
            "requests/s",
            (_rate(f"eurosat_requests_total{{{ROUTES}}}", "status"), "{{status}}"),
        ),
        _curves(
            "Time of an answer",
            "s",
            *_quantiles("eurosat_request_duration_seconds", f"{{{ROUTES}}}"),
            about="From a request's first byte to its answer.",
        ),
        _curves(
            "Mean time by stage",
            "s",
            (
                f"{_rate(f'{_STAGE}_sum', 'stage')} / {_rate(f'{_STAGE}_count', 'stage')}",
                "{{stage}}",
            ),
        ),
        _curves("Requests that wait for a worker", "", ("sum(eurosat_queue_depth)", "waiting")),
        _curves(
            "Images in one call of the model",
            "",
            (
                f"{_rate('eurosat_batch_images_sum')} / {_rate('eurosat_batch_images_count')}",
                "mean",
            ),
        ),
        _curves(
            "Images that could not be read",
            "images/s",
            (_rate("eurosat_images_rejected_total"), "rejected"),
        ),
        _curves(
            "CPU",
            "cores",
            (f"sum(rate(process_cpu_seconds_total{RATE}) {_OURS})", "all processes"),
        ),
        _curves(
            "Memory",
            "bytes",
            (f"sum(process_resident_memory_bytes {_OURS})", "all processes"),
        ),
    ),
)

DATA = Dashboard(
    "data",
    "eurosat: data and drift",
    (
        _number(
            "Unusual images",
            f"{_FLAGS} / {_IMAGES}",
            "fraction",
            "Images that do not look like Sentinel-2 land patches; 1 % is normal.",
        ),
        _number("Drift alarm", "max(eurosat_drift_alarm)", about="1 after two windows in a row."),
        _number(
            "Age of the last window",
            "time() - max(eurosat_drift_last_window_timestamp_seconds)",
            "s",
        ),
        _number(
            "Estimated accuracy",
            "max(eurosat_drift_estimated_accuracy)",
            "fraction",
            "Absent while the inputs drift.",
        ),
        _number("Windows", "max(eurosat_drift_windows_total)"),
        _number(
            "Too few images", "max(eurosat_drift_too_few)", about="1 if a window says nothing."
        ),
        _curves(
            "Predictions by class",
            "images/s",
            (_rate("eurosat_predictions_total", "label"), "{{label}}"),
        ),
        _histogram("Probability of the predicted class", "eurosat_confidence"),
        _curves("Entropy", "nats", *_quantiles("eurosat_entropy_nats")),
        _histogram("Out-of-distribution score", "eurosat_ood_score"),
        _curves(
            "Drift: -log10 of the p-value by family",
            "",
            (
                "-log10(clamp_min(min by (family) (eurosat_drift_p_value), 1e-10))",
                "{{family}}",
            ),
            about=f"Above {-math.log10(FAMILY_ALPHA):.1f}, a change is significant.",
        ),
        _curves(
            "Prediction log: records",
            "",
            (_rate("eurosat_log_records_total", "outcome"), "{{outcome}} per second"),
        ),
        _curves(
            "Prediction log: oldest record that waits",
            "s",
            ("max(eurosat_log_oldest_waiting_seconds)", "age"),
        ),
        _curves(
            "Prediction log: records that wait",
            "bytes",
            ("sum(eurosat_log_waiting_bytes)", "waiting"),
        ),
        _curves(
            "Prediction log: uploads",
            "",
            (_rate("eurosat_log_uploads_total", "outcome"), "{{outcome}} per second"),
        ),
    ),
)

DASHBOARDS = (SERVICE, DATA)
