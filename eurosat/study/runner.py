"""Running a study: one process a run, what is done already left alone."""

import fcntl
import json
import math
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import yaml
from tqdm import tqdm

from eurosat.errors import StudyEndedError, StudyError
from eurosat.processes import supervise
from eurosat.study.plan import Cell, Study

_SPEED_STEPS = 60
"""Optimiser steps that measure a cell's speed."""

_IMAGES = ("source", "revision", "classes", "synthetic_images")
"""Settings of the data that say which images there are."""


@dataclass(frozen=True)
class Run:
    """One run of a study.

    Attributes:
        cell: Its point of the grid.
        seed: Its seed.
        folder: Folder of its attempts, each a run folder named after its time.
    """

    cell: Cell
    seed: int
    folder: Path

    @property
    def finished(self) -> Path | None:
        """The run folder of the attempt that finished, the newest if there are several."""
        done = [path for path in _finished(self.folder) if (path / "metrics.json").is_file()]
        return done[-1] if done else None

    @property
    def checkpoint(self) -> Path | None:
        """The last checkpoint of an attempt that did not finish."""
        found = sorted(self.folder.glob("*Z*/checkpoints/last.ckpt"))
        return found[-1] if found else None


def plan_runs(study: Study, output: Path) -> list[Run]:
    """All runs of a study, seed by seed, so that early results cover the whole grid.

    Args:
        study: The study.
        output: Folder of the study's runs.
    """
    return [
        Run(cell, seed, output / study.folder(cell, seed))
        for seed in study.seeds
        for cell in study.cells
    ]


def check_settings(study: Study) -> None:
    """Let the command line parse every cell's settings before hours go into the first ones.

    Raises:
        SettingsError: ``eurosat fit`` does not take a setting.
        StudyError: A setting keeps runs from what the study is to compare.
    """
    from eurosat.training.cli import resolve_settings

    data = set()
    for cell in study.cells:
        arguments = ["fit", *study.arguments(cell, study.seeds[0])]
        settings = resolve_settings(arguments, f"the settings of {_name(cell)}")
        if not settings["test_after_fit"]:
            raise StudyError(f"{_name(cell)}: a study compares tests, leave test_after_fit on")
        split = settings["data"]["split"]
        if study.resplit and split != "stratified":
            raise StudyError(f"{_name(cell)}: resplit draws a stratified split, not a {split} one")
        data.add(tuple(str(settings["data"][name]) for name in _IMAGES))
    if len(data) > 1:
        raise StudyError(
            f"the cells differ in data ({', '.join(_IMAGES)}), so their accuracies cannot be "
            "compared: make a study of each"
        )


def train(study: Study, runs: Sequence[Run], extra: Sequence[str] = ()) -> Iterator[Run]:
    """Train what is not done yet, one run after the other.

    A run that was cut off goes on from its last checkpoint. One that fails says so, and the others
    go on. One that another process is at is left to it.

    Args:
        study: The study.
        runs: Its runs.
        extra: Further arguments of every ``eurosat fit`` that do not change what comes out.

    Yields:
        Each run that was tried; one that is not ``finished`` has failed.

    Raises:
        StudyEndedError: Ctrl-C or SIGTERM ended the run under way.
    """
    open_runs = [run for run in runs if not run.finished]
    if study.minutes is not None and open_runs:
        _measure_all(study, open_runs, extra)
    with tqdm(total=len(runs), desc=study.name, unit="run") as bar:
        waiting = list(runs)
        while waiting:
            theirs = []
            for run in waiting:
                bar.set_postfix_str(f"{_name(run.cell)}, seed {run.seed}")
                with _claimed(run.folder) as lock:
                    tried = lock is not None and not run.finished
                    if lock is not None and tried:
                        _train_one(study, run, extra, [lock])
                if lock is None:
                    theirs.append(run)
                else:
                    bar.update()
                if tried:
                    yield run
            if len(theirs) == len(waiting):
                break
            waiting = theirs  # a process may have died at its run meanwhile


