"""The sweeps as W&B runs them: its engine suggests, its agent starts the very command."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import CONFIGS, REPOSITORY, TINY, wandb_without_account
from tests.tracked import tracked_runs

pytestmark = pytest.mark.process

SWEEPS = sorted(path.name for path in (CONFIGS / "sweeps").glob("*.yaml"))
QUICK = (
    *(option for option in TINY if "batch_size" not in option),
    "--data.num_workers=0",
    "--model.pretrained=false",  # the published weights need the network
    "--trainer.max_epochs=2",
)
"""What makes the command of any sweep a matter of seconds."""
SMALL_BACKBONES = {
    "fast.yaml": '{"stem_width": 8, "widths": [8, 16]}',
    "resnet.yaml": '{"layers": [1, 1, 1, 1]}',
}
"""Arguments of a small backbone of the kind that a configuration trains, by configuration."""


@pytest.fixture(scope="session")
def engine() -> Callable[..., dict[str, Any]]:
    """W&B's engine: takes a sweep and its runs, says what it would do next."""
    python = os.environ.get("EUROSAT_SWEEPS_PYTHON", REPOSITORY / ".venv-sweeps/bin/python")
    found = Path(python).exists() and subprocess.run(
        [python, "-c", "import sweeps"], capture_output=True, check=False
    )
    if not found or found.returncode:
        pytest.skip(f"{python} has no W&B sweeps engine: 'make test' makes one, up to Python 3.12")

    def ask(config: dict[str, Any], runs: list[dict[str, Any]], count: int = 1) -> dict[str, Any]:
        answered = subprocess.run(
            [python, Path(__file__).with_name("engine.py")],
            input=json.dumps({"config": config, "runs": runs, "count": count}),
            # Nothing of this project's environment may reach that one.
            env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
            capture_output=True,
            text=True,
            check=True,
        )
        answer: dict[str, Any] = json.loads(answered.stdout)
        return answer

    return ask


def definition(name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((CONFIGS / "sweeps" / name).read_text())
    return content


def past_runs(config: dict[str, Any]) -> list[dict[str, Any]]:
    """Runs at the lower ends of the parameters and at the upper ones; one of them failed."""
    ends = [
        {
            name: {"value": (parameter.get("values") or [parameter["min"], parameter["max"]])[end]}
            for name, parameter in config["parameters"].items()
        }
        for end in (0, -1)
    ]
    accuracies = [[0.6, 0.7, 0.8], [0.7, 0.8, 0.9], [0.1, 0.1, 0.1]]
    return [
        {
            "name": f"run {number}",
            "state": "failed" if number == 2 else "finished",
            "config": ends[number % 2],
            "summary_metrics": {"val/accuracy": accuracy[-1]},
            "history": [{"val/accuracy": value} for value in accuracy],
        }
        for number, accuracy in enumerate(accuracies)
    ]


def allowed(parameter: dict[str, Any], value: Any) -> bool:
    if "values" in parameter:
        return value in parameter["values"]
    return bool(parameter["min"] <= value <= parameter["max"])


@pytest.fixture
def agent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store_root: Path
) -> Iterator[Callable[..., "subprocess.Popen[bytes]"]]:
    """Lets W&B's own agent start a run of a sweep, offline."""
    wandb_agent = pytest.importorskip("wandb.wandb_agent")
    with pytest.MonkeyPatch.context() as environment:
        # The agent writes into the environment of its process.
        for name in ("WANDB_RUN_ID", "WANDB_SWEEP_PARAM_PATH"):
            environment.setenv(name, "")
        for name, value in wandb_without_account(tmp_path / "home").items():
            environment.setenv(name, value)
        environment.setenv("WANDB_DIR", str(tmp_path))
        environment.setenv("WANDB_SWEEP_ID", "a1b2c3d4")
        environment.setenv("PYTHONPATH", str(REPOSITORY))
        binaries = Path(sys.executable).parent  # `eurosat` is there, as for `eurosat sweep`
        environment.setenv("PATH", f"{binaries}{os.pathsep}{os.environ['PATH']}")
        environment.chdir(REPOSITORY)
        started = []

        def start(config: dict[str, Any], values: dict[str, Any], *options: str) -> Any:
            runner = wandb_agent.Agent(api=None, queue=None, sweep_id="a1b2c3d4")
            places = (f"--data.root={store_root}", f"--output_root={tmp_path / 'outputs'}")
            (small,) = (
                f"--model.backbone_args={arguments}"
                for name, arguments in SMALL_BACKBONES.items()
                if f"--config=configs/{name}" in config["command"]
            )
            runner._sweep_command = [*config["command"], *QUICK, small, *places, *options]
            runner._command_run({"run_id": "r1", "program": config["program"], "args": values})
            started.append(runner._run_processes["r1"])
            return runner

        yield start
        for process in started:
            if process.poll() is None:
                process.kill()
                process.wait()


