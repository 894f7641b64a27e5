"""The alert rules, one list for Prometheus and for Cloud Monitoring.

The rules on availability and latency look at how fast the error budget is used up, over two windows
at once, as in "The Site Reliability Workbook" (Beyer et al., O'Reilly 2018), chapter 5: the long
window shows that enough was lost to act, and the short window ends the alert soon after the cause
has ended. The chapter's rule over three days is left out, because Cloud Monitoring looks back 25
hours at most.
"""

from dataclasses import dataclass
from typing import Literal

GROUP = "eurosat"

EVALUATION_SECONDS = 30
"""Time between two evaluations; Cloud Monitoring accepts multiples of 30 s only."""

AVAILABILITY = 0.995
"""Objective: fraction of the requests for predictions that the service answers without a 5xx."""

LATENCY = 0.99
"""Objective: fraction of the requests for predictions that are answered in `LATENCY_SECONDS`."""

LATENCY_SECONDS = 1
"""A bound of the buckets of ``eurosat_request_duration_seconds``."""

MIN_REQUESTS = 100
"""Requests in the long window below which a burn rate says nothing.

At the objective of availability, the fast rule fires at 7.2 % failures. A single failure among 13
requests would exceed 7.2 %.
"""

MIN_BAD = 5
"""Failed or slow requests in a day from which the rule for little traffic fires."""

MIN_IMAGES = 300
"""Images in the window of the out-of-distribution fraction.

With 1 % false flags, more than 5 % of 300 images are flagged with a probability of 1e-7 (binomial).
"""

ROUTES = 'route=~"/explain|.*[/:]predict|.*/infer"'
"""Chooses the requests for predictions: neither probes, pages nor paths that no route has."""

_HOUR, _DAY = 3600, 86_400

Kind = Literal["availability", "latency", "silence", "processes", "log", "drift", "ood"]


@dataclass(frozen=True)
class Rule:
    """An alert rule.

    Attributes:
        name: Name of the alert; the heading of its remedy in docs/howto/alerts.md.
        kind: What the rule watches.
        severity: ``"page"`` if somebody must act at once, or ``"ticket"`` if within days.
        expression: The condition in PromQL.
        hold_seconds: Time that the condition must hold before the alert fires.
        summary: What is the matter.
        remedy: What to do.
        always_up: Whether the rule makes sense only where an instance of the service always runs.
            Cloud Run stops all instances of a service without traffic.
    """

    name: str
    kind: Kind
    severity: Literal["page", "ticket"]
    expression: str
    hold_seconds: int
    summary: str
    remedy: str
    always_up: bool = False


def rules(*, speed: int = 1) -> list[Rule]:
    """List the rules.

    Args:
        speed: Divisor of all times. The end-to-end test shortens an hour to a minute (60).
    """
    return [
        *_objective("availability", speed),
        *_objective("latency", speed),
        Rule(
            "EurosatSilence",
            "silence",
            "page",
            "absent(eurosat_model_info)",
            300 // speed,
            "no instance of the service gives metrics",
            "Look whether the service runs and whether Prometheus reaches its metrics. The log of "
            "the service says why the service ended.",
            always_up=True,
        ),
        Rule(
            "EurosatProcessExits",
            "processes",
            "page",
            f"sum(increase(eurosat_process_exits_total[{_time(1800, speed)}])) >= 3",
            0,
            "processes of the service exit again and again",
            "Read the exit codes in the service's log: -9 usually means too little memory, so give "
            "the service more memory or fewer workers. Otherwise go back to the last model.",
        ),
        Rule(
            "EurosatLogDrops",
            "log",
            "ticket",
            'sum(increase(eurosat_log_records_total{outcome="dropped"}'
            f"[{_time(900, speed)}])) > 0",
            0,
            "records of the prediction log are lost",
            "The spool is full or its disk is: look whether uploads fail "
            "(eurosat_log_uploads_total), and give the account the right to write to the bucket.",
        ),
        Rule(
            "EurosatLogAge",
            "log",
            "ticket",
            f"max(eurosat_log_oldest_waiting_seconds) > {900 // speed}",
            300 // speed,
            "records of the prediction log wait for their upload for more than 15 minutes",
            "Look at the service's log for the reason why uploads fail. No record is lost before "
            "the spool is full.",
        ),
        Rule(
            "EurosatDrift",
            "drift",
            "ticket",
            "max(eurosat_drift_alarm) == 1",
            0,
            "the traffic has drifted from the reference in two windows in a row",
            "Read /drift/report of the drift service, which shows what moved. Label some of the "
            "new images, test the model on them, and train again if it is wrong.",
        ),
        Rule(
            "EurosatDriftStale",
            "drift",
            "ticket",
            "time() - max(max_over_time(eurosat_drift_last_run_timestamp_seconds"
            f"[{_time(_DAY, speed)}])) > {_HOUR // speed}",
            0,
            "the drift service has not looked at the prediction log for an hour",
            "Look whether the drift service runs, and whether it may read the log's bucket.",
        ),
        Rule(
            "EurosatOutOfDistribution",
            "ood",
            "ticket",
            f"sum(increase(eurosat_ood_flags_total[{_time(_HOUR, speed)}])) "
            f"/ sum(increase(eurosat_predictions_total[{_time(_HOUR, speed)}])) > 0.05 "
            f"and sum(increase(eurosat_predictions_total[{_time(_HOUR, speed)}])) >= {MIN_IMAGES}",
            0,
            "more than 5 % of an hour's images do not look like Sentinel-2 land patches",
            "Ask the callers what they send: other bands, another scaling, clouds or photographs. "
            "1 % of flags is normal.",
        ),
    ]