def _train_one(study: Study, run: Run, extra: Sequence[str], locks: Sequence[int]) -> None:
    arguments = [*study.arguments(run.cell, run.seed), *extra]
    try:
        if study.minutes is not None:
            speed = _speed(study, run, extra, locks)
            arguments += training_length(study.minutes, speed)
        if run.checkpoint:
            arguments.append(f"--ckpt_path={run.checkpoint}")
        _fit(run.folder, arguments, locks)
    except StudyError as error:
        tqdm.write(f"{_name(run.cell)}, seed {run.seed} failed: {error}", file=sys.stderr)


@contextmanager
def _claimed(folder: Path) -> Iterator[int | None]:
    """Keep other processes off a run, here or on a machine that shares the folder.

    Yields:
        Descriptor of the locked file; None if another process is at the run.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
        else:
            yield file.fileno()


def _measure_all(study: Study, runs: Sequence[Run], extra: Sequence[str]) -> None:
    """Measure the speed of all cells, one after the other, before any of them is trained.

    So they are measured under the same conditions. Other processes of the study wait.
    """
    cells = {study.folder(run.cell, 0): run for run in runs}
    output = runs[0].folder.parent
    output.mkdir(parents=True, exist_ok=True)
    with (output / ".speed.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        for run in tqdm(cells.values(), desc="speed", unit="cell"):
            with suppress(StudyError):  # it comes again, and is told, with the cell's runs
                _speed(study, run, extra, [file.fileno()])


def _speed(study: Study, run: Run, extra: Sequence[str], locks: Sequence[int]) -> Path:
    """A short run that measures a cell's speed, once: the run folder."""
    folder = run.folder.with_name(study.speed_folder(run.cell))
    if not _finished(folder):
        limits = [
            f"--trainer.limit_train_batches={_SPEED_STEPS}",
            "--trainer.limit_val_batches=1",
            "--trainer.max_epochs=1",
            "--test_after_fit=false",
        ]
        _fit(folder, [*study.arguments(run.cell, 0), *extra, *limits], locks)
    return _finished(folder)[-1]


def training_length(minutes: float, speed: Path) -> list[str]:
    """Number and size of epochs that train for some minutes at a measured speed.

    Args:
        minutes: Of training, validation and test not counted.
        speed: Folder of the run that measured the speed.

    Returns:
        Options of ``eurosat fit``.
    """
    card = json.loads((speed / "run.json").read_text())
    config = yaml.safe_load((speed / "config.yaml").read_text())
    devices, images = card["hardware"]["devices"], card["split"]["train"]
    batch = min(config["data"]["batch_size"], images // devices) * devices  # as BatchSampler
    steps = max(1, round(60 * minutes * card["images_per_second"] / batch))
    epochs = math.ceil(steps / (images // batch))
    return [
        f"--trainer.max_epochs={epochs}",
        f"--trainer.limit_train_batches={math.ceil(steps / epochs)}",
    ]


def _fit(folder: Path, arguments: Sequence[str], locks: Sequence[int]) -> None:
    """Train in a process of its own, whose output goes to a file.

    Args:
        folder: Folder of the attempts.
        arguments: Of ``eurosat fit``.
        locks: What keeps other processes off, for as long as the training lives.

    Raises:
        StudyError: It failed.
        StudyEndedError: It was ended by a signal.
    """
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "output.txt"
    command = [sys.executable, "-m", "eurosat", "fit", *arguments]
    command += [f"--output_root={folder.parent}", f"--experiment={folder.name}"]
    command += ["--trainer.enable_progress_bar=false"]
    with log.open("w") as output:
        (code,) = supervise(command, output=output, locks=locks).values()
    if code == -signal.SIGTERM:
        raise StudyEndedError("ended during a run: call it again, and it goes on from there")
    if code:
        lines = log.read_text().strip().splitlines()
        last = f" after: {lines[-1]}" if lines else ""
        raise StudyError(f"exit code {code}{last} (see {log})")


def _finished(folder: Path) -> list[Path]:
    """The run folders in a folder whose runs came to their end, oldest first."""
    return [path for path in sorted(folder.glob("*Z*")) if _status(path) == "finished"]


def _status(run_folder: Path) -> str:
    try:
        return str(json.loads((run_folder / "run.json").read_text())["status"])
    except (OSError, ValueError, KeyError):
        return "unknown"


def _name(cell: Cell) -> str:
    return ", ".join(f"{axis} {label}" for axis, label in cell.labels.items())
