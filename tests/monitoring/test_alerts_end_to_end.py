"""Alerts of every kind, through real Prometheus and Alertmanager to a webhook, and back.

The rules are those that are shipped with all times divided by 60, and so is Alertmanager's
configuration with the times of its groups shortened.
"""

import json
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from eurosat.monitoring.alert_files import prometheus_rules
from eurosat.monitoring.alerts import rules
from tests.conftest import REPOSITORY
from tests.monitoring.metrics import Exporter
from tests.serving.conftest import free_port

pytestmark = [pytest.mark.process, pytest.mark.long]


class Webhook:
    """The receiver of Alertmanager's notifications."""

    def __init__(self) -> None:
        self.states: dict[str, str] = {}
        """The last state of every alert, firing or resolved."""
        self.receivers: dict[str, str] = {}
        """The receiver that Alertmanager chose for every alert."""
        webhook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                text = self.rfile.read(int(self.headers["Content-Length"]))
                notification: dict[str, Any] = json.loads(text)
                for alert in notification["alerts"]:
                    name = alert["labels"]["alertname"]
                    webhook.states[name] = alert["status"]
                    webhook.receivers[name] = notification["receiver"]
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def kinds(self, state: str) -> set[str]:
        """The kinds of the rules with an alert in a state."""
        return {rule.kind for rule in rules() if self.states.get(rule.name) == state}


@pytest.fixture
def exporter() -> Iterator[Exporter]:
    exporter = Exporter()
    yield exporter
    exporter.end()


@pytest.fixture
def webhook(exporter: Exporter, tmp_path: Path) -> Iterator[Webhook]:
    """The webhook behind Alertmanager behind Prometheus, which reads the exporter."""
    programs = {
        "prometheus": shutil.which("prometheus"),
        "alertmanager": shutil.which("prometheus-alertmanager") or shutil.which("alertmanager"),
    }
    for name, program in programs.items():
        if program is None:
            pytest.skip(
                f"needs {name}, of Debian's packages prometheus and prometheus-alertmanager"
            )
    webhook = Webhook()
    manager_port = free_port()
    manager = yaml.safe_load((REPOSITORY / "docker" / "alertmanager.yaml").read_text())
    manager["route"] |= {"group_wait": "1s", "group_interval": "1s"}
    for receiver in manager["receivers"]:
        receiver["webhook_configs"] = [{"url": webhook.url, "send_resolved": True}]
    (tmp_path / "alertmanager.yaml").write_text(yaml.safe_dump(manager))
    settings = yaml.safe_load((REPOSITORY / "docker" / "prometheus.yaml").read_text())
    settings["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    manager_targets = [{"targets": [f"127.0.0.1:{manager_port}"]}]
    settings["alerting"] = {"alertmanagers": [{"static_configs": manager_targets}]}
    settings["scrape_configs"] = settings["scrape_configs"][:1]
    targets = [{"targets": [f"127.0.0.1:{exporter.port}"]}]
    settings["scrape_configs"][0]["static_configs"] = targets
    (tmp_path / "prometheus.yaml").write_text(yaml.safe_dump(settings))
    (tmp_path / "alerts.yaml").write_text(prometheus_rules(speed=60))
    commands = {
        "alertmanager": [
            f"--config.file={tmp_path / 'alertmanager.yaml'}",
            f"--storage.path={tmp_path / 'alertmanager'}",
            f"--web.listen-address=127.0.0.1:{manager_port}",
            "--cluster.listen-address=",
        ],
        "prometheus": [
            f"--config.file={tmp_path / 'prometheus.yaml'}",
            f"--storage.tsdb.path={tmp_path / 'prometheus'}",
            f"--web.listen-address=127.0.0.1:{free_port()}",
        ],
    }
    with ExitStack() as running:
        running.callback(webhook.server.shutdown)
        for name, arguments in commands.items():
            log = running.enter_context((tmp_path / f"{name}.log").open("wb"))
            command = [str(programs[name]), *arguments]
            process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
            running.callback(process.wait, 30)
            running.callback(process.terminate)
        yield webhook


def wait_until(check: Callable[[], bool], webhook: Webhook, seconds: float = 180) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, webhook.states
        time.sleep(0.2)


def test_alerts_of_every_kind_fire_and_resolve(exporter: Exporter, webhook: Webhook) -> None:
    time.sleep(10)
    assert webhook.states == {}  # with healthy traffic
    kinds = {"availability", "latency", "processes", "log", "drift", "ood"}
    exporter.failing = exporter.slow = exporter.unusual = 0.5
    exporter.dropping = True
    exporter.drift.set(1)
    for _ in range(4):  # Prometheus sees the exits in several scrapes
        exporter.exits.inc()
        time.sleep(1.5)
    wait_until(lambda: webhook.kinds("firing") >= kinds, webhook)
    assert webhook.receivers["EurosatAvailabilityBurnsFast"] == "page"
    assert webhook.receivers["EurosatProcessExits"] == "page"
    assert webhook.receivers["EurosatDrift"] == "ticket"
    assert "EurosatSilence" not in webhook.states

    exporter.failing = exporter.slow = exporter.unusual = 0
    exporter.dropping = False
    exporter.drift.set(0)
    ended = {"EurosatAvailabilityBurnsFast", "EurosatLatencyBurnsFast", "EurosatProcessExits"}
    ended |= {"EurosatLogDrops", "EurosatDrift", "EurosatOutOfDistribution"}
    wait_until(lambda: all(webhook.states.get(name) == "resolved" for name in ended), webhook)

    exporter.close()
    wait_until(lambda: webhook.states.get("EurosatSilence") == "firing", webhook)
    exporter.open()
    wait_until(lambda: webhook.states["EurosatSilence"] == "resolved", webhook)