def _objective(kind: Literal["availability", "latency"], speed: int) -> list[Rule]:
    """Build the three rules of one objective."""
    match kind:
        case "availability":
            budget, what = 1 - AVAILABILITY, "fail (status 5xx)"
            remedy = (
                "Look at the statuses: 503 is too much load or workers that exit, 504 is a model "
                "that is too slow, 500 is in the service's log."
            )
        case "latency":
            budget, what = 1 - LATENCY, f"take longer than {LATENCY_SECONDS} s"
            remedy = (
                "Look at the time by stage: a long queue needs more workers or instances, a slow "
                "model needs more cores or an int8 file, and slow decoding comes from large images."
            )
    name = f"Eurosat{kind.capitalize()}"
    return [
        *(
            Rule(
                f"{name}{suffix}",
                kind,
                "page",
                f"{_fraction(kind, long, speed)} > {limit} "
                f"and {_fraction(kind, short, speed)} > {limit} "
                f"and {_all(kind, long, speed)} >= {MIN_REQUESTS}",
                hold // speed,
                f"more than {factor * budget:.1%} of the requests {what}: "
                f"{factor:g} times what the objective of {1 - budget:.1%} allows",
                remedy,
            )
            for suffix, factor, long, short, hold in (
                ("BurnsFast", 14.4, _HOUR, 300, 120),
                ("BurnsSlowly", 6, 6 * _HOUR, 1800, 900),
            )
            for limit in [f"{factor * budget:g}"]
        ),
        Rule(
            f"{name}LittleTraffic",
            kind,
            "ticket",
            f"{_bad(kind, _DAY, speed)} >= {MIN_BAD} "
            f"and {_fraction(kind, _DAY, speed)} > {10 * budget:g} "
            f"and {_all(kind, _DAY, speed)} < {24 * MIN_REQUESTS}",
            0,
            f"{MIN_BAD} or more of a day's few requests {what}",
            f"{remedy} The alert ends when the requests are a day old.",
        ),
    ]


def _all(kind: Literal["availability", "latency"], seconds: int, speed: int) -> str:
    """Write the number of requests that an objective counts; callers' mistakes do not count."""
    match kind:
        case "availability":
            series = f'eurosat_requests_total{{{ROUTES},status=~"2..|5.."}}'
        case "latency":
            series = f"eurosat_request_duration_seconds_count{{{ROUTES}}}"
    return f"sum(increase({series}[{_time(seconds, speed)}]))"


def _bad(kind: Literal["availability", "latency"], seconds: int, speed: int) -> str:
    """Write the number of requests that miss an objective."""
    window = _time(seconds, speed)
    match kind:
        case "availability":
            return f'sum(increase(eurosat_requests_total{{{ROUTES},status=~"5.."}}[{window}]))'
        case "latency":
            # Prometheus 2 writes the bound as 1.0, and other systems as 1.
            bound = f'le=~"{LATENCY_SECONDS}([.]0)?"'
            fast = f"eurosat_request_duration_seconds_bucket{{{ROUTES},{bound}}}"
            return f"({_all(kind, seconds, speed)} - sum(increase({fast}[{window}])))"


def _fraction(kind: Literal["availability", "latency"], seconds: int, speed: int) -> str:
    return f"{_bad(kind, seconds, speed)} / {_all(kind, seconds, speed)}"


def _time(seconds: int, speed: int) -> str:
    """Write a time in the largest unit of PromQL that divides it."""
    seconds //= speed
    for unit, length in (("d", _DAY), ("h", _HOUR), ("m", 60)):
        if seconds % length == 0:
            return f"{seconds // length}{unit}"
    return f"{seconds}s"
