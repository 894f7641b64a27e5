"""Runs that are stopped, and go on by the same command with ``--resume auto``."""

import csv
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
import yaml
from filelock import FileLock
from lightning.pytorch.loggers import CSVLogger

from eurosat.cli import main
from eurosat.training.resume import Resumption, discard_repeated, kept_metrics
from tests.breaking import ENVIRONMENT
from tests.conftest import SMALL_MODEL, TINY, Run, wandb_without_account


class Command:
    """A command of ``eurosat fit`` that can be called again and again."""

    def __init__(self, folder: Path, store_root: Path) -> None:
        self.folder = folder
        self.arguments = [*TINY, *SMALL_MODEL, f"--data.root={store_root}", "--resume=auto"]
        self.arguments += ["--experiment=tiny", "--trainer.max_epochs=3"]

    def stop(
        self,
        *options: str,
        number: int = signal.SIGKILL,
        epoch: int = 1,
        workers_too: bool = False,
        inside: Sequence[str] = (),
        code: int | None = None,
    ) -> Run:
        """Start the command in a process that a signal ends in an epoch."""
        settings = json.dumps(
            [
                {
                    "class_path": "tests.breaking.StopsOnce",
                    "init_args": {
                        "number": int(number),
                        "epoch": epoch,
                        "workers_too": workers_too,
                    },
                }
            ]
        )
        self.arguments += [f"--trainer.callbacks={settings}", *options]
        ended = subprocess.run(
            [*inside, sys.executable, "-m", "eurosat", "fit", *self.arguments],
            cwd=self.folder,
            env=ENVIRONMENT | wandb_without_account(self.folder / "home"),
            timeout=300,
            start_new_session=True,
        )
        assert ended.returncode == (-number if code is None else code)
        return self.run

    def again(self, *options: str) -> int:
        """Start the same command again, in this process."""
        return main(["fit", *self.arguments, *options])

    @property
    def run(self) -> Run:
        (folder,) = self.folder.glob("outputs/tiny/*")
        return Run(folder)


