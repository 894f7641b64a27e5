"""`eurosat vertex submit`: specs are filled in, checked and refused before anything is sent."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from eurosat.cli import main
from tests.conftest import REPOSITORY

pytest.importorskip("google.cloud.aiplatform_v1")

SPECS = sorted(
    path.name for path in (REPOSITORY / "vertex").glob("*.yaml") if path.name != "settings.yaml"
)
SETTINGS = {"project": "p", "region": "europe-west4", "bucket": "b", "image": "eurosat-train:1"}
OPTIONS = [f"--{name}={value}" for name, value in SETTINGS.items()]


@pytest.fixture(autouse=True)
def in_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)


@pytest.fixture
def changed(tmp_path: Path) -> Callable[..., str]:
    """Write a spec of vertex/ with a change."""

    def write(change: Callable[[dict[str, Any]], object], name: str = "gpu.yaml") -> str:
        content = yaml.safe_load((REPOSITORY / "vertex" / name).read_text())
        change(content)
        path = tmp_path / "job.yaml"
        path.write_text(yaml.safe_dump(content))
        return str(path)

    return write


@pytest.mark.parametrize("name", SPECS)
def test_every_spec_is_what_vertex_ai_takes(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["vertex", "submit", f"vertex/{name}", *OPTIONS, "--dry_run=true"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("parent projects/p/locations/europe-west4\n")
    assert "eurosat-train:1" in shown
    assert "${" not in shown


def test_a_spec_is_filled_in(capsys: pytest.CaptureFixture[str]) -> None:
    options = [*OPTIONS, "--name=run-1", "--service_account=me@p", '--labels={"team": "a"}']
    options += ["--arguments=[--trainer.max_epochs=2]", "--price=0.8", "--hours=3"]
    assert main(["vertex", "submit", "vertex/machines.yaml", *options, "--dry_run=true"]) == 0
    shown = capsys.readouterr().out
    start, end = shown.index("{"), shown.rindex("}") + 1
    job = json.loads(shown[start:end])
    assert job["displayName"] == "run-1"
    assert job["labels"] == {"application": "eurosat", "team": "a"}
    assert job["jobSpec"]["serviceAccount"] == "me@p"
    first, second = job["jobSpec"]["workerPoolSpecs"]
    assert first["machineSpec"]["acceleratorType"] == "NVIDIA_L4"
    arguments = first["containerSpec"]["args"]
    assert arguments == second["containerSpec"]["args"]
    assert "--run_directory=/gcs/b/eurosat/run-1" in arguments
    assert arguments[-1] == "--trainer.max_epochs=2"
    assert "cost   2 machines x 3 h x 0.8 an hour = 4.80" in shown


def test_the_cost_of_an_endpoint_depends_on_its_load(capsys: pytest.CaptureFixture[str]) -> None:
    options = [*OPTIONS, "--price=0.5", "--hours=10", "--dry_run=true"]
    assert main(["vertex", "submit", "vertex/endpoint.yaml", *options]) == 0
    shown = capsys.readouterr().out
    assert "cost   1 to 3 machines x 10 h x 0.5 an hour = 5.00 to 15.00" in shown


@pytest.mark.parametrize("missing", ["project", "region", "bucket", "image"])
def test_what_is_missing_is_named(missing: str, capsys: pytest.CaptureFixture[str]) -> None:
    options = [f"--{name}={value}" for name, value in SETTINGS.items() if name != missing]
    assert main(["vertex", "submit", "vertex/gpu.yaml", *options, "--dry_run=true"]) == 2
    assert f"needs {missing}: pass --{missing}" in capsys.readouterr().err


def drop_pools(content: dict[str, Any]) -> None:
    content["spec"]["jobSpec"]["workerPoolSpecs"] = []


def add_pools(content: dict[str, Any]) -> None:
    content["spec"]["jobSpec"]["workerPoolSpecs"] *= 3


def edit(**changes: Any) -> Callable[[dict[str, Any]], None]:
    """Change the first pool."""

    def change(content: dict[str, Any]) -> None:
        content["spec"]["jobSpec"]["workerPoolSpecs"][0].update(changes)

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda spec: spec.update(kind="Job"), "the kind Job is unknown"),
        (lambda spec: spec.update(machine="a"), "unknown keys machine"),
        (lambda spec: spec.pop("spec"), "no mapping 'spec'"),
        (lambda spec: spec["spec"].update(displayname="a"), "CustomJob does not take this"),
        (lambda spec: spec["spec"].update(displayName="${nam}"), "unknown placeholder ${nam}"),
        (lambda spec: spec.update(hours="soon"), "hours is soon, and must be a number"),
        (edit(machineSpec={"acceleratorCount": "two"}), "CustomJob does not take this"),
        (drop_pools, "the job would have no machine"),
        (add_pools, "only the first two train"),
        (edit(replicaCount=2), "the first pool of Vertex AI has one machine"),
        (edit(replicas=2), "CustomJob does not take this"),
        (edit(machineSpec={"machineType": "n9-huge"}), "no machine type of Vertex AI"),
        (edit(machineSpec={"machineType": "g2-standard-8"}), "has 1 NVIDIA_L4"),
        (
            edit(
                machineSpec={
                    "machineType": "n1-standard-8",
                    "acceleratorType": "NVIDIA_L4",
                    "acceleratorCount": 1,
                }
            ),
            "n1-standard-8 does not take 1 NVIDIA_L4",
        ),
        (
            edit(
                machineSpec={
                    "machineType": "e2-standard-8",
                    "acceleratorType": "NVIDIA_TESLA_T4",
                    "acceleratorCount": 1,
                }
            ),
            "e2-standard-8 takes no accelerator",
        ),
    ],
)
def test_a_wrong_spec_is_refused(
    change: Callable[[dict[str, Any]], object],
    message: str,
    changed: Callable[..., str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["vertex", "submit", changed(change), *OPTIONS, "--dry_run=true"]) == 2
    assert message in capsys.readouterr().err


def args(*changes: str, drop: str = " ") -> Callable[[dict[str, Any]], None]:
    """Change the arguments of the command in the container."""

    def change(content: dict[str, Any]) -> None:
        container = content["spec"]["jobSpec"]["workerPoolSpecs"][0]["containerSpec"]
        kept = [argument for argument in container["args"] if not argument.startswith(drop)]
        container["args"] = [*kept, *changes]

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (args("--trainer.epochs=5"), "'eurosat fit' refuses the arguments of"),
        (args("--config=configs/none.yaml"), "'eurosat fit' refuses the arguments of"),
        (args("--trainer.num_nodes=2"), "the job has 1 machines and the run uses 2"),
        (args("--trainer.devices=2"), "the run asks for 2 GPUs and the machine has 1"),
        (args(drop="--run_directory"), "the run folder outputs is on the disk of the machine"),
        (
            edit(machineSpec={"machineType": "n1-highcpu-16"}),
            "the run asks for a GPU and the machine has none",
        ),
        (args(drop="--trainer.accelerator"), None),
    ],
)
def test_arguments_are_checked_by_the_command_that_gets_them(
    change: Callable[[dict[str, Any]], object],
    message: str | None,
    changed: Callable[..., str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    code = main(["vertex", "submit", changed(change), *OPTIONS, "--dry_run=true"])
    assert code == (0 if message is None else 2)
    assert message is None or message in capsys.readouterr().err


def study(**changes: Any) -> Callable[[dict[str, Any]], None]:
    """Change the search of vertex/tuning.yaml."""
    return lambda content: content["spec"]["studySpec"].update(changes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (study(metrics=[{"metricId": "accuracy"}]), "no trial reports the metric accuracy"),
        (
            study(metrics=[{"metricId": "val_loss", "goal": "MAXIMIZE"}]),
            "looks for the worst val_loss: set the goal to MINIMIZE",
        ),
        (study(parameters=[]), "all trials would be the same"),
        (study(parameters=[{"parameterId": "model.lr"}]), "model.lr has no values"),
        (
            study(
                parameters=[
                    {
                        "parameterId": "model.smoothing",
                        "doubleValueSpec": {"minValue": 0.0, "maxValue": 0.2},
                    }
                ]
            ),
            "model.smoothing",
        ),
        (
            study(
                parameters=[
                    {
                        "parameterId": "data.batch_size",
                        "categoricalValueSpec": {"values": ["32", "many"]},
                    }
                ]
            ),
            "data.batch_size",
        ),
    ],
)
def test_a_search_is_checked_with_its_first_and_last_values(
    change: Callable[[dict[str, Any]], object],
    message: str,
    changed: Callable[..., str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    spec = changed(change, "tuning.yaml")
    assert main(["vertex", "submit", spec, *OPTIONS, "--dry_run=true"]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "message"),
    [("projct: p", "projct is no setting"), ("labels: 3", "Expected `object`"), ("- a", "")],
)
def test_wrong_settings_are_refused(
    content: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(content)
    arguments = ["vertex", "submit", "vertex/gpu.yaml", f"--settings={path}", *OPTIONS]
    assert main([*arguments, "--dry_run=true"]) == 2
    error = capsys.readouterr().err
    assert f"{path} cannot be used" in error
    assert message in error


def test_settings_that_are_named_must_exist(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["vertex", "submit", "vertex/gpu.yaml", "--settings=none.yaml", *OPTIONS]
    assert main([*arguments, "--dry_run=true"]) == 2
    assert "none.yaml cannot be used" in capsys.readouterr().err


def test_a_name_that_vertex_ai_refuses_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["vertex", "submit", "vertex/gpu.yaml", *OPTIONS, "--name=Run_1"]
    assert main([*arguments, "--dry_run=true"]) == 2
    assert "'Run_1' cannot be a job's name" in capsys.readouterr().err


def test_without_credentials_nothing_is_sent(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    arguments = ["vertex", "submit", "vertex/endpoint.yaml", *OPTIONS]
    assert main(arguments) == 2
    assert "there are no usable credentials" in capsys.readouterr().err
