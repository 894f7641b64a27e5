"""`eurosat study`: the grid, what is done and what is not, and what it says in the end."""

import csv
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import IO, Any

import pytest
import yaml
from scipy.stats import ttest_1samp

from eurosat.bands import BANDS
from eurosat.cli import main
from eurosat.errors import RunCardError
from eurosat.hardware import Hardware
from eurosat.run_card import RunCard, RunSplit
from eurosat.study import runner
from eurosat.study.figure import accuracy_figure
from eurosat.study.plan import read_study
from eurosat.study.results import confidence_interval, summarise
from eurosat.study.runner import plan_runs, train, training_length
from tests.conftest import CONFIGS, REPOSITORY, Run

TINY_STUDY: dict[str, Any] = {
    "title": "Two sizes",
    "configs": [str(CONFIGS / "quickstart.yaml")],
    "seeds": [3],
    "settings": {
        "data.synthetic_images": 200,
        "trainer.max_epochs": 2,
        "trainer.accelerator": "cpu",
        "model.backbone_args": {"stem_width": 8, "widths": [8, 16]},
        "report": False,
    },
    "axes": {"data.batch_size": [16, 32]},
}


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def write_study(**changes: Any) -> Path:
        path = tmp_path / "sizes.yaml"
        path.write_text(yaml.safe_dump(TINY_STUDY | changes, sort_keys=False))
        return path

    return write_study


