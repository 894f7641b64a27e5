"""Running a study: one process a run, what is done already left alone."""

import json
import math
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from tqdm import tqdm

from eurosat.errors import StudyError
from eurosat.study.plan import Cell, Study

_PROBE_STEPS = 60
"""Optimiser steps that measure a cell's speed."""


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
        done = [path for path in self._attempts if (path / "metrics.json").is_file()]
        return next((path for path in reversed(done) if _status(path) == "finished"), None)

    @property
    def checkpoint(self) -> Path | None:
        """The last checkpoint of an attempt that did not finish."""
        found = [path / "checkpoints" / "last.ckpt" for path in self._attempts]
        return next((path for path in reversed(found) if path.is_file()), None)

    @property
    def _attempts(self) -> list[Path]:
        return sorted(self.folder.glob("*Z*"))


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
    """
    from eurosat.training_cli import resolve_settings

    for cell in study.cells:
        arguments = ["fit", *study.arguments(cell, study.seeds[0])]
        resolve_settings(arguments, f"the settings of {_name(cell)}")


def train(study: Study, runs: Sequence[Run], extra: Sequence[str]) -> Iterator[Run]:
    """Train what is not done yet, one run after the other.

    A run that was cut off goes on from its last checkpoint. One that fails says so, and the others
    go on.

    Args:
        study: The study.
        runs: Its runs.
        extra: Further arguments of every ``eurosat fit``, such as where the data are.

    Yields:
        Each run that was tried; one that is not ``finished`` has failed.
    """
    bar = tqdm(runs, desc=study.name, unit="run")
    for run in bar:
        if run.finished:
            continue
        bar.set_postfix_str(f"{_name(run.cell)}, seed {run.seed}")
        arguments = [*study.arguments(run.cell, run.seed), *extra]
        try:
            if study.minutes is not None:
                arguments += _length(study.minutes, run, arguments)
            if run.checkpoint:
                arguments.append(f"--ckpt_path={run.checkpoint}")
            _fit(run.folder, arguments)
        except StudyError as error:
            tqdm.write(f"{_name(run.cell)}, seed {run.seed} failed: {error}", file=sys.stderr)
        yield run


def _length(minutes: float, run: Run, arguments: Sequence[str]) -> list[str]:
    """Number and size of epochs that train for some minutes at the speed of this cell.

    The speed is measured once, in a short run of its own, and then stands: the length of a run
    does not depend on what else the machine does later.
    """
    probe = run.folder.with_name(f".{run.folder.name}-speed")
    if not list(probe.glob("*/run.json")):
        _fit(
            probe,
            [
                *arguments,
                f"--trainer.limit_train_batches={_PROBE_STEPS}",
                "--trainer.limit_val_batches=1",
                "--trainer.max_epochs=1",
                "--test_after_fit=false",
            ],
        )
    folder = sorted(probe.glob("*/run.json"))[-1].parent
    card = json.loads((folder / "run.json").read_text())
    config = yaml.safe_load((folder / "config.yaml").read_text())
    batch = config["data"]["batch_size"] * card["hardware"]["devices"]
    steps = max(1, round(60 * minutes * card["images_per_second"] / batch))
    epochs = math.ceil(steps / math.ceil(card["split"]["train"] / batch))
    return [
        f"--trainer.max_epochs={epochs}",
        f"--trainer.limit_train_batches={math.ceil(steps / epochs)}",
    ]


def _fit(folder: Path, arguments: Sequence[str]) -> None:
    """Train in a process of its own, whose output goes to a file."""
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "output.txt"
    command = [sys.executable, "-m", "eurosat", "fit", *arguments]
    command += [f"--output_root={folder.parent}", f"--experiment={folder.name}"]
    command += ["--trainer.enable_progress_bar=false"]
    with log.open("w") as output:
        code = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT).returncode
    if code:
        lines = log.read_text().strip().splitlines()
        raise StudyError(f"{lines[-1] if lines else f'exit code {code}'} (see {log})")


def _status(run_folder: Path) -> str:
    try:
        return str(json.loads((run_folder / "run.json").read_text())["status"])
    except (OSError, ValueError, KeyError):
        return "unknown"


def _name(cell: Cell) -> str:
    return ", ".join(f"{axis} {label}" for axis, label in cell.labels.items())
