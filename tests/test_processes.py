"""Child processes: one for each device, ended with their parent."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from eurosat.processes import supervise

NOTE_DEVICE = (
    "import os, pathlib, shutil, sys\n"
    "device = os.environ.get('CUDA_VISIBLE_DEVICES', 'none')\n"
    "pathlib.Path(device).write_text(os.environ['PATH'])\n"
)


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
        "import sys; from eurosat.processes import supervise\n"
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
