"""The service on Kubernetes: an overlay, as kubectl puts it together."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import REPOSITORY

pytestmark = pytest.mark.process

KUBERNETES = REPOSITORY / "deploy" / "kubernetes"
Objects = dict[str, dict[str, Any]]


@pytest.fixture
def mine(tmp_path: Path) -> Callable[..., Objects]:
    """Copy and change the example as docs/howto/kubernetes.md says; give the objects by kind."""
    if shutil.which("kubectl") is None:
        pytest.skip("needs kubectl")
    shutil.copytree(KUBERNETES, tmp_path / "kubernetes")
    overlays = tmp_path / "kubernetes" / "overlays"
    shutil.copytree(overlays / "example", overlays / "mine")
    path = overlays / "mine" / "kustomization.yaml"

    def build(image: str, components: bool = False) -> Objects:
        text = path.read_text().replace("registry.example/eurosat-serve", image)
        if components:
            text = text.replace("# components:\n#   - ", "components:\n  - ")
        path.write_text(text)
        command = ["kubectl", "kustomize", overlays / "mine"]
        shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        return {thing["kind"]: thing for thing in yaml.safe_load_all(shown)}

    return build


def test_an_overlay_is_complete_and_hardened(mine: Callable[..., Objects]) -> None:
    objects = mine("registry.example/other")
    assert objects.keys() == {
        "Namespace",
        "Deployment",
        "Service",
        "HorizontalPodAutoscaler",
        "PodDisruptionBudget",
        "NetworkPolicy",
    }
    assert {thing["metadata"].get("namespace", "eurosat") for thing in objects.values()} == {
        "eurosat"
    }
    assert "replicas" not in objects["Deployment"]["spec"]  # the autoscaler's
    pod = objects["Deployment"]["spec"]["template"]
    assert pod["spec"]["securityContext"]["runAsNonRoot"]
    (container,) = pod["spec"]["containers"]
    assert container["image"] == "registry.example/other:0.1.0"
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }
    labels = pod["metadata"]["labels"]
    for selector in (
        objects["Service"]["spec"]["selector"],
        objects["Deployment"]["spec"]["selector"]["matchLabels"],
        objects["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        objects["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
    ):
        assert selector.items() <= labels.items()


def test_the_monitor_reads_the_port_of_the_service(mine: Callable[..., Objects]) -> None:
    objects = mine("registry.example/other", components=True)
    (endpoint,) = objects["PodMonitor"]["spec"]["podMetricsEndpoints"]
    (container,) = objects["Deployment"]["spec"]["template"]["spec"]["containers"]
    assert endpoint["port"] in [port["name"] for port in container["ports"]]
    assert objects["PodMonitor"]["metadata"]["namespace"] == "eurosat"


def test_kserve_runs_the_container_of_the_deployment() -> None:
    """The restricted pod security standard of the namespace holds for both."""
    (deployed,) = yaml.safe_load_all((KUBERNETES / "base" / "deployment.yaml").read_text())
    kserve = yaml.safe_load((KUBERNETES / "inference-service.yaml").read_text())
    pod, predictor = deployed["spec"]["template"]["spec"], kserve["spec"]["predictor"]
    for key in ("automountServiceAccountToken", "securityContext", "volumes"):
        assert predictor[key] == pod[key]
    (ours,), (theirs,) = pod["containers"], predictor["containers"]
    for key in ("securityContext", "resources", "volumeMounts"):
        assert theirs[key] == ours[key]
    assert theirs["args"][1:] == ours["args"][1:]