@pytest.fixture
def command(tmp_path: Path, store_root: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.chdir(tmp_path)
    return Command(tmp_path, store_root)


@pytest.fixture(scope="session")
def unbroken(train_once: Callable[..., Run]) -> Run:
    """A run of the same settings that nothing stopped."""
    return train_once("unbroken", "--trainer.max_epochs=3")


def rows(run: Run) -> list[dict[str, str]]:
    with (run.folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def epochs_with(run: Run, column: str) -> list[str]:
    """The epochs of the rows of metrics.csv that have a value in a column."""
    return [row["epoch"] for row in rows(run) if row[column]]


@pytest.mark.process
def test_a_killed_run_ends_where_an_unbroken_run_does(command: Command, unbroken: Run) -> None:
    stopped = command.stop()
    configuration = (stopped.folder / "config.yaml").read_bytes()
    assert command.again() == 0
    run = command.run
    assert run.json("metrics.json") == unbroken.json("metrics.json")
    assert run.best.name == unbroken.best.name
    for column in ("train/loss", "val/loss"):
        assert epochs_with(run, column) == epochs_with(unbroken, column) == ["0", "1", "2"]
    assert len(rows(run)) == len(rows(unbroken))
    assert (run.folder / "config.yaml").read_bytes() == configuration
    card = run.json("run.json")
    assert [part["status"] for part in card["parts"]] == ["killed", "finished"]
    assert [part["first_epoch"] for part in card["parts"]] == [0, 1]
    assert [part["epochs"] for part in card["parts"]] == [1, 3]
    assert card["started"] == card["parts"][0]["started"]
    assert card["train_seconds"] == pytest.approx(
        sum(part["train_seconds"] for part in card["parts"]), abs=0.01
    )
    assert sum(part["train_images"] for part in card["parts"]) == 3 * 96
    log = [json.loads(line) for line in (run.folder / "run.jsonl").read_text().splitlines()]
    (resumed,) = [line for line in log if line.get("event") == "resume"]
    assert "which was stopped (killed)" in resumed["message"]
    assert not [line for line in log if "is not empty" in line["message"]]

    # The run is finished, so the same command begins a new run.
    assert command.again() == 0
    assert len(list(command.folder.glob("outputs/tiny/*"))) == 2


@pytest.mark.process
def test_a_terminated_container_ends_with_143_and_begins_again_in_its_folder(
    command: Command, unbroken: Run
) -> None:
    container = ["unshare", "--pid", "--fork", "--mount-proc"]  # its first process has the PID 1
    if subprocess.run([*container, "true"], capture_output=True).returncode:
        pytest.skip("this user may not make a process namespace")
    stopped = command.stop(number=signal.SIGTERM, epoch=0, inside=container, code=143)
    assert stopped.json("run.json")["status"] == "terminated"
    assert command.again() == 0
    assert command.run.json("metrics.json") == unbroken.json("metrics.json")
    assert epochs_with(command.run, "train/loss") == ["0", "1", "2"]
    parts = command.run.json("run.json")["parts"]
    assert [part["status"] for part in parts] == ["terminated", "finished"]


@pytest.mark.process
def test_workers_that_are_terminated_as_well_change_nothing(
    command: Command, unbroken: Run
) -> None:
    """SLURM and timeout(1) terminate all processes of a run at the same time."""
    workers = "--data.num_workers=2"
    stopped = command.stop(workers, number=signal.SIGTERM, epoch=0, workers_too=True)
    assert stopped.json("run.json")["status"] == "terminated"
    assert command.again(workers) == 0
    assert command.run.json("metrics.json") == unbroken.json("metrics.json")


@pytest.mark.process
def test_trackers_continue_their_runs(command: Command, wandb_settings: None) -> None:
    pytest.importorskip("mlflow")
    trackers = ["eurosat.training.WandbTracker", "eurosat.training.MLflowTracker"]
    settings = json.dumps([{"class_path": tracker} for tracker in trackers])
    command.stop(f"--trainer.logger={settings}")
    assert command.again() == 0
    folder = command.run.folder
    ids = [path.name.rpartition("-")[2] for path in folder.glob("wandb/offline-run-*")]
    assert len(ids) == 2
    assert len(set(ids)) == 1
    (status,) = folder.glob("mlruns/*/*/tags/status")
    assert status.read_text() == "finished"
    (losses,) = folder.glob("mlruns/*/*/metrics/train/loss")
    assert len(losses.read_text().splitlines()) == 3


@pytest.fixture
def fixed(own_run: Run, store_root: Path) -> Callable[..., int]:
    """Resume a copy of a finished run that is cut after its first epoch."""
    card = own_run.json("run.json")
    own_run.folder.joinpath("run.json").write_text(json.dumps(card | {"status": "terminated"}))
    augmentation = '--data.augmentations=[{"class_path": "albumentations.D4"}]'
    arguments = [*TINY, *SMALL_MODEL, f"--data.root={store_root}", "--experiment=tiny"]
    arguments += ["--trainer.max_epochs=2", "--report=true", augmentation, "--resume=auto"]
    saved = yaml.safe_load((own_run.folder / "config.yaml").read_text())
    arguments += [f"--output_root={saved['output_root']}", f"--run_directory={own_run.folder}"]

    def resume(*options: str) -> int:
        return main(["fit", *arguments, *options])

    return resume


def test_other_settings_are_refused_by_name(
    fixed: Callable[..., int], own_run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(own_run.folder.rglob("*"))
    assert fixed("--model.label_smoothing=0.2", "--data.batch_size=8") == 2
    error = capsys.readouterr().err
    assert "holds a run of other settings" in error
    assert "--data.batch_size, --model.label_smoothing" in error
    assert sorted(own_run.folder.rglob("*")) == before


def test_a_finished_run_has_nothing_left_to_do(
    fixed: Callable[..., int], own_run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    card = own_run.json("run.json")
    content = json.dumps(card | {"status": "finished"})
    own_run.folder.joinpath("run.json").write_text(content)
    assert fixed() == 0
    assert "is finished, so nothing is left to do" in capsys.readouterr().out
    assert own_run.folder.joinpath("run.json").read_text() == content


@pytest.mark.training
def test_a_fit_whose_test_is_missing_is_tested(fixed: Callable[..., int], own_run: Run) -> None:
    card = own_run.json("run.json")
    own_run.folder.joinpath("run.json").write_text(json.dumps(card | {"status": "finished"}))
    measured = own_run.json("metrics.json")
    own_run.folder.joinpath("metrics.json").unlink()
    assert fixed() == 0
    assert own_run.json("metrics.json") == measured


def test_two_processes_do_not_train_in_one_folder(
    fixed: Callable[..., int],
    own_run: Run,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("eurosat.training.run_folder._SECONDS_TO_END", 0)
    with FileLock(own_run.folder / ".lock"):
        assert fixed() == 2
    assert "another process trains in" in capsys.readouterr().err


def test_a_damaged_checkpoint_is_named(
    fixed: Callable[..., int], own_run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    last = own_run.folder / "checkpoints" / "last.ckpt"
    last.write_bytes(last.read_bytes()[:1000])
    assert fixed() == 2
    assert "last.ckpt is damaged" in capsys.readouterr().err


def test_changed_data_are_refused(
    fixed: Callable[..., int], own_run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    card = own_run.json("run.json")
    card["data"]["fingerprint"] = 64 * "0"
    content = json.dumps(card | {"status": "terminated"})
    own_run.folder.joinpath("run.json").write_text(content)
    for _ in range(2):
        assert fixed() == 2
        assert "the images or their split have changed" in capsys.readouterr().err
        assert own_run.folder.joinpath("run.json").read_text() == content


def test_other_files_are_refused(
    fixed: Callable[..., int], own_run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    own_run.folder.joinpath("config.yaml").unlink()
    assert fixed() == 2
    assert "exists and is not empty" in capsys.readouterr().err


@pytest.mark.training
def test_a_command_that_ended_before_its_run_began_begins(
    fixed: Callable[..., int], own_run: Run
) -> None:
    for path in own_run.folder.iterdir():
        if path.name != "run.jsonl":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    own_run.folder.joinpath("wandb").mkdir()
    own_run.folder.joinpath("config.yaml").touch()  # the command was killed while it wrote the file
    assert fixed() == 0
    assert own_run.folder.joinpath("config.yaml").read_text()
    assert [part["status"] for part in own_run.json("run.json")["parts"]] == ["finished"]


@pytest.mark.training
def test_a_trial_of_the_settings_changes_nothing(fixed: Callable[..., int], own_run: Run) -> None:
    before = {path: path.stat().st_mtime_ns for path in own_run.folder.rglob("*")}
    assert fixed("--trainer.fast_dev_run=true") == 0
    assert {path: path.stat().st_mtime_ns for path in own_run.folder.rglob("*")} == before


@pytest.mark.training
def test_the_curves_survive_an_end_while_they_are_copied(
    command: Command, unbroken: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(command.folder)
    run = command.stop()

    def killed(*_: object) -> None:
        raise RuntimeError

    with monkeypatch.context() as patched:
        patched.setattr(CSVLogger, "save", killed)
        with pytest.raises(RuntimeError):
            command.again()
    assert command.again() == 0
    assert epochs_with(run, "val/loss") == epochs_with(unbroken, "val/loss")
    assert not list(run.folder.glob("metrics.csv.*"))


@pytest.mark.training
def test_a_damaged_neighbour_does_not_stop_a_run(
    command: Command, caplog: pytest.LogCaptureFixture
) -> None:
    damaged = command.folder / "outputs" / "tiny" / "2026-01-01T00-00-00Z"
    damaged.mkdir(parents=True)
    (damaged / "config.yaml").write_text("{}")
    (damaged / "run.json").write_text("{")
    assert command.again("--trainer.max_epochs=1") == 0
    assert "not continued: " in caplog.text
    assert {path.name for path in damaged.iterdir()} == {"config.yaml", "run.json"}


@pytest.mark.parametrize("variable", ["WORLD_SIZE", "SLURM_NTASKS"])
def test_several_processes_need_a_folder(
    variable: str,
    command: Command,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(variable, "2")
    assert command.again() == 2
    assert "--resume auto needs --run_directory" in capsys.readouterr().err


def test_checkpoints_of_repeated_epochs_are_discarded(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    for name, epoch in (("last", 1), ("best-epoch01", 1), ("best-epoch02", 2)):
        torch.save({"epoch": epoch, "global_step": 5 * (epoch + 1)}, folder / f"{name}.ckpt")
    (folder / "half.ckpt").write_bytes(b"PK")
    discard_repeated(Resumption(folder / "last.ckpt", 1, 10))
    assert {path.name for path in folder.iterdir()} == {"last.ckpt", "best-epoch01.ckpt"}


def test_rows_of_repeated_steps_are_left_out(tmp_path: Path) -> None:
    table = tmp_path / "metrics.csv"
    table.write_text(
        "epoch,lr,step,train/loss\n,0.1,0,\n0,,4,2.5\n,0.2,5,\n1,,9,1.5\n,0.3,10,\n2,,14,1.2\n2,,"
    )
    kept = kept_metrics(table, Resumption(tmp_path / "last.ckpt", 1, 10))
    assert kept == [
        (0, {"lr": 0.1}),
        (4, {"train/loss": 2.5, "epoch": 0}),
        (5, {"lr": 0.2}),
        (9, {"train/loss": 1.5, "epoch": 1}),
    ]


def test_a_table_without_epochs_is_read(tmp_path: Path) -> None:
    table = tmp_path / "metrics.csv"
    table.write_text("lr,step\n0.1,0\n0.2,\n")
    kept = kept_metrics(table, Resumption(tmp_path / "last.ckpt", 1, 10))
    assert kept == [(0, {"lr": 0.1})]
