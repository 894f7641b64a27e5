"""Starting a sweep and its agents, as far as that goes without W&B's server."""

from pathlib import Path

import pytest

from eurosat.cli import main
from eurosat.sweeps.agents import run_agents
from tests.conftest import CONFIGS, REPOSITORY

pytest.importorskip("wandb")

NO_SERVER = {
    "WANDB_API_KEY": 40 * "0",
    "WANDB_BASE_URL": "http://127.0.0.1:9",
}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give a file to start a sweep"),
        (
            ["--sweep_id=a/b/c", str(CONFIGS / "sweeps" / "random.yaml")],
            "give a file to start a sweep",
        ),
        (["--sweep_id=a/b/c", "--check=true"], "--check checks a file: give a file"),
        (["--sweep_id=a/b/c", "--count=0"], "--count must be 1 or more"),
        (["--sweep_id=a/b/c/d"], "--sweep_id must be ENTITY/PROJECT/ID, got 'a/b/c/d'"),
        (["--sweep_id=c"], "--sweep_id must be ENTITY/PROJECT/ID, got 'c'"),
    ],
)
def test_mistakes_in_usage_are_named(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sweep", *arguments]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.process
@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({}, "this machine has no W&B account"),
        ({"WANDB_MODE": "offline"}, "W&B works offline, and a sweep needs W&B's server"),
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


@pytest.mark.process
def test_an_agent_that_fails_is_reported(
    wandb_settings: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in (NO_SERVER | {"WANDB_HTTP_TIMEOUT": "2"}).items():
        monkeypatch.setenv(name, value)
    assert run_agents("a/b/c", devices=[], count=1) == {"cpu": 1}
