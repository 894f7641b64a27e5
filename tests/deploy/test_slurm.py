"""The SLURM script, with commands in the place of SLURM's own."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

pytestmark = pytest.mark.process

SCRIPT = REPOSITORY / "deploy" / "slurm" / "fit.sbatch"
TRAINING = """#!/bin/bash
echo "$@" > arguments
trap 'exit {code}' TERM
echo $$ > training
{saves}
while true; do sleep 0.05; done
"""
"""Stands for srun: trains until SLURM's signal."""


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str]]:
    """Run the script up to the time limit, and return its exit code and its errors."""
    monkeypatch.chdir(tmp_path)

    def run(code: int = 143, saves: bool = True, **variables: str) -> tuple[int, str]:
        folder = (
            f"{variables.get('RUNS', 'outputs/slurm')}/{variables.get('RUN', '17')}/checkpoints"
        )
        save = f"mkdir -p {folder}; touch {folder}/last.ckpt" if saves else ""
        commands = {
            "srun": TRAINING.format(code=code, saves=save),
            "scancel": '#!/bin/bash\nkill -TERM "$(cat training)"\n',
            "scontrol": '#!/bin/bash\necho "$@" > scontrol\n',
        }
        for name, content in commands.items():
            path = tmp_path / "bin" / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(content)
            path.chmod(0o755)
        environment = {
            **os.environ,
            "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
            **{"SLURM_JOB_ID": "17", "SLURM_NNODES": "2", "SLURM_NTASKS_PER_NODE": "4"},
            **variables,
        }
        command = ["bash", SCRIPT, "--config", "configs/fast.yaml"]
        with subprocess.Popen(
            command, env=environment, stderr=subprocess.PIPE, text=True
        ) as process:
            while not (tmp_path / "training").is_file():
                time.sleep(0.02)
            time.sleep(0.2)
            process.send_signal(signal.SIGUSR1)  # SLURM's signal to the script
            _, errors = process.communicate(timeout=30)
        return process.returncode, errors

    return run


def test_a_job_at_its_time_limit_is_requeued(job: Callable[..., tuple[int, str]]) -> None:
    code, _ = job()
    assert code == 143
    assert Path("scontrol").read_text("utf-8") == "requeue 17\n"
    arguments = Path("arguments").read_text("utf-8")
    assert "--resume auto --run_directory outputs/slurm/17 --trainer.num_nodes 2" in arguments
    assert arguments.endswith("--config configs/fast.yaml\n")  # may override the script's


def test_a_job_with_gpus_asks_for_them(job: Callable[..., tuple[int, str]]) -> None:
    code, _ = job(SLURM_GPUS_ON_NODE="4")
    assert code == 143
    assert "--trainer.accelerator gpu --config" in Path("arguments").read_text("utf-8")


def test_a_job_without_progress_is_not_requeued(job: Callable[..., tuple[int, str]]) -> None:
    code, errors = job(saves=False)
    assert code == 143
    assert not Path("scontrol").exists()
    assert "The job is not requeued: no epoch ended within the time limit" in errors


def test_an_error_is_not_requeued(job: Callable[..., tuple[int, str]]) -> None:
    code, _ = job(code=2)
    assert code == 2
    assert not Path("scontrol").exists()


def test_a_new_job_continues_the_run_of_another(job: Callable[..., tuple[int, str]]) -> None:
    code, _ = job(RUN="12", RUNS="runs")
    assert code == 143
    assert "--run_directory runs/12 " in Path("arguments").read_text("utf-8")
