"""Starting a sweep and its agents, as far as that goes without W&B's server."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from eurosat.cli import main
from eurosat.sweeps.agents import run_agents, supervise
from tests.conftest import CONFIGS, REPOSITORY

pytest.importorskip("wandb")

NO_SERVER = {
    "WANDB_API_KEY": 40 * "0",
    "WANDB_BASE_URL": "http://127.0.0.1:9",
    "WANDB_HTTP_TIMEOUT": "2",
}
NOTE_DEVICE = (
    "import os, pathlib, shutil, sys\n"
    "device = os.environ.get('CUDA_VISIBLE_DEVICES', 'none')\n"
    "pathlib.Path(device).write_text(os.environ['PATH'])\n"
)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give either a file"),
        (["--sweep_id=a/b/c", str(CONFIGS / "sweeps" / "random.yaml")], "give either a file"),
        (["--sweep_id=a/b/c", "--count=0"], "--count must be 1 or more"),
    ],
)
def test_mistakes_in_usage_are_named(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sweep", *arguments]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({}, "there is no account here: run 'wandb login'"),
        ({"WANDB_MODE": "offline"}, "W&B is set to offline: unset WANDB_MODE"),
        (NO_SERVER, "Failed to authenticate with http://127.0.0.1:9"),
    ],
    ids=["no account", "offline", "no server"],
)
@pytest.mark.parametrize("start", ["file", "sweep_id"])
def test_without_the_server_a_sweep_ends_with_a_named_error(
    start: str,
    environment: dict[str, str],
    message: str,
    wandb_settings: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(REPOSITORY)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    file = str(CONFIGS / "sweeps" / "random.yaml")
    assert main(["sweep", *([file] if start == "file" else ["--sweep_id=a/b/c"])]) == 2
    error = capsys.readouterr().err
    assert "eurosat sweep: error: " in error
    assert message in error


def test_an_agent_that_fails_is_reported(
    wandb_settings: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in NO_SERVER.items():
        monkeypatch.setenv(name, value)
    assert run_agents("a/b/c", devices=[], count=1) == {"cpu": 1}


def test_each_gpu_has_a_process_that_sees_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    command = [sys.executable, "-c", NOTE_DEVICE + "sys.exit(device == '3')"]
    assert supervise(command, ["1", "3"]) == {"1": 0, "3": 1}
    assert supervise(command, []) == {"cpu": 0}
    assert {path.name for path in tmp_path.iterdir()} == {"1", "3", "none"}
    # A run's command is plain `eurosat`: it must be the one that belongs to this Python.
    assert (tmp_path / "1").read_text().startswith(f"{Path(sys.executable).parent}{os.pathsep}")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ending_a_sweep_ends_every_agent(number: int, tmp_path: Path) -> None:
    agent = NOTE_DEVICE + "import time\ntime.sleep(100)"
    code = (
        "import sys; from eurosat.sweeps.agents import supervise\n"
        f"print(supervise([sys.executable, '-c', {agent!r}], ['0', '1']))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 30
    while not all((tmp_path / device).exists() for device in "01"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(number)
    shown, _ = process.communicate(timeout=30)
    assert shown.strip() == str({"0": -signal.SIGTERM, "1": -signal.SIGTERM})
