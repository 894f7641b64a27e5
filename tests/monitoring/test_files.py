"""The shipped files of rules and dashboards: current, and valid for the systems that read them."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from eurosat.monitoring.alert_files import alert_policies
from eurosat.monitoring.alerts import ROUTES, rules
from eurosat.monitoring.dashboards.cloud_monitoring import cloud_monitoring_json
from eurosat.monitoring.dashboards.panels import DASHBOARDS
from tests.conftest import REPOSITORY
from tests.monitoring.metrics import LOG_AND_DRIFT
from tests.serving.test_admission import PROTECTED, PUBLIC
from tests.serving.test_metrics import NAMES


def test_the_shipped_files_are_those_of_the_code() -> None:
    pytest.importorskip("grafana_foundation_sdk", reason="needs grafana-foundation-sdk")
    from eurosat.monitoring.files import monitoring_files

    made = monitoring_files()
    for name, text in made.items():
        shipped = (REPOSITORY / name).read_text("utf-8")
        assert shipped == text, f"{name} is old: run `python -m eurosat.monitoring.files`"
    for folder in ("deploy/cloudrun/alerts", "deploy/cloudrun/dashboards"):
        names = {f"{folder}/{path.name}" for path in (REPOSITORY / folder).iterdir()}
        assert names == {name for name in made if name.startswith(folder)}


def test_writing_the_files_removes_those_of_rules_that_are_gone(tmp_path: Path) -> None:
    pytest.importorskip("grafana_foundation_sdk", reason="needs grafana-foundation-sdk")
    from eurosat.monitoring.files import monitoring_files, write

    (tmp_path / "docker").mkdir()
    (tmp_path / "docker" / "other.json").write_text("{}")
    old = tmp_path / "deploy" / "cloudrun" / "alerts" / "EurosatOld.json"
    old.parent.mkdir(parents=True)
    old.write_text("{}")
    write(tmp_path)
    files = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert files == {*monitoring_files(), "docker/other.json"}


@pytest.mark.parametrize("name", alert_policies())
def test_the_client_library_knows_every_field_of_an_alert_policy(name: str) -> None:
    monitoring = pytest.importorskip("google.cloud.monitoring_v3")
    from google.protobuf.json_format import ParseDict

    content = json.loads(alert_policies()[name])
    policy = monitoring.AlertPolicy()
    ParseDict(content, policy._pb)  # refuses unknown fields and wrong types
    (rule,) = (rule for rule in rules() if rule.name == name)
    (condition,) = policy.conditions
    query = condition.condition_prometheus_query_language
    assert query.query == rule.expression
    assert query.duration.total_seconds() == rule.hold_seconds
    assert query.evaluation_interval.total_seconds() % 30 == 0
    for key, value in policy.user_labels.items():
        assert re.fullmatch("[a-z][a-z0-9_-]{0,62}", key)
        assert re.fullmatch("[a-z0-9_-]{1,63}", value)
    # Cloud Monitoring looks back 25 hours at most.
    hours = {"d": 24, "h": 1, "m": 1 / 60, "s": 1 / 3600}
    assert all(int(n) * hours[u] <= 25 for n, u in re.findall(r"\[(\d+)([dhms])\]", query.query))


def test_an_unknown_field_of_an_alert_policy_is_refused() -> None:
    monitoring = pytest.importorskip("google.cloud.monitoring_v3")
    from google.protobuf.json_format import ParseDict, ParseError

    content = json.loads(alert_policies()["EurosatDrift"]) | {"page": True}
    with pytest.raises(ParseError, match="page"):
        ParseDict(content, monitoring.AlertPolicy()._pb)


def test_a_policy_for_silence_is_not_shipped_for_cloud_run() -> None:
    """Cloud Run stops all instances of a service without traffic."""
    assert {rule.name for rule in rules()} - set(alert_policies()) == {"EurosatSilence"}


@pytest.mark.parametrize("board", DASHBOARDS, ids=lambda board: str(board.name))
def test_the_client_library_knows_every_field_of_a_dashboard(board: object) -> None:
    dashboards = pytest.importorskip("google.cloud.monitoring_dashboard_v1")
    from google.protobuf.json_format import ParseDict

    content = json.loads(cloud_monitoring_json(board))  # type: ignore[arg-type]
    ParseDict(content, dashboards.Dashboard()._pb)
    tiles = content["mosaicLayout"]["tiles"]
    taken = [
        (x, y)
        for tile in tiles
        for x in range(tile["xPos"], tile["xPos"] + tile["width"])
        for y in range(tile["yPos"], tile["yPos"] + tile["height"])
    ]
    assert len(taken) == len(set(taken)), "tiles overlap"
    assert max(x for x, _ in taken) < 48


def test_the_objectives_count_the_requests_for_predictions() -> None:
    pattern = ROUTES.removeprefix('route=~"').removesuffix('"')
    counted = {path for path in PUBLIC | PROTECTED if re.fullmatch(pattern, path)}
    assert counted == PROTECTED - {"/info"}
    assert re.fullmatch(pattern, "/vertex/predict")
    assert not re.fullmatch(pattern, "other")


def test_amtool_accepts_the_configuration() -> None:
    if shutil.which("amtool") is None:
        pytest.skip("needs amtool, of Debian's package prometheus-alertmanager")
    path = REPOSITORY / "docker" / "alertmanager.yaml"
    checked = subprocess.run(["amtool", "check-config", path], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr


def test_promtool_accepts_the_configuration() -> None:
    if shutil.which("promtool") is None:
        pytest.skip("needs promtool, of Debian's package prometheus")
    path = REPOSITORY / "docker" / "prometheus.yaml"
    checked = subprocess.run(["promtool", "check", "config", path], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr


def test_compose_gives_prometheus_what_its_configuration_names() -> None:
    compose = yaml.safe_load((REPOSITORY / "docker" / "compose.yaml").read_text())["services"]
    prometheus = yaml.safe_load((REPOSITORY / "docker" / "prometheus.yaml").read_text())
    mounted = {volume.split(":")[1] for volume in compose["prometheus"]["volumes"]}
    assert {f"/etc/prometheus/{name}" for name in prometheus["rule_files"]} <= mounted
    (manager,) = prometheus["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"]
    assert manager.split(":")[0] in compose
    ports = {"service": "8002", "drift": "8001"}
    for job in prometheus["scrape_configs"]:
        (target,) = job["static_configs"][0]["targets"]
        name, port = target.split(":")
        assert ports.pop(name) == port
    assert not ports
    assert "--metrics_port=8002" in compose["service"]["command"]
    assert "127.0.0.1:${DRIFT_PORT:-8001}:8001" in compose["drift"]["ports"]
    (log,) = [word for word in compose["service"]["command"] if word.startswith("--log_url=")]
    assert f"--log={log.removeprefix('--log_url=')}" in compose["drift"]["command"]


def test_the_same_runs_without_containers() -> None:
    """`make monitor` starts the services of compose but Grafana, with the same ports."""
    compose = yaml.safe_load((REPOSITORY / "docker" / "compose.yaml").read_text())["services"]
    lines = (REPOSITORY / "docker" / "Procfile").read_text().splitlines()
    processes = dict(line.split(": ", 1) for line in lines if not line.startswith("#"))
    assert processes.keys() == compose.keys() - {"grafana"}
    for name, command in processes.items():
        (published,) = compose[name]["ports"]
        (variable,) = re.findall(r"\$\{\w+_PORT:-\d+\}", published)
        assert variable in command


def test_rules_and_dashboards_name_only_metrics_that_exist() -> None:
    expressions = [rule.expression for rule in rules()]
    expressions += [q.expression for b in DASHBOARDS for p in b.panels for q in p.queries]
    used = set(re.findall(r"\b(?:eurosat|process)_\w+", " ".join(expressions)))
    known = {re.sub("_bucket$", "", name) for name in NAMES} | LOG_AND_DRIFT
    assert {re.sub("_(bucket|sum|count)$", "", name) for name in used} <= known
    assert used >= LOG_AND_DRIFT  # every result is shown or watched
