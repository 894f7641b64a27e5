"""The files of the alert rules and dashboards: ``python -m eurosat.monitoring.files``.

Run the command at the top of the repository after a change of the rules or of the panels. The
command needs the package grafana-foundation-sdk, which ``pip install -e '.[dev]'`` installs.
"""

from pathlib import Path

from eurosat.monitoring.alert_files import alert_policies, prometheus_rules
from eurosat.monitoring.dashboards.cloud_monitoring import cloud_monitoring_json
from eurosat.monitoring.dashboards.grafana import grafana_json
from eurosat.monitoring.dashboards.panels import DASHBOARDS


def monitoring_files() -> dict[str, str]:
    """Render all files; the keys are paths in the repository."""
    files = {"docker/alerts.yaml": prometheus_rules()}
    for name, policy in alert_policies().items():
        files[f"deploy/cloudrun/alerts/{name}.json"] = policy
    for board in DASHBOARDS:
        files[f"docker/grafana/dashboards/{board.name}.json"] = grafana_json(board)
        files[f"deploy/cloudrun/dashboards/{board.name}.json"] = cloud_monitoring_json(board)
    return files


def write(repository: Path) -> None:
    """Write all files, and remove the files of rules and dashboards that no longer exist."""
    files = monitoring_files()
    for folder in {Path(name).parent for name in files} - {Path("docker")}:
        for path in (repository / folder).glob("*.json"):
            path.unlink()
    for name, text in files.items():
        (repository / name).parent.mkdir(parents=True, exist_ok=True)
        (repository / name).write_text(text, "utf-8", newline="\n")


if __name__ == "__main__":
    write(Path())
