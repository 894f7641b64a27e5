"""The folders of runs."""

import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from lightning.pytorch.utilities import rank_zero_only

from eurosat.cli import main
from eurosat.training.run_folder import reserve_folder
from tests.conftest import SMALL_MODEL, TINY, Run, files_in


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


def test_the_first_process_alone_asks_whether_its_folder_is_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """torchrun starts all processes with the same options, and the first may be ahead."""
    (tmp_path / "run.json").write_text("{}")
    arguments = [*TINY, *SMALL_MODEL, f"--run_directory={tmp_path}", "--model.backbone=resnet19"]
    for rank, reason in ((0, "exists and is not empty"), (1, "no model 'resnet19'")):
        monkeypatch.setattr(rank_zero_only, "rank", rank)
        assert main(["fit", *arguments]) == 2
        (error,) = re.findall("eurosat fit: error: .*", capsys.readouterr().err)
        assert reason in error
    assert files_in(tmp_path) == {"run.json"}


@pytest.mark.process
def test_processes_that_torchrun_starts_share_one_folder(tmp_path: Path, store_root: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command += ["-m", "eurosat", "fit", *TINY, *SMALL_MODEL, f"--data.root={store_root}"]
    command += ["--trainer.devices=2", "--trainer.strategy=ddp"]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=300)
    (folder,) = tmp_path.glob("outputs/*/*")
    assert Run(folder).json("run.json")["hardware"]["devices"] == 2
    assert Run(folder).json("metrics.json")
