"""The dashboards: every query of Grafana's files, asked of a Prometheus that reads the service."""

import json
import math
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
import yaml

from tests.conftest import REPOSITORY, jpeg
from tests.monitoring.metrics import Exporter
from tests.serving.conftest import Service, StartService, free_port

GRAFANA = REPOSITORY / "docker" / "grafana"


@pytest.fixture(scope="module")
def prometheus(
    start_service: StartService,
    patches: dict[str, np.ndarray],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[str]:
    """Debian's Prometheus, with the shipped configuration, after some traffic.

    The service is real. The metrics of the prediction log and of the drift service come from an
    exporter with their names.
    """
    if shutil.which("prometheus") is None:
        pytest.skip("needs Prometheus")
    service: Service = start_service()
    folder = tmp_path_factory.mktemp("prometheus")
    settings = yaml.safe_load((REPOSITORY / "docker" / "prometheus.yaml").read_text())
    settings["global"]["scrape_interval"] = "1s"
    settings["scrape_configs"] = settings["scrape_configs"][:1]
    del settings["rule_files"], settings["alerting"]
    exporter = Exporter()
    targets = [service.url.removeprefix("http://"), f"127.0.0.1:{exporter.port}"]
    settings["scrape_configs"][0]["static_configs"] = [{"targets": targets}]
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(settings))
    port = free_port()
    process = subprocess.Popen(
        [
            *("prometheus", f"--config.file={folder / 'prometheus.yaml'}"),
            *(f"--storage.tsdb.path={folder}", f"--web.listen-address=127.0.0.1:{port}"),
        ],
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 60
        # A rate needs two samples of each of the two targets.
        while not (
            any(float(value) for value in ask(url, "sum(increase(eurosat_confidence_count[1m]))"))
            and ask(url, "rate(eurosat_log_uploads_total[1m])")
        ):
            assert time.monotonic() < deadline
            service.predict(jpeg(patches["Forest_1"]))
            service.predict(b"no picture")
            time.sleep(0.5)
        yield url
    finally:
        process.terminate()
        process.wait(30)
        exporter.end()


def ask(url: str, expression: str) -> list[str]:
    """The values of a query; a Prometheus that does not answer yet has none."""
    try:
        answer = requests.get(f"{url}/api/v1/query", params={"query": expression}, timeout=10)
    except requests.ConnectionError:
        return []
    assert answer.status_code == 200, answer.text
    return [series["value"][1] for series in answer.json()["data"]["result"]]


def panels() -> list[dict[str, Any]]:
    return [
        panel
        for path in sorted((GRAFANA / "dashboards").glob("*.json"))
        for panel in json.loads(path.read_text())["panels"]
    ]


def queries() -> list[str]:
    return [target["expr"] for panel in panels() for target in panel["targets"]]


@pytest.mark.parametrize("expression", queries())
def test_every_query_of_the_dashboards_has_an_answer(expression: str, prometheus: str) -> None:
    found = ask(prometheus, expression.replace("$__rate_interval", "1m"))
    assert found
    if expression.startswith("histogram_quantile"):
        assert not any(math.isnan(float(value)) for value in found)


def test_every_panel_asks_the_provisioned_data_source() -> None:
    settings = yaml.safe_load(
        Path(GRAFANA, "provisioning", "datasources", "prometheus.yaml").read_text("utf-8")
    )
    (source,) = settings["datasources"]
    for panel in panels():
        assert panel["datasource"] == {"type": source["type"], "uid": source["uid"]}
