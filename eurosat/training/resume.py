"""Resuming a stopped run in its own folder."""

import csv
import logging
import os
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch.loggers import CSVLogger

from eurosat.errors import CheckpointError, RunDirectoryError
from eurosat.models.saved import load_content
from eurosat.run_card import read_run_card

_log = logging.getLogger(__name__)

_MAY_CHANGE = frozenset(
    {
        *("--output_root", "--experiment", "--run_directory", "--resume"),
        *("--log_level", "--report"),
        *("--data.root", "--data.num_workers"),
        *("--trainer.enable_progress_bar", "--trainer.enable_model_summary"),
    }
)
"""Options that do not change what a run computes, and may differ between the parts of a run."""


class FinishedRunError(Exception):
    """The run is finished, so a command that would resume the run has nothing to do."""


@dataclass(frozen=True)
class Resumption:
    """The state from which a stopped run continues.

    Attributes:
        checkpoint: The run's ``last.ckpt``.
        epoch: The last epoch that ``checkpoint`` has been trained for, counted from 0.
        step: Number of optimiser steps that ``checkpoint`` has been trained for.
    """

    checkpoint: Path
    epoch: int
    step: int


def has_begun(folder: Path) -> bool:
    """Whether a folder holds a run that has begun.

    A process that is killed while it writes ``config.yaml`` leaves an empty file.
    """
    path = folder / "config.yaml"
    return path.is_file() and path.stat().st_size > 0


def is_finished(folder: Path) -> bool:
    """Whether a run is finished, including the test after the fit if the run has one.

    Raises:
        RunCardError: ``run.json`` is damaged.
        RunDirectoryError: ``config.yaml`` is damaged.
    """
    card = read_run_card(folder)
    if card is None or card.status != "finished":
        return False
    # A fit has the status "finished" before its test starts.
    return (folder / "metrics.json").is_file() or not _settings_of(folder).get("test_after_fit")


def differing_settings(folder: Path, settings: Mapping[str, Any]) -> list[str]:
    """Give the options in which a run differs from other settings.

    Args:
        folder: The run's folder.
        settings: The whole configuration of a run, as in ``config.yaml``.

    Raises:
        RunDirectoryError: ``config.yaml`` is damaged.
    """
    differing = _differing(_settings_of(folder), dict(settings), "")
    return [option for option in differing if option not in _MAY_CHANGE]


def find_resumption(folder: Path) -> Resumption | None:
    """Find the state from which the run in a folder continues.

    Returns:
        The state; None if the run ended before its first checkpoint.

    Raises:
        CheckpointError: ``last.ckpt`` is damaged.
    """
    checkpoint = folder / "checkpoints" / "last.ckpt"
    if not checkpoint.is_file():
        return None
    try:
        return Resumption(checkpoint, *_progress(checkpoint))
    except Exception as error:  # torch.load and pickle raise errors of many types.
        raise CheckpointError(
            f"{checkpoint} is damaged ({type(error).__name__}: {error}), so the run cannot "
            f"continue: delete {folder}, or choose another --run_directory"
        ) from error


def discard_repeated(resumption: Resumption) -> None:
    """Delete the checkpoints of the steps that a resumed run repeats.

    A run that is killed between the writing of its best checkpoint and of ``last.ckpt`` leaves such
    a checkpoint, and the repeated epoch would write a second checkpoint of the same name.
    """
    for path in resumption.checkpoint.parent.glob("*.ckpt"):
        try:
            _, step = _progress(path)
        except OSError:
            raise
        except Exception:  # torch.load and pickle raise errors of many types.
            _log.warning("%s is damaged: deleted", path)
            path.unlink()
            continue
        if step > resumption.step:
            _log.info("%s is a checkpoint of an epoch that the run repeats: deleted", path)
            path.unlink()


def kept_metrics(table: Path, resumption: Resumption) -> list[tuple[int, dict[str, float]]]:
    """Read the rows of ``metrics.csv`` that a resumed run does not measure again.

    Args:
        table: The run's ``metrics.csv``.
        resumption: The state from which the run continues.

    Returns:
        Step and metrics of each row, in the order of the file.
    """
    if not table.is_file():
        return []
    kept = []
    with table.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if None in row.values() or not row.get("step"):
                continue  # the run was killed while it wrote the row
            step, epoch = int(row.pop("step")), row.pop("epoch", None)
            values = {name: float(value) for name, value in row.items() if value}
            if epoch:  # The rows of learning rates have none.
                values["epoch"] = int(epoch)
            if values.get("epoch", 0) <= resumption.epoch and step < resumption.step:
                kept.append((step, values))
    return kept


def open_metrics(logger: CSVLogger, resumption: Resumption | None) -> None:
    """Open ``metrics.csv``, with the rows that a resumed run keeps.

    CSVLogger deletes the file of an earlier part of the run. A copy holds the rows until the new
    file has them, in case the process is killed in between.

    Args:
        logger: The logger that writes the file into its folder.
        resumption: The state from which the run continues; None for a new run.
    """
    table = Path(logger.log_dir) / "metrics.csv"
    copy = table.with_name("metrics.csv.old")
    rows = []
    if resumption is not None:
        if table.is_file() and not copy.is_file():
            table.replace(copy)
        rows = kept_metrics(copy, resumption)
    with warnings.catch_warnings():
        # The folder of a resumed run holds files, and their rows are written again.
        warnings.filterwarnings("ignore", message="Experiment logs directory .* exists")
        _ = logger.experiment
    for step, values in rows:
        logger.log_metrics(dict(values), step)
    if rows:
        logger.save()
    copy.unlink(missing_ok=True)


def has_other_processes() -> bool:
    """Whether SLURM, torchrun or a cloud has started this process as one of several."""
    return any(int(os.environ.get(name) or 1) > 1 for name in ("WORLD_SIZE", "SLURM_NTASKS"))


def _progress(checkpoint: Path) -> tuple[int, int]:
    content = load_content(checkpoint)
    return int(content["epoch"]), int(content["global_step"])


def _settings_of(folder: Path) -> dict[str, Any]:
    path = folder / "config.yaml"
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
        if not isinstance(content, dict):
            raise ValueError("the file holds no mapping")
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise RunDirectoryError(
            f"{path} is damaged ({error}): delete {folder}, or choose another --run_directory"
        ) from error
    return content


def _differing(saved: Any, given: Any, option: str) -> Iterator[str]:
    if isinstance(saved, dict) and isinstance(given, dict):
        for name in sorted(saved.keys() | given.keys()):
            full = f"{option}.{name}" if option else f"--{name}"
            yield from _differing(saved.get(name), given.get(name), full)
    elif saved != given:
        yield option
