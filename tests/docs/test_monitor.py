"""docs/howto/monitor.md: its commands, in order, beside what `make monitor` starts."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
import requests

from eurosat.cli import main
from tests.conftest import REPOSITORY, SMALL_MODEL, TINY
from tests.docs.pages import BLOCKS
from tests.serving.conftest import free_port

pytestmark = [pytest.mark.process, pytest.mark.long]

NAMES = ("SERVICE", "DRIFT", "METRICS", "PROMETHEUS", "ALERTMANAGER")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported model whose validation images are enough for a reference."""
    folder = tmp_path_factory.mktemp("model")
    data = ["--data.synthetic_images=3000", f"--data.root={folder}/data", "--report=false"]
    run = folder / "run"
    assert main(["fit", *TINY, *SMALL_MODEL, *data, f"--run_directory={run}"]) == 0
    (best,) = (run / "checkpoints").glob("best*.ckpt")
    path = folder / "model.onnx"
    export = ["--format=onnx", f"--output={path}", "--max_accuracy_loss=100"]
    assert main(["export", str(best), *export]) == 0
    return path


@pytest.fixture
def ports(model: Path, tmp_path: Path) -> Iterator[dict[str, int]]:
    """The ports of the processes of `make monitor`."""
    for program in ("prometheus", "prometheus-alertmanager", "curl"):
        if shutil.which(program) is None:
            pytest.skip(f"needs {program}")
    ports = {name: free_port() for name in NAMES}
    process = subprocess.Popen(
        [
            *("make", "--assume-old=environment", "monitor", f"MODEL={model}"),
            *(f"FOLDER={tmp_path}/monitor", f"VENV={Path(sys.executable).parent.parent}"),
        ],
        cwd=REPOSITORY,
        env=os.environ | {f"{name}_PORT": str(port) for name, port in ports.items()},
        start_new_session=True,
    )
    try:
        for name in ("SERVICE", "DRIFT"):
            wait_for(partial(answers, f"http://localhost:{ports[name]}/health", process))
        yield ports
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C
        process.wait(30)


def answers(url: str, process: subprocess.Popen[bytes]) -> bool:
    assert process.poll() is None, "make monitor has ended"
    try:
        return requests.get(url, timeout=5).ok
    except requests.ConnectionError:
        return False


def wait_for(happened: Callable[[], bool], seconds: float = 100) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.3)


def test_usual_traffic_is_quiet_and_changed_traffic_alarms(
    ports: dict[str, int], model: Path, tmp_path: Path
) -> None:
    blocks = [b for b in BLOCKS if b.page.name == "monitor.md" and not b.needs]
    texts = [
        block.text.replace(".venv/bin/python", sys.executable)
        .replace("outputs/model.onnx", str(model))
        .replace("benchmarks.traffic", f"benchmarks.traffic --root {model.parent}/data --rate 1000")
        .replace("benchmarks.traffic", f"benchmarks.traffic --url localhost:{ports['SERVICE']}")
        .replace(
            "benchmarks.panels", f"benchmarks.panels --prometheus localhost:{ports['PROMETHEUS']}"
        )
        .replace("--output outputs", f"--output {tmp_path}")
        .replace("localhost:8001", f"localhost:{ports['DRIFT']}")
        .replace("localhost:", "http://localhost:")
        .replace("http://http://", "http://")
        for block in blocks
    ]

    def run(text: str) -> None:
        shown = subprocess.run(
            ["bash", "-euxo", "pipefail", "-c", text],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert shown.returncode == 0, shown.stdout

    def verdict() -> dict[str, object]:
        return dict(requests.get(f"http://localhost:{ports['DRIFT']}/drift", timeout=10).json())

    usual, changed, panels = texts
    run(usual)
    wait_for(lambda: verdict()["windows_judged"] == 2)
    assert verdict()["verdict"] == "quiet", json.dumps(verdict(), indent=1)
    run(changed)
    wait_for(lambda: verdict()["windows_judged"] == 4)
    assert verdict()["verdict"] == "alarm"
    report = requests.get(f"http://localhost:{ports['DRIFT']}", timeout=10)
    assert "What moved" in report.text
    alerts = f"http://localhost:{ports['ALERTMANAGER']}/api/v2/alerts"

    def firing() -> set[str]:
        found = requests.get(alerts, timeout=10).json()
        return {alert["labels"]["alertname"] for alert in found}

    wait_for(lambda: "EurosatDrift" in firing())
    assert firing() <= {"EurosatDrift", "EurosatOutOfDistribution"}
    run(panels)
    assert {path.name for path in tmp_path.glob("*.png")} == {
        "dashboard-service.png",
        "dashboard-data.png",
    }
