"""Checks service.yaml before it is deployed: ``python deploy/cloudrun/check.py service.yaml``."""

import json
import sys
from pathlib import Path
from typing import Any

import yaml

_PLACEHOLDERS = {"IMAGE", "SIDECAR", "ACCOUNT"}
_DEPENDENCIES = "run.googleapis.com/container-dependencies"
_THROTTLING = "run.googleapis.com/cpu-throttling"


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
    """Check the file, and return the exit code."""
    path = Path(sys.argv[1])
    found = problems(yaml.safe_load(path.read_text("utf-8")))
    for problem in found:
        print(f"{path}: {problem}", file=sys.stderr)
    return 2 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