@pytest.mark.parametrize("name", SWEEPS)
def test_the_suggested_run_is_executed_and_reports_the_metric(
    name: str,
    engine: Callable[..., dict[str, Any]],
    agent: Callable[..., Any],
    tmp_path: Path,
) -> None:
    config = definition(name)
    answer = engine(config, past_runs(config))
    assert answer["violations"] == []
    (suggested,) = answer["suggested"]
    assert set(suggested) == set(config["parameters"])
    for setting, parameter in config["parameters"].items():
        assert allowed(parameter, suggested[setting]["value"])
    (process,) = agent(config, suggested)._run_processes.values()
    assert process.wait(timeout=200) == 0
    (kept,) = tracked_runs(tmp_path)
    assert len(kept.series(config["metric"]["name"])) == 2
    assert kept.summary["status"] == "finished"
    assert not list(tmp_path.rglob("metrics.json"))  # the test part was left alone
    for setting, chosen in suggested.items():
        # As W&B knows it, and as the run was configured.
        assert kept.config[setting] == chosen["value"]
        configured: Any = kept.config
        for part in setting.split("."):
            configured = configured[part]
        assert configured == pytest.approx(chosen["value"])


def test_random_suggestions_differ_and_cover_the_choices(
    engine: Callable[..., dict[str, Any]],
) -> None:
    config = definition("random.yaml")
    suggestions = engine(config, [], count=6)["suggested"]
    rates = {each["model.optimizer.init_args.lr"]["value"] for each in suggestions}
    assert len(rates) == 6
    assert len({each["data.batch_size"]["value"] for each in suggestions}) > 1


@pytest.mark.parametrize("name", [name for name in SWEEPS if "early_terminate" in definition(name)])
def test_hyperband_ends_the_worst_and_spares_the_best(
    name: str, engine: Callable[..., dict[str, Any]]
) -> None:
    config = definition(name)
    looks = config["early_terminate"]["min_iter"]
    runs = [
        {
            "name": str(number),
            "state": "running",
            "config": past_runs(config)[0]["config"],
            "history": [{"val/accuracy": 0.1 * number, "epoch": i} for i in range(looks)],
        }
        for number in range(9)
    ]
    stopped = engine(config, runs)["stopped"]
    assert "0" in stopped
    assert not {"6", "7", "8"} & set(stopped)
    for run in runs:
        run["history"] = run["history"][:-1]  # it is too early to tell
    assert engine(config, runs)["stopped"] == []


def test_a_run_that_hyperband_ends_is_no_failure_of_the_agent(
    agent: Callable[..., Any], tmp_path: Path
) -> None:
    config = definition("random.yaml")
    values = {"model.label_smoothing": {"value": 0.1}}
    runner = agent(config, values, "--trainer.max_epochs=100000")
    (process,) = runner._run_processes.values()
    deadline = time.monotonic() + 100
    while not any("val/" in path.read_text() for path in tmp_path.rglob("metrics.csv")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    runner._command_stop({"run_id": "r1"})
    # The agent counts exit codes above 0 as failures, and gives up after a few.
    assert process.wait(timeout=60) == -signal.SIGTERM
    (kept,) = tracked_runs(tmp_path)
    assert kept.summary["status"] == "terminated"
    assert kept.series("val/accuracy")
