"""The service on Kubernetes: the overlays, as kubectl puts them together."""

import shutil
import subprocess
from typing import Any

import pytest
import yaml

from tests.conftest import REPOSITORY

pytestmark = pytest.mark.process

KUBERNETES = REPOSITORY / "deploy" / "kubernetes"
OVERLAYS = sorted(path.name for path in (KUBERNETES / "overlays").iterdir())


def built(overlay: str) -> dict[str, dict[str, Any]]:
    """The objects of an overlay by kind."""
    if shutil.which("kubectl") is None:
        pytest.skip("needs kubectl")
    command = ["kubectl", "kustomize", KUBERNETES / "overlays" / overlay]
    shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return {thing["kind"]: thing for thing in yaml.safe_load_all(shown)}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_overlay_is_complete_and_hardened(overlay: str) -> None:
    objects = built(overlay)
    kinds = {"Namespace", "Deployment", "Service", "HorizontalPodAutoscaler", "NetworkPolicy"}
    assert kinds <= objects.keys()
    pod = objects["Deployment"]["spec"]["template"]
    assert pod["spec"]["securityContext"]["runAsNonRoot"]
    (container,) = pod["spec"]["containers"]
    assert container["image"] == "registry.example/eurosat-serve:0.1.0"
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }
    labels = pod["metadata"]["labels"]
    for selector in (
        objects["Service"]["spec"]["selector"],
        objects["Deployment"]["spec"]["selector"]["matchLabels"],
        objects["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
    ):
        assert selector.items() <= labels.items()


def test_the_monitor_reads_the_port_of_the_service() -> None:
    objects = built("prometheus-operator")
    (endpoint,) = objects["PodMonitor"]["spec"]["podMetricsEndpoints"]
    (container,) = objects["Deployment"]["spec"]["template"]["spec"]["containers"]
    assert endpoint["port"] in [port["name"] for port in container["ports"]]
    assert objects["PodMonitor"]["metadata"]["namespace"] == "eurosat"