def test_a_folder_that_cannot_be_written_is_named_before_the_first_run(
    write: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert main(["study", str(write()), f"--output={tmp_path / 'file' / 'runs'}"]) == 2
    assert "cannot be written (Not a directory): choose another --output" in capsys.readouterr().err


@pytest.fixture
def finish(trained: Run) -> Callable[..., Path]:
    """Writes the run folder that a training would have left: the tiny run's, with changes."""

    def write_run(attempts: Path, accuracy: float = 0.5, **facts: Any) -> Path:
        folder = attempts / "20260101T000000Z"
        folder.mkdir(parents=True)
        shutil.copy(trained.folder / "config.yaml", folder)
        for name, changes in (("run.json", facts), ("metrics.json", {"accuracy": accuracy})):
            (folder / name).write_text(json.dumps(trained.json(name) | changes))
        return folder

    return write_run


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Train in the test's process, because a process of its own takes most of a test to start."""

    def run(command: Sequence[str], *, output: IO[str], **_: Any) -> dict[str, int]:
        assert command[:3] == [sys.executable, "-m", "eurosat"]
        try:
            with redirect_stdout(output), redirect_stderr(output):
                return {"cpu": main(command[3:])}
        except Exception as error:
            output.write(repr(error))
            return {"cpu": 1}

    monkeypatch.setattr(runner, "supervise", run)


@pytest.mark.process
def test_a_study_trains_what_is_missing_and_tells_what_it_found(
    write: Callable[..., Path], tmp_path: Path, store_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # The name of a backbone is any text, and an unknown one fails when it comes to training.
    axes = {"size": {"16": {"data.batch_size": 16}, "none": {"model.backbone": "unknown"}}}
    output = tmp_path / "out"
    arguments = [str(write(axes=axes)), f"--root={store_root}", f"--output={output}"]
    assert main(["study", *arguments]) == 1
    said = capsys.readouterr()
    assert "size none, seed 3 failed:" in said.err
    assert "1 of 2 runs are done" in said.out

    with (output / "runs.csv").open() as file:
        (row,) = csv.DictReader(file)
    run = output / row["run"]
    assert float(row["accuracy"]) == json.loads((run / "metrics.json").read_text())["accuracy"]
    assert (row["size"], row["seed"], row["train_images"]) == ("16", "3", "160")
    table = (output / "table.md").read_text()
    assert f"| 16 | {float(row['accuracy']):.2%} | " in table
    assert "Wilson" in table
    assert (output / "plot.png").stat().st_size > 5000

    # The failed cell is repaired; the finished one is not trained again.
    axes["size"]["none"] = {"data.batch_size": 32}
    arguments[0] = str(write(axes=axes))
    assert main(["study", *arguments]) == 0
    assert len(list(run.parent.glob("*Z*"))) == 1
    assert "2 of 2 runs are done" in capsys.readouterr().out


@pytest.mark.process
@pytest.mark.usefixtures("in_this_process")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_study_that_is_ended_goes_on_from_there(
    number: int,
    write: Callable[..., Path],
    tmp_path: Path,
    store_root: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings = TINY_STUDY["settings"] | {"trainer.max_epochs": 20}
    file = write(axes={"data.batch_size": [16]}, settings=settings)
    output = tmp_path / "out"
    (planned,) = plan_runs(read_study(file), output)
    arguments = ["study", str(file), f"--root={store_root}", f"--output={output}"]
    process = subprocess.Popen(
        [sys.executable, "-m", "eurosat", *arguments], stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 300
    while not (checkpoints := list(planned.folder.glob("*/checkpoints/last.ckpt"))):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(number)
    _, shown = process.communicate(timeout=300)
    assert process.returncode == 1
    assert "ended during a run: run the same command again" in shown
    assert "Traceback" not in shown
    first = checkpoints[0].parent.parent
    # The run had ended too, and had written its record.
    assert json.loads((first / "run.json").read_text())["status"] == "terminated"
    assert planned.finished is None

    assert main(arguments) == 0
    assert planned.finished == first
    with (first / "metrics.csv").open() as rows:
        epochs = [int(row["epoch"]) for row in csv.DictReader(rows) if row["train/loss"]]
    assert epochs == list(range(20))
    parts = json.loads((first / "run.json").read_text())["parts"]
    assert [part["status"] for part in parts] == ["terminated", "finished"]
    assert "1 of 1 runs are done" in capsys.readouterr().out


@pytest.mark.training
@pytest.mark.usefixtures("in_this_process")
def test_a_run_that_was_cut_off_in_its_test_is_tested(
    write: Callable[..., Path], tmp_path: Path, store_root: Path, trained: Run
) -> None:
    output = tmp_path / "out"
    # The study asks for the tiny run, which is there but for the metrics of its test.
    configs = [str(trained.folder / "config.yaml")]
    file = write(axes={"data.batch_size": [16]}, configs=configs, settings={}, seeds=[42])
    (planned,) = plan_runs(read_study(file), output)
    first = planned.folder / trained.folder.name
    shutil.copytree(trained.folder, first, ignore=shutil.ignore_patterns("metrics.json"))
    arguments = ["study", str(file), f"--root={store_root}", f"--output={output}"]
    assert main(arguments) == 0
    assert planned.finished == first
    (row,) = csv.DictReader((output / "runs.csv").read_text().splitlines())
    assert float(row["accuracy"]) == trained.json("metrics.json")["accuracy"]
    assert main([*arguments, "--only_results=true"]) == 0


def test_runs_of_another_source_are_other_runs(
    write: Callable[..., Path],
    finish: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file, output = write(axes={"data.batch_size": [16]}), tmp_path / "out"
    (planned,) = plan_runs(read_study(file), output)
    finish(planned.folder)
    arguments = ["study", str(file), f"--output={output}"]
    assert main(arguments) == 0
    shown = capsys.readouterr().out
    assert "Two sizes – synthetic data" in shown
    assert "1 of 1 runs are done" in shown
    assert main([*arguments, "--source=EuroSAT_RGB.zip", "--only_results=true"]) == 0
    assert "0 of 1 runs are done" in capsys.readouterr().out


@pytest.mark.slow
def test_a_grid_is_drawn_with_intervals_over_seeds(
    write: Callable[..., Path], finish: Callable[..., Path], tmp_path: Path
) -> None:
    axes = {
        "size": {"small": {"data.batch_size": 16}, "large": {"data.batch_size": 32}},
        "training fraction": {
            0.3: {"data.split_fractions": [0.3, 0.2, 0.5]},
            0.6: {"data.split_fractions": [0.6, 0.2, 0.2]},
        },
    }
    file = write(axes=axes, seeds=[3, 4], resplit=True)
    output = tmp_path / "out"
    accuracies = [0.5, 0.9, 0.6, 0.8, 0.55, 0.9, 0.75, 0.81]
    for run, accuracy in zip(plan_runs(read_study(file), output), accuracies, strict=True):
        finish(run.folder, accuracy)
    assert main(["study", str(file), f"--output={output}"]) == 0
    rows = list(csv.DictReader((output / "runs.csv").read_text().splitlines()))
    assert len({(row["size"], row["training fraction"], row["seed"]) for row in rows}) == 8
    study = read_study(file)
    summaries = summarise(study, plan_runs(study, output))
    for summary in summaries:
        own = [
            float(r["accuracy"])
            for r in rows
            if r["size"] == summary.cell.labels["size"]
            and float(r["training fraction"]) == summary.cell.labels["training fraction"]
        ]
        expected = ttest_1samp(own, 0).confidence_interval(0.95)
        assert summary.mean == pytest.approx(sum(own) / 2)
        assert summary.low == pytest.approx(max(0, expected.low))
        assert summary.high == pytest.approx(min(1, expected.high))
    (axes_drawn,) = accuracy_figure(study, summaries).axes
    lines = [container for container in axes_drawn.containers]
    assert [line.get_label() for line in lines] == ["small", "large"]
    for line, size in zip(lines, ("small", "large"), strict=True):
        drawn = line.lines[0].get_xydata()
        means = [s.mean for s in summaries if s.cell.labels["size"] == size]
        assert drawn.tolist() == [[0.3, means[0]], [0.6, means[1]]]


def test_a_run_without_a_speed_is_shown_without_one(
    write: Callable[..., Path], finish: Callable[..., Path], tmp_path: Path
) -> None:
    file, output = write(seeds=[3]), tmp_path / "out"
    for run in plan_runs(read_study(file), output):
        finish(run.folder, images_per_second=None)
    assert main(["study", str(file), f"--output={output}"]) == 0
    rows = [line for line in (output / "table.md").read_text().splitlines() if "50.00" in line]
    assert rows
    assert all("n/a" in row for row in rows)


@pytest.mark.training
@pytest.mark.usefixtures("in_this_process")
def test_equal_minutes_set_the_length_from_a_measured_speed(
    write: Callable[..., Path], tmp_path: Path, store_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # The speed of the first cell cannot be measured, so that cell alone fails.
    axes = {"size": {"none": {"model.backbone": "unknown"}, "16": {"data.batch_size": 16}}}
    output = tmp_path / "out"
    file = write(axes=axes, minutes=0.01)
    assert main(["study", str(file), f"--root={store_root}", f"--output={output}"]) == 1
    said = capsys.readouterr()
    assert "size none, seed 3 failed:" in said.err
    assert "1 of 2 runs are done" in said.out
    (speed,) = output.glob("16-speed-*/*/run.json")
    expected = 0.6 * json.loads(speed.read_text())["images_per_second"]
    failed, planned = plan_runs(read_study(file), output)
    assert failed.finished is None
    assert planned.finished is not None
    trainer = yaml.safe_load((planned.finished / "config.yaml").read_text())["trainer"]
    images = 16 * trainer["max_epochs"] * trainer["limit_train_batches"]
    assert images == pytest.approx(expected, abs=16 * (trainer["max_epochs"] + 1))


@pytest.mark.parametrize(
    ("images", "batch_size", "devices", "batches"),
    [(255, 128, 1, 1), (2675, 512, 1, 5), (21600, 128, 8, 21), (100, 128, 2, 1)],
)
def test_equal_minutes_count_the_batches_that_there_are(
    images: int, batch_size: int, devices: int, batches: int, tmp_path: Path
) -> None:
    """The last batch of an epoch sits out where it is not full."""
    RunCard(
        hardware=Hardware(devices=devices),
        split=RunSplit("stratified", "fingerprint", train=images, val=0, test=0),
        images_per_second=1000,
    ).write(tmp_path)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"data": {"batch_size": batch_size}}))
    epochs, limit = (int(option.partition("=")[2]) for option in training_length(3, tmp_path))
    assert limit <= batches
    whole_batch = min(batch_size, images // devices) * devices
    assert epochs * limit * whole_batch == pytest.approx(180 * 1000, rel=0.03)


@contextmanager
def held(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Another process that is at a run."""
    folder.mkdir(parents=True)
    code = (
        "import fcntl, sys, time\n"
        "lock = open(sys.argv[1], 'w')\n"
        "fcntl.flock(lock, fcntl.LOCK_EX)\n"
        "print('held', flush=True)\n"
        "time.sleep(600)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(folder / ".lock")], stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        yield other
        other.kill()


@pytest.mark.process
def test_a_run_of_another_process_is_left_to_it(
    write: Callable[..., Path],
    finish: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = tmp_path / "out"
    file = write()
    theirs, ours = plan_runs(read_study(file), output)
    finish(ours.folder)
    with held(theirs.folder):
        assert main(["study", str(file), f"--output={output}"]) == 0
    assert [path.name for path in theirs.folder.iterdir()] == [".lock"]
    said = capsys.readouterr().out
    assert "1 of 2 runs are done" in said
    assert "1 more under way in other processes" in said


@pytest.mark.training
@pytest.mark.usefixtures("in_this_process")
def test_the_run_of_a_process_that_died_is_taken_over(
    write: Callable[..., Path], tmp_path: Path, store_root: Path
) -> None:
    output = tmp_path / "out"
    study = read_study(write())
    theirs, ours = plan_runs(study, output)
    with held(theirs.folder) as other:
        tried = []
        for run in train(study, [theirs, ours], [f"--data.root={store_root}"]):
            tried.append(run)
            other.kill()
            other.wait()
    assert tried == [ours, theirs]
    assert all(run.finished for run in tried)


def test_code_that_changed_between_runs_is_told(
    write: Callable[..., Path], finish: Callable[..., Path], tmp_path: Path
) -> None:
    output = tmp_path / "out"
    file = write()
    planned = plan_runs(read_study(file), output)
    finish(planned[0].folder, git={"revision": "1" * 40, "dirty": False})
    finish(planned[1].folder, git={"revision": "2" * 40, "dirty": True})
    assert main(["study", str(file), f"--output={output}", "--only_results=true"]) == 0
    told = "Code of the runs: 111111111111, 222222222222-dirty"
    assert told in (output / "table.md").read_text()


@pytest.mark.parametrize(
    ("resplit", "said"),
    [(False, "All runs share one split"), (True, "Every seed draws another split")],
)
def test_the_table_says_what_its_intervals_include(
    resplit: bool,
    said: str,
    write: Callable[..., Path],
    finish: Callable[..., Path],
    tmp_path: Path,
) -> None:
    output, file = tmp_path / "out", write(seeds=[3, 4], resplit=resplit)
    for number, run in enumerate(plan_runs(read_study(file), output)):
        finish(run.folder, 0.5 + number / 100)
    assert main(["study", str(file), f"--output={output}", "--only_results=true"]) == 0
    assert said in (output / "table.md").read_text()


def test_rgb_and_bands_are_compared_and_other_data_are_not(
    write: Callable[..., Path],
    finish: Callable[..., Path],
    trained: Run,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = tmp_path / "out"
    file = write(axes={"data.bands": ["rgb", "all"], "data.batch_size": [16, 32]})
    arguments = ["study", str(file), f"--output={output}", "--only_results=true"]
    planned = plan_runs(read_study(file), output)
    data = trained.json("run.json")["data"]
    every = data | {"bands": [band.name for band in BANDS], "fingerprint": "1" * 64}
    # RGB and bands of the same files are decoded into two stores.
    for run, facts in zip(planned, (data, data, every, every), strict=True):
        finish(run.folder, data=facts)
    assert main(arguments) == 0
    rows = list(csv.DictReader((output / "runs.csv").read_text().splitlines()))
    assert [len(row["bands"].split()) for row in rows] == [3, 3, 13, 13]
    shutil.rmtree(planned[3].folder)
    finish(planned[3].folder, data=every | {"fingerprint": "2" * 64})
    assert main(arguments) == 2
    assert "different data" in capsys.readouterr().err


def test_a_run_of_other_settings_never_passes_for_this_one(
    write: Callable[..., Path], tmp_path: Path
) -> None:
    config = tmp_path / "base.yaml"
    config.write_text("trainer: {max_epochs: 1}\n")

    def folders(**changes: Any) -> list[str]:
        study = read_study(write(configs=[str(config)], **changes))
        return [run.folder.name for run in plan_runs(study, tmp_path)]

    before = folders()
    assert folders() == before
    config.write_text("# only a comment\ntrainer: {max_epochs: 1}\n")
    assert folders() == before
    assert not set(folders(settings={})) & set(before)
    assert not set(folders(minutes=1)) & set(before)
    config.write_text("trainer: {max_epochs: 2}\n")
    assert not set(folders()) & set(before)


def test_the_grid_is_every_combination(write: Callable[..., Path]) -> None:
    axes = {"data.batch_size": [16, 32], "rate": {"low": {"a.b": 1}, "high": {"a.b": 2}}}
    study = read_study(write(axes=axes, resplit=True))
    assert [tuple(cell.labels.values()) for cell in study.cells] == [
        (16, "low"),
        (16, "high"),
        (32, "low"),
        (32, "high"),
    ]
    arguments = study.arguments(study.cells[3], 7)
    assert {"--data.batch_size=32", "--a.b=2", "--seed_everything=7"} <= set(arguments)
    assert "--data.split_seed=7" in arguments


def test_the_interval_is_students(monkeypatch: pytest.MonkeyPatch) -> None:
    accuracies = [0.95, 0.96, 0.955, 0.94]
    expected = ttest_1samp(accuracies, 0).confidence_interval(0.95)
    assert confidence_interval(accuracies, 100) == pytest.approx((expected.low, expected.high))
    low, high = confidence_interval([0.9], 100)  # Wilson's, from its published formula
    assert (low, high) == pytest.approx((0.8256, 0.9448), abs=1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"axes": {}}, "axes must name one axis"),
        ({"axes": {"data.batch_size": 3}}, "Expected a <class 'dict'>"),
        ({"seeds": 3}, "Expected a <class 'list'>"),
        ({"seeds": ["first"]}, "Expected a <class 'int'>"),
        ({"seeds": [1, 1]}, "each once"),
        ({"settings": [1]}, "Expected a <class 'dict'>"),
        ({"configs": "configs/fast.yaml"}, "Expected a <class 'list'>"),
        ({"settings": {"test_after_fit": False}}, "remove test_after_fit"),
        (
            {"resplit": True, "settings": {"data.split": "source"}},
            "resplit draws a stratified split, not a source one",
        ),
        ({"axis": {}}, "unknown keys axis"),
        ({"axes": {"data.synthetic_images": [200, 300]}}, "the cells differ in data"),
        ({"seeds": []}, "seeds must name"),
        ({"minutes": 0}, "minutes must be more than 0"),
        ({"configs": ["none.yaml"]}, "none.yaml, which does not exist"),
        (
            {"axes": {"model.lernrate": [1]}},
            "refuses the settings of model.lernrate 1: ",
        ),
        ({"axes": {"data.batch_size": ["many"]}}, "'eurosat fit' refuses the settings of"),
    ],
)
def test_a_mistake_in_the_file_is_named_before_anything_is_trained(
    write: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, Any],
    message: str,
) -> None:
    output = tmp_path / "out"
    assert main(["study", str(write(**changes)), f"--output={output}"]) == 2
    assert message in capsys.readouterr().err
    assert not output.exists()


def test_a_missing_study_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study", "none.yaml"]) == 2
    assert "none.yaml cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize("path", sorted((CONFIGS / "studies").glob("*.yaml")), ids=lambda p: p.stem)
def test_shipped_studies_parse(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from eurosat.study.runner import check_settings

    monkeypatch.chdir(REPOSITORY)
    check_settings(read_study(path))


def test_a_damaged_run_card_is_told(write: Callable[..., Path], tmp_path: Path) -> None:
    """Trained again in silence, the run would hide that something damages files."""
    planned, *_ = plan_runs(read_study(write()), tmp_path / "out")
    attempt = planned.folder / "2026-01-01T00-00-00Z"
    attempt.mkdir(parents=True)
    (attempt / "run.json").write_text('{"status": "fin')
    with pytest.raises(RunCardError, match=r"run.json is damaged"):
        _ = planned.finished
