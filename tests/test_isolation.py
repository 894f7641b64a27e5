"""The suite depends on nobody's environment."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

pytestmark = pytest.mark.process

STEERING = {
    **{"WANDB_MODE": "online", "WANDB_PROJECT": "x", "MLFLOW_TRACKING_URI": "http://127.0.0.1:9"},
    **{"EUROSAT_API_KEY": "k", "PORT": "99", "AIP_PREDICT_ROUTE": "/x", "RANK": "1"},
    **{"COLUMNS": "40", "FORCE_COLOR": "1", "LANG": "tr_TR.UTF-8", "TZ": "Asia/Tokyo"},
    **{"GIT_DIR": "/nowhere", "PYTHONWARNINGS": "error", "A_LIBRARY_OF_TOMORROW": "on"},
}


def test_what_steers_the_program_does_not_reach_it(tmp_path: Path) -> None:
    (tmp_path / ".gitconfig").write_text("[commit]\n\tgpgsign = true\n")
    code = "import os, tests, subprocess; print(sorted(os.environ)); subprocess.run({})".format(
        ["git", "config", "--list"]
    )
    shown = subprocess.run(
        [sys.executable, "-c", code],
        cwd=REPOSITORY,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)} | STEERING,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "gpgsign" not in shown
    assert "init.defaultbranch=main" in shown
    assert not {name for name in STEERING if name != "TZ" and repr(name) in shown}
    assert [path.name for path in tmp_path.iterdir()] == [".gitconfig"]


def test_what_a_test_sets_reaches_the_processes_that_it_starts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    code = "import tests, os; print(os.environ['WANDB_MODE'], os.environ['HOME'])"
    command = [sys.executable, "-c", code]
    shown = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert shown.stdout.split() == ["offline", os.environ["HOME"]]
    assert Path(os.environ["HOME"]).is_dir()
