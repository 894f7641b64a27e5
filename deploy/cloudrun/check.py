"""Checks files before they are deployed: ``python deploy/cloudrun/check.py FILE...``.

The files are ``service.yaml`` with its placeholders replaced, and ``monitoring.yaml``, which the
sidecar reads when the service starts. A mistake in it would otherwise show there, as a sidecar that
ends.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

import yaml

_PLACEHOLDERS = {"IMAGE", "SIDECAR", "ACCOUNT"}
_DEPENDENCIES = "run.googleapis.com/container-dependencies"
_THROTTLING = "run.googleapis.com/cpu-throttling"


_DURATION = re.compile(r"(?:(\d+)m)?(?:(\d+)s)?")
"""Minutes and seconds; the sidecar reads larger units too, which no interval needs."""

# The fields that Google's run-gmp-sidecar reads (confgenerator/config.go, v1beta). The sidecar ends
# if the file has any other field.
_FIELDS: dict[str, dict[str, type]] = {
    "": {"apiVersion": str, "kind": str, "metadata": dict, "spec": dict},
    "spec": {"endpoints": list, "targetLabels": dict, "limits": dict},
    "endpoint": {
        "port": int,
        "scheme": str,
        "path": str,
        "params": dict,
        "proxyUrl": str,
        "interval": str,
        "timeout": str,
        "metricRelabeling": list,
    },
    "metricRelabeling": {
        "sourceLabels": list,
        "separator": str,
        "targetLabel": str,
        "regex": str,
        "modulus": int,
        "replacement": str,
        "action": str,
    },
    "targetLabels": {"metadata": list},
    "limits": {"samples": int, "labels": int, "labelNameLength": int, "labelValueLength": int},
}
_METADATA = {"instance", "revision", "service", "configuration"}
_PROTECTED = {
    *("project_id", "location", "cluster", "namespace"),
    *("job", "instance", "instanceId", "__address__"),
}


def monitoring_problems(monitoring: dict[str, Any]) -> list[str]:
    """List what is wrong with a configuration of the sidecar, and how to correct it."""
    found = []
    if monitoring.get("apiVersion") != "monitoring.googleapis.com/v1beta":
        found.append("the version is unknown: set apiVersion to monitoring.googleapis.com/v1beta")
    if monitoring.get("kind") != "RunMonitoring":
        found.append("the kind is unknown: set kind to RunMonitoring")
    found += _field_problems(monitoring, "", "the file")
    spec = monitoring.get("spec") or {}
    found += _field_problems(spec, "spec", "spec")
    found += _field_problems(spec.get("limits") or {}, "limits", "spec.limits")
    labels = spec.get("targetLabels") or {}
    found += _field_problems(labels, "targetLabels", "spec.targetLabels")
    if unknown := set(labels.get("metadata") or ()) - _METADATA:
        found.append(
            f"spec.targetLabels.metadata has {', '.join(sorted(unknown))}: "
            f"choose among {', '.join(sorted(_METADATA))}"
        )
    endpoints = spec.get("endpoints")
    if not isinstance(endpoints, list) or not endpoints:
        return [*found, "spec.endpoints is empty: list the port of the metrics"]
    for number, endpoint in enumerate(endpoints):
        found += _endpoint_problems(endpoint, f"spec.endpoints[{number}]")
    return found


def _endpoint_problems(endpoint: dict[str, Any], where: str) -> list[str]:
    found = _field_problems(endpoint, "endpoint", where)
    if not isinstance(endpoint.get("port"), int) or not 1 <= endpoint["port"] <= 65535:
        found.append(f"{where}.port is not a port: give a number from 1 to 65535")
    times = {name: _seconds(endpoint.get(name)) for name in ("interval", "timeout")}
    interval, timeout = times["interval"], times["timeout"]
    if not interval:
        found.append(f"{where}.interval is missing or no duration: give a duration such as 30s")
    if "timeout" in endpoint and not timeout:
        found.append(f"{where}.timeout is no duration: give a duration such as 10s")
    if interval and timeout and timeout > interval:
        found.append(f"{where}.timeout is longer than the interval: shorten the timeout")
    for number, rule in enumerate(endpoint.get("metricRelabeling") or ()):
        place = f"{where}.metricRelabeling[{number}]"
        found += _field_problems(rule, "metricRelabeling", place)
        if rule.get("targetLabel") in _PROTECTED:
            found.append(f"{place}.targetLabel is set by the sidecar: choose another label")
    return found


def _field_problems(part: dict[str, Any], kind: str, where: str) -> list[str]:
    known = _FIELDS[kind]
    found = [
        f"{where} has the unknown field {name}: choose among {', '.join(known)}"
        for name in part
        if name not in known
    ]
    return found + [
        f"{where}.{name} is no {known[name].__name__}: correct the value"
        for name, value in part.items()
        if name in known and not isinstance(value, known[name])
    ]


def _seconds(text: object) -> int | None:
    """Read a duration; None if there is none or the text is none."""
    found = _DURATION.fullmatch(text) if isinstance(text, str) else None
    return int(found[1] or 0) * 60 + int(found[2] or 0) if found else None


def problems(service: dict[str, Any]) -> list[str]:
    """Give what is wrong with a service, and how to mend it."""
    found = []
    template = service["spec"]["template"]
    notes, spec = template["metadata"].get("annotations", {}), template["spec"]
    names = {container["name"] for container in spec["containers"]}
    for container in spec["containers"]:
        name, limits = container["name"], container.get("resources", {}).get("limits", {})
        if container["image"] in _PLACEHOLDERS:
            found.append(f"{name} has no image: replace {container['image']}")
        if "nvidia.com/gpu" in limits:
            found.append(
                f"{name} asks for a GPU: the driver of Cloud Run's L4 (535) is older than CUDA 13 "
                "needs (580), so torch would find no GPU. Serve an exported file on the CPU, or "
                "serve the checkpoint on Kubernetes or Vertex AI"
            )
    if spec.get("serviceAccountName") in _PLACEHOLDERS:
        found.append("the service has no account: replace ACCOUNT")
    if len(names) > 1:
        waiting = json.loads(notes.get(_DEPENDENCIES, "{}"))
        unknown = ({*waiting} | {name for after in waiting.values() for name in after}) - names
        if not waiting or unknown:
            found.append(f"the sidecar must wait for the service: name both in {_DEPENDENCIES}")
        if notes.get(_THROTTLING) != "false":
            found.append(
                f"the sidecar needs the CPU between requests: set {_THROTTLING} to 'false'"
            )
    return found


def main() -> int:
    """Check the files, and return the exit code."""
    code = 0
    for name in sys.argv[1:]:
        content = yaml.safe_load(Path(name).read_text("utf-8"))
        is_service = content.get("kind") == "Service"
        for problem in problems(content) if is_service else monitoring_problems(content):
            print(f"{name}: {problem}", file=sys.stderr)
            code = 2
    return code


if __name__ == "__main__":
    raise SystemExit(main())
