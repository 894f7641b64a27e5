"""The service on Cloud Run: what the check accepts and refuses."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from pathspec import GitIgnoreSpec

from tests.conftest import REPOSITORY

pytestmark = pytest.mark.process

CLOUD_RUN = REPOSITORY / "deploy" / "cloudrun"


@pytest.fixture
def check(tmp_path: Path) -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """Check service.yaml with its placeholders replaced, and with a change."""

    def run(change: Callable[[dict[str, Any]], object]) -> "subprocess.CompletedProcess[str]":
        text = (CLOUD_RUN / "service.yaml").read_text()
        for name in ("IMAGE", "SIDECAR", "ACCOUNT"):
            text = text.replace(f": {name}\n", f": my-{name.lower()}\n")
        service = yaml.safe_load(text)
        change(service["spec"]["template"])
        path = tmp_path / "service.yaml"
        path.write_text(yaml.safe_dump(service))
        command = [sys.executable, CLOUD_RUN / "check.py", path]
        return subprocess.run(command, capture_output=True, text=True)

    return run


def container(template: dict[str, Any]) -> dict[str, Any]:
    first: dict[str, Any] = template["spec"]["containers"][0]
    return first


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda template: None, None),
        (
            lambda template: container(template)["resources"]["limits"].update(
                {"nvidia.com/gpu": "1"}
            ),
            "the driver of Cloud Run's L4 (535) is older than CUDA 13",
        ),
        (lambda template: container(template).update(image="IMAGE"), "service has no image"),
        (lambda template: template["spec"].update(serviceAccountName="ACCOUNT"), "has no account"),
        (
            lambda template: template["metadata"]["annotations"].pop(
                "run.googleapis.com/container-dependencies"
            ),
            "the sidecar must wait for the service",
        ),
        (
            lambda template: template["metadata"]["annotations"].pop(
                "run.googleapis.com/cpu-throttling"
            ),
            "the sidecar needs the CPU between requests",
        ),
    ],
)
def test_the_check_names_what_is_wrong(
    change: Callable[[dict[str, Any]], object],
    message: str | None,
    check: Callable[..., "subprocess.CompletedProcess[str]"],
) -> None:
    ended = check(change)
    if message is None:
        assert ended.returncode == 0, ended.stderr
    else:
        assert ended.returncode == 2
        assert message in ended.stderr


def endpoint(content: dict[str, Any]) -> dict[str, Any]:
    first: dict[str, Any] = content["spec"]["endpoints"][0]
    return first


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: None, None),
        (
            lambda content: content["spec"].update(
                targetLabels={"metadata": ["service", "revision"]}, limits={"samples": 5000}
            ),
            None,
        ),
        (lambda content: content.update(apiVersion="v1"), "set apiVersion to monitoring.google"),
        (lambda content: content.update(kind="PodMonitoring"), "set kind to RunMonitoring"),
        (lambda content: content.pop("spec"), "spec.endpoints is empty"),
        (lambda content: content["spec"].update(selector={}), "the unknown field selector"),
        (lambda content: endpoint(content).update(scrapeInterval="1s"), "field scrapeInterval"),
        (lambda content: endpoint(content).update(port="http"), "port is not a port"),
        (lambda content: endpoint(content).pop("interval"), "interval is missing"),
        (lambda content: endpoint(content).update(interval="often"), "interval is missing or no"),
        (lambda content: endpoint(content).update(timeout="1m"), "longer than the interval"),
        (
            lambda content: endpoint(content).update(metricRelabeling=[{"targetLabel": "job"}]),
            "targetLabel is set by the sidecar",
        ),
        (
            lambda content: content["spec"].update(targetLabels={"metadata": ["pod"]}),
            "spec.targetLabels.metadata has pod: choose among configuration, instance",
        ),
        (lambda content: content["spec"].update(limits={"samples": "many"}), "samples is no int"),
    ],
)
def test_the_configuration_of_the_sidecar_is_checked_strictly(
    change: Callable[[dict[str, Any]], object], message: str | None, tmp_path: Path
) -> None:
    content = yaml.safe_load((CLOUD_RUN / "monitoring.yaml").read_text())
    change(content)
    path = tmp_path / "monitoring.yaml"
    path.write_text(yaml.safe_dump(content))
    command = [sys.executable, CLOUD_RUN / "check.py", path]
    ended = subprocess.run(command, capture_output=True, text=True)
    if message is None:
        assert (ended.returncode, ended.stderr) == (0, "")
    else:
        assert ended.returncode == 2
        assert message in ended.stderr


def test_the_sidecar_reads_the_port_of_the_service() -> None:
    service = yaml.safe_load((CLOUD_RUN / "service.yaml").read_text())
    first = container(service["spec"]["template"])
    monitoring = yaml.safe_load((CLOUD_RUN / "monitoring.yaml").read_text())
    (endpoint,) = monitoring["spec"]["endpoints"]
    assert first["args"][first["args"].index("--metrics_port") + 1] == str(endpoint["port"])
    assert endpoint["port"] != first["ports"][0]["containerPort"]  # which is open to callers
    assert first["ports"][0]["containerPort"] == first["startupProbe"]["httpGet"]["port"]
    assert int(endpoint["timeout"][:-1]) <= int(endpoint["interval"][:-1])


def test_only_the_files_of_the_build_are_uploaded() -> None:
    lines = (REPOSITORY / ".gcloudignore").read_text().splitlines()
    ignored = GitIgnoreSpec.from_lines(lines)
    build = ["pyproject.toml", "eurosat/cli.py", ".dvc/config", ".gitignore", "dvc.yaml"]
    build += ["configs/fast.yaml", "configs/trainer/ddp.yaml", "vertex/gpu.yaml", "models/m.onnx"]
    build += ["pipeline/.gitignore", "pipeline/evaluate/.gitignore", "data/raw/README.md"]
    build += ["outputs/model.onnx", "outputs/fast/one/checkpoints/best.xml"]
    build += ["docker/serve.Dockerfile", "deploy/cloudrun/check.py", "requirements/serve.txt"]
    build += ["requirements/monitor.txt"]
    assert [path for path in build if ignored.match_file(path)] == []
    others = [
        ".dvc/config.local",
        ".dvc/cache/files/md5/00/1",
        ".dvc/tmp/lock",
        ".env",
        ".git/config",
    ]
    others += ["outputs/wandb/run/files/config.yaml", "outputs/fast/one/predictions.csv"]
    others += ["outputs/fast/one/checkpoints/best.ckpt", "pipeline/train/model.ckpt"]
    others += ["data/raw/EuroSAT_RGB.zip", "data/store/images.npy", "eurosat/__pycache__/cli.pyc"]
    others += ["tests/conftest.py", "service-account.json"]
    assert [path for path in others if not ignored.match_file(path)] == []
