"""The alert rules as files of Prometheus and of Cloud Monitoring."""

import json
from typing import Any

import yaml

from eurosat.monitoring.alerts import EVALUATION_SECONDS, GROUP, Rule, rules

_RUNBOOK = "docs/howto/alerts.md"


def prometheus_rules(*, speed: int = 1) -> str:
    """Render the rules as a rule file of Prometheus.

    Args:
        speed: Divisor of all times, as in `rules`.

    Returns:
        A YAML file.
    """
    group = {
        "name": GROUP,
        "interval": f"{max(EVALUATION_SECONDS // speed, 1)}s",
        "rules": [
            {
                "alert": rule.name,
                "expr": rule.expression,
                "for": f"{rule.hold_seconds}s",
                "labels": {"severity": rule.severity, "kind": rule.kind},
                "annotations": {
                    "summary": rule.summary,
                    "description": rule.remedy,
                    "runbook": runbook(rule),
                },
            }
            for rule in rules(speed=speed)
        ],
    }
    header = (
        "# Written by `python -m eurosat.monitoring.files` from eurosat/monitoring/alerts.py.\n"
    )
    return header + str(yaml.safe_dump({"groups": [group]}, sort_keys=False, width=1000))


def alert_policies() -> dict[str, str]:
    """Render the rules as alert policies of Cloud Monitoring (API monitoring.googleapis.com, v3).

    Rules that make sense only where an instance always runs are left out.

    Returns:
        A JSON document for each rule's name, for ``gcloud monitoring policies create
        --policy-from-file``.
    """
    return {
        rule.name: json.dumps(_policy(rule), indent=2) + "\n"
        for rule in rules()
        if not rule.always_up
    }


def _policy(rule: Rule) -> dict[str, Any]:
    return {
        "displayName": f"{GROUP}/{rule.name}",
        "severity": "CRITICAL" if rule.severity == "page" else "WARNING",
        "userLabels": {"application": GROUP, "kind": rule.kind},
        "documentation": {
            "mimeType": "text/markdown",
            "content": f"{rule.summary}.\n\n{rule.remedy}\n\nRunbook: {runbook(rule)}",
        },
        "combiner": "OR",
        "conditions": [
            {
                "displayName": rule.name,
                "conditionPrometheusQueryLanguage": {
                    "query": rule.expression,
                    "duration": f"{rule.hold_seconds}s",
                    "evaluationInterval": f"{EVALUATION_SECONDS}s",
                    "ruleGroup": GROUP,
                    "alertRule": rule.name,
                    # A service without prediction log or drift service lacks their metrics.
                    "disableMetricValidation": True,
                },
            }
        ],
        "alertStrategy": {"autoClose": "1800s"},
    }


def runbook(rule: Rule) -> str:
    """Return the place in the documentation that says what to do about an alert."""
    return f"{_RUNBOOK}#{rule.name.lower()}"
