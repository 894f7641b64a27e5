"""Runs that are ended from outside."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.breaking import ENVIRONMENT
from tests.conftest import CONFIGS, SMALL_MODEL, TINY, wandb_without_account
from tests.tracked import tracked_runs

pytestmark = pytest.mark.process

TWO_PROCESSES = ("--trainer.devices=2", "--trainer.strategy=ddp")


def wait_for(condition: Callable[[], bool], process: "subprocess.Popen[bytes]") -> None:
    """Wait until a condition holds, but not for a process that has ended."""
    deadline = time.monotonic() + 100
    while not condition():
        assert process.poll() is None, "the run has ended by itself"
        assert time.monotonic() < deadline
        time.sleep(0.05)


def validated(folder: Path) -> bool:
    """Whether a run below a folder has finished an epoch."""
    return any("val/" in path.read_text() for path in folder.glob("outputs/*/*/metrics.csv"))


def has_record(folder: Path) -> bool:
    """Whether a run below a folder has begun."""
    return any(folder.glob("outputs/*/*/run.json"))


def processes_in(folder: Path) -> list[int]:
    """The processes that work in a folder."""
    found = []
    for link in Path("/proc").glob("[0-9]*/cwd"):
        try:
            if link.readlink() == folder:
                found.append(int(link.parent.name))
        except OSError:  # it has ended, or is another user's
            continue
    return found


@pytest.mark.skipif(not Path("/proc/self/cwd").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize(
    ("number", "options", "moment", "exit_code", "ended"),
    [
        # W&B's agent takes a positive exit code for a failure, but not death by its own signal.
        (signal.SIGTERM, (), validated, -signal.SIGTERM, "terminated"),
        (signal.SIGTERM, (), has_record, -signal.SIGTERM, "terminated"),
        (signal.SIGTERM, TWO_PROCESSES, validated, -signal.SIGTERM, "terminated"),
        (signal.SIGINT, (), validated, 1, "interrupted"),
    ],
    ids=["SIGTERM", "SIGTERM at the start", "SIGTERM to two processes", "Ctrl-C"],
)
def test_a_run_ended_from_outside_says_so_and_leaves_no_process(
    number: int,
    options: tuple[str, ...],
    moment: Callable[[Path], bool],
    exit_code: int,
    ended: str,
    tmp_path: Path,
    store_root: Path,
) -> None:
    pytest.importorskip("wandb")
    command = [sys.executable, "-m", "eurosat", "fit", *TINY, *SMALL_MODEL, *options]
    command += [f"--config={CONFIGS / 'logger' / 'wandb.yaml'}", f"--data.root={store_root}"]
    process = subprocess.Popen(
        [*command, "--trainer.max_epochs=100000"],
        cwd=tmp_path,
        env=os.environ | wandb_without_account(tmp_path / "home"),
    )
    wait_for(lambda: moment(tmp_path), process)
    process.send_signal(number)
    assert process.wait(timeout=60) == exit_code
    (record,) = tmp_path.glob("outputs/*/*/run.json")
    assert json.loads(record.read_text())["status"] == ended
    (kept,) = tracked_runs(tmp_path)
    assert kept.exit_code == 255  # W&B: killed
    assert kept.tags == {ended}
    assert kept.summary["status"] == ended
    deadline = time.monotonic() + 20
    while processes_in(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not processes_in(tmp_path)


def test_a_run_that_is_killed_outright_has_left_what_it_was(
    tmp_path: Path, store_root: Path
) -> None:
    command = [sys.executable, "-m", "eurosat", "fit", *TINY, *SMALL_MODEL]
    command += [f"--data.root={store_root}", "--trainer.max_epochs=100000"]
    process = subprocess.Popen(command, cwd=tmp_path)
    wait_for(lambda: has_record(tmp_path), process)
    process.kill()
    process.wait(timeout=60)
    (record,) = tmp_path.glob("outputs/*/*/run.json")
    card = json.loads(record.read_text())
    assert card["status"] == "running"
    assert card["data"]["fingerprint"]
    assert card["git"]


def test_a_signal_in_the_last_batch_of_the_test_counts(tmp_path: Path, store_root: Path) -> None:
    command = [sys.executable, "-m", "eurosat", "fit", *TINY, *SMALL_MODEL]
    command += [f"--data.root={store_root}"]
    command += ["--trainer.callbacks=tests.breaking.TerminatedInLastTestBatch"]
    ended = subprocess.run(command, cwd=tmp_path, env=ENVIRONMENT, timeout=300)
    assert ended.returncode == -signal.SIGTERM
    (record,) = tmp_path.glob("outputs/*/*/run.json")
    assert json.loads(record.read_text())["status"] == "terminated"
