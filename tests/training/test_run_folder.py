"""The folders of runs."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from eurosat.cli import main
from eurosat.training.run_folder import reserve_folder
from tests.conftest import SMALL_MODEL, TINY, Run


def test_runs_that_start_together_have_folders_of_their_own(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as pool:
        folders = list(pool.map(reserve_folder, [tmp_path / "tiny"] * 64))
    assert len(set(folders)) == 64
    assert set(folders) == set(tmp_path.glob("tiny/*"))


def test_a_run_that_cannot_begin_leaves_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["fit", *TINY, *SMALL_MODEL, "--model.backbone=resnet19"]) == 2
    assert not list(tmp_path.glob("outputs/*/*"))


@pytest.mark.parametrize("option", ["output_root", "run_directory"])
def test_a_folder_that_cannot_be_written_is_named(
    option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("no folder")
    options = [f"--{option}={tmp_path / 'file' / 'runs'}", "--experiment=tiny"]
    assert main(["fit", *TINY, *SMALL_MODEL, *options]) == 2
    error = capsys.readouterr().err
    assert f"no run folder can be made in {tmp_path / 'file' / 'runs'}" in error
    assert "Not a directory" in error


@pytest.mark.process
def test_processes_that_torchrun_starts_share_one_folder(tmp_path: Path, store_root: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command += ["-m", "eurosat", "fit", *TINY, *SMALL_MODEL, f"--data.root={store_root}"]
    command += ["--trainer.devices=2", "--trainer.strategy=ddp", "--run_directory=outputs/all/one"]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=300)
    command.remove("--run_directory=outputs/all/one")
    subprocess.run([*command, "--experiment=named"], cwd=tmp_path, check=True, timeout=300)
    for experiment in ("all", "named"):
        (folder,) = tmp_path.glob(f"outputs/{experiment}/*")
        assert Run(folder).json("run.json")["hardware"]["devices"] == 2
        assert Run(folder).json("metrics.json")
