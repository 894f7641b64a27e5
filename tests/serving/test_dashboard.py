"""The dashboard of the service: every query, asked of a Prometheus that reads the service."""

import importlib.util
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import requests
import yaml

from tests.conftest import REPOSITORY, jpeg
from tests.serving.conftest import Service, StartService, free_port

GRAFANA = REPOSITORY / "docker" / "grafana"


@pytest.fixture(scope="module")
def make_dashboard() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_dashboard", GRAFANA / "make_dashboard.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def prometheus(
    start_service: StartService,
    patches: dict[str, np.ndarray],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[str]:
    """Debian's Prometheus, with the shipped configuration, after some traffic."""
    if shutil.which("prometheus") is None:
        pytest.skip("needs Prometheus")
    service: Service = start_service()
    folder = tmp_path_factory.mktemp("prometheus")
    settings = yaml.safe_load((REPOSITORY / "docker" / "prometheus.yaml").read_text())
    settings["global"]["scrape_interval"] = "1s"
    settings["scrape_configs"] = settings["scrape_configs"][:1]
    target = service.url.removeprefix("http://")
    settings["scrape_configs"][0]["static_configs"] = [{"targets": [target]}]
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
        while ask(url, "sum(increase(eurosat_predictions_total[1m]))") in ([], ["0"]):
            assert time.monotonic() < deadline
            service.predict(jpeg(patches["Forest_1"]))
            service.predict(b"no picture")
            time.sleep(0.5)
        yield url
    finally:
        process.terminate()
        process.wait(30)


def ask(url: str, expression: str) -> list[str]:
    """The values of a query; a Prometheus that does not answer yet has none."""
    try:
        answer = requests.get(f"{url}/api/v1/query", params={"query": expression}, timeout=10)
    except requests.ConnectionError:
        return []
    assert answer.status_code == 200, answer.text
    return [series["value"][1] for series in answer.json()["data"]["result"]]


def panels() -> list[dict[str, Any]]:
    dashboard = json.loads((GRAFANA / "dashboards" / "service.json").read_text())
    return list(dashboard["panels"])


def queries() -> list[str]:
    return [target["expr"] for panel in panels() for target in panel["targets"]]


@pytest.mark.parametrize("expression", queries())
def test_every_query_of_the_dashboard_has_an_answer(expression: str, prometheus: str) -> None:
    found = ask(prometheus, expression.replace("$__rate_interval", "1m"))
    if "5.." in expression:  # Before the first failure, there is no series of failures.
        assert all(0 <= float(value) <= 1 for value in found)
    else:
        assert found


def test_the_dashboard_is_what_its_script_makes(make_dashboard: ModuleType) -> None:
    pytest.importorskip("grafana_foundation_sdk")
    assert make_dashboard.render() == make_dashboard.PATH.read_text("utf-8")


def test_every_panel_asks_the_provisioned_data_source() -> None:
    settings = yaml.safe_load(
        Path(GRAFANA, "provisioning", "datasources", "prometheus.yaml").read_text("utf-8")
    )
    (source,) = settings["datasources"]
    for panel in panels():
        assert panel["datasource"] == {"type": source["type"], "uid": source["uid"]}
