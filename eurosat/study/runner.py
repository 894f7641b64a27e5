"""Running a study: one process per run; finished runs are kept."""

import math
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import yaml
from filelock import lock_descriptor
from tqdm import tqdm

from eurosat.data.settings import IMAGES
from eurosat.errors import StudyEndedError, StudyError
from eurosat.processes import supervise
from eurosat.run_card import read_run_card
from eurosat.study.plan import Cell, Study

_SPEED_STEPS = 60
"""Optimiser steps that measure a cell's speed."""


@dataclass(frozen=True)
class Run:
    """One run of a study.

    Attributes:
        cell: Point of the grid.
        seed: Seed.
        folder: Folder of the run's attempts; each attempt is a run folder named after its time.
    """

    cell: Cell
    seed: int
    folder: Path

    @property
    def finished(self) -> Path | None:
        """Run folder of the newest attempt that finished; None if no attempt finished."""
        done = [path for path in _finished(self.folder) if (path / "metrics.json").is_file()]
        return done[-1] if done else None


def plan_runs(study: Study, output: Path) -> list[Run]:
    """List all runs of a study, seed by seed, so that early results cover the whole grid.

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
    """Parse the settings of every cell with the command line's parser, before the first run.

    Raises:
        SettingsError: ``eurosat fit`` rejects a setting.
        StudyError: A setting makes the runs incomparable.
    """
    from eurosat.training.settings import resolve_settings

    data = set()
    for cell in study.cells:
        arguments = ["fit", *study.arguments(cell, study.seeds[0])]
        settings = resolve_settings(arguments, f"the settings of {_name(cell)}")
        if not settings["test_after_fit"]:
            raise StudyError(
                f"{_name(cell)}: a study compares tests, so remove test_after_fit: false"
            )
        split = settings["data"]["split"]
        if study.resplit and split != "stratified":
            raise StudyError(f"{_name(cell)}: resplit draws a stratified split, not a {split} one")
        data.add(tuple(str(settings["data"][name]) for name in IMAGES))
    if len(data) > 1:
        raise StudyError(
            f"the cells differ in data ({', '.join(IMAGES)}), so their accuracies cannot be "
            "compared: make a study of each"
        )


def train(study: Study, runs: Sequence[Run], extra: Sequence[str] = ()) -> Iterator[Run]:
    """Train the unfinished runs, one after the other.

    An interrupted run continues from its last checkpoint. A failed run is reported, and the other
    runs continue. A run that another process trains is skipped.

    Args:
        study: The study.
        runs: Its runs.
        extra: Further arguments of every ``eurosat fit`` that do not change what comes out.

    Yields:
        Each run that was tried; a run without ``finished`` has failed.

    Raises:
        StudyEndedError: Ctrl-C or SIGTERM ended the current run.
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
            waiting = theirs  # another process may have died during its run


def _train_one(study: Study, run: Run, extra: Sequence[str], locks: Sequence[int]) -> None:
    arguments = [*study.arguments(run.cell, run.seed), *extra]
    try:
        if study.minutes is not None:
            speed = _speed(study, run, extra, locks)
            arguments += training_length(study.minutes, speed)
        _fit(run.folder, arguments, locks)
    except StudyError as error:
        tqdm.write(f"{_name(run.cell)}, seed {run.seed} failed: {error}", file=sys.stderr)


@contextmanager
def _claimed(folder: Path) -> Iterator[int | None]:
    """Lock a run against other processes, also on machines that share the folder.

    Yields:
        Descriptor of the locked file; None if another process holds the lock.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("wb") as file:
        locked = lock_descriptor(file.fileno(), blocking=False)
        yield file.fileno() if locked else None


def _measure_all(study: Study, runs: Sequence[Run], extra: Sequence[str]) -> None:
    """Measure the speed of all cells, one after the other, before the first training.

    All cells are thereby measured under the same conditions. Other processes of the study wait.
    """
    cells = {study.folder(run.cell, 0): run for run in runs}
    output = runs[0].folder.parent
    output.mkdir(parents=True, exist_ok=True)
    with (output / ".speed.lock").open("wb") as file:
        lock_descriptor(file.fileno())
        for run in tqdm(cells.values(), desc="speed", unit="cell"):
            with suppress(
                StudyError
            ):  # the same error recurs, and is reported, with the cell's runs
                _speed(study, run, extra, [file.fileno()])


def _speed(study: Study, run: Run, extra: Sequence[str], locks: Sequence[int]) -> Path:
    """Run folder of the short run that measures a cell's speed; the run is made once."""
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
    """Number and length of the epochs that take some minutes at a measured speed.

    Args:
        minutes: Minutes of training, without validation and test.
        speed: Folder of the run that measured the speed.

    Returns:
        Options of ``eurosat fit``.

    Raises:
        StudyError: The run did not measure its speed.
    """
    card = read_run_card(speed)
    if card is None or not (card.hardware and card.split and card.images_per_second):
        raise StudyError(
            f"{speed} does not say how fast it trained: delete the folder, and the study measures "
            "the speed again"
        )
    config = yaml.safe_load((speed / "config.yaml").read_text("utf-8"))
    devices, images = card.hardware.devices, card.split.train
    batch = min(config["data"]["batch_size"], images // devices) * devices  # as BatchSampler
    steps = max(1, round(60 * minutes * card.images_per_second / batch))
    epochs = math.ceil(steps / (images // batch))
    return [
        f"--trainer.max_epochs={epochs}",
        f"--trainer.limit_train_batches={math.ceil(steps / epochs)}",
    ]


def _fit(folder: Path, arguments: Sequence[str], locks: Sequence[int]) -> None:
    """Train in a child process, and write its output to a file.

    Args:
        folder: Folder of the attempts.
        arguments: Arguments of ``eurosat fit``.
        locks: Descriptors of locked files, which the child process inherits.

    Raises:
        StudyError: The training failed.
        StudyEndedError: A signal ended the training.
    """
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "output.txt"
    command = [sys.executable, "-m", "eurosat", "fit", *arguments]
    command += [f"--output_root={folder.parent}", f"--experiment={folder.name}"]
    command += ["--trainer.enable_progress_bar=false", "--resume=auto"]
    with log.open("w", encoding="utf-8") as output:
        (code,) = supervise(command, output=output, locks=locks).values()
    if code == -signal.SIGTERM:
        raise StudyEndedError(
            "the study was ended during a run: run the same command again to resume it"
        )
    if code:
        lines = log.read_text("utf-8", errors="replace").strip().splitlines()
        last = f" after: {lines[-1]}" if lines else ""
        raise StudyError(f"exit code {code}{last} (see {log})")


def _finished(folder: Path) -> list[Path]:
    """Run folders of the finished runs in a folder, oldest first.

    Raises:
        RunCardError: A run card is damaged.
    """
    cards = {path: read_run_card(path) for path in sorted(folder.glob("*Z*"))}
    return [path for path, card in cards.items() if card and card.status == "finished"]


def _name(cell: Cell) -> str:
    return ", ".join(f"{axis} {label}" for axis, label in cell.labels.items())
