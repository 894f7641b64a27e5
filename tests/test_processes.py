"""Child processes: one for each device, ended with their parent."""

import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from eurosat.processes import supervise

pytestmark = pytest.mark.process

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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
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


def test_what_is_ignored_stays_so(tmp_path: Path) -> None:
    child = "import os, signal; os.kill(os.getppid(), signal.SIGHUP)"
    code = (
        "import signal, sys; from eurosat.processes import supervise\n"
        "signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"  # as nohup does
        f"print(supervise([sys.executable, '-c', {child!r}]))"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE, text=True, timeout=30
    )
    assert shown.stdout.strip() == str({"cpu": 0})


def test_a_process_that_outlives_its_parent_keeps_the_lock(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    child = "import time; print('started', flush=True); time.sleep(2)"
    code = (
        "import fcntl, sys; from eurosat.processes import supervise\n"
        "file = open(sys.argv[1], 'w')\n"
        "fcntl.flock(file, fcntl.LOCK_EX)\n"
        f"supervise([sys.executable, '-c', {child!r}], locks=[file.fileno()])"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code, str(lock)], cwd=tmp_path, stdout=subprocess.PIPE
    )
    assert parent.stdout is not None
    assert parent.stdout.readline() == b"started\n"
    parent.kill()
    parent.wait()
    with lock.open("w") as file:
        with pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        parent.stdout.read()  # until the child has ended too
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
