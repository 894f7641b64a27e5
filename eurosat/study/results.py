"""The results of a study: one row per run, one interval per cell."""

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eurosat.bands import RGB
from eurosat.errors import StudyError
from eurosat.evaluation.intervals import student_interval, wilson_interval
from eurosat.hardware import Hardware
from eurosat.metrics import values_of
from eurosat.provenance import GitState
from eurosat.run_card import RUN_CARD, RunCard, read_run_card
from eurosat.study.plan import Cell, Study
from eurosat.study.runner import Run

_FACTS = ("images_per_second", "train_seconds", "epochs")


@dataclass(frozen=True)
class Summary:
    """A cell's finished runs.

    Attributes:
        cell: The point of the grid.
        rows: One row per finished run, as in ``runs.csv``.
        mean: Mean test accuracy, 0 to 1.
        low: Lower end of the 95 % interval of the mean.
        high: Upper end of the 95 % interval of the mean.
    """

    cell: Cell
    rows: list[dict[str, Any]]
    mean: float
    low: float
    high: float


def summarise(study: Study, runs: Sequence[Run]) -> list[Summary]:
    """Summarise the finished runs, cell by cell, in the study's order.

    Raises:
        StudyError: The runs used different data.
    """
    finished = [(run, path) for run in runs if (path := run.finished)]
    metrics = [_read_metrics(path) for _, path in finished]
    # Runs of another version may have other metrics: every row gets a column for each.
    names = list(dict.fromkeys(name for found in metrics for name in found))
    rows = [
        (run, _row(run, path, {name: found.get(name) for name in names}))
        for (run, path), found in zip(finished, metrics, strict=True)
    ]
    # RGB and bands of the same files have separate stores, and can be compared.
    rgb_names = " ".join(channel.name for channel in RGB)
    stores = {(row["bands"] == rgb_names, row["data"]) for _, row in rows}
    if len({rgb for rgb, _ in stores}) < len(stores):
        raise StudyError(
            "the finished runs used different data, so they cannot be compared: give each data "
            "source its own --output"
        )
    summaries = []
    for cell in study.cells:
        own = [row for run, row in rows if run.cell.labels == cell.labels]
        if own:
            accuracies = [row["accuracy"] for row in own]
            low, high = confidence_interval(accuracies, own[0]["test_images"])
            summaries.append(Summary(cell, own, statistics.mean(accuracies), low, high))
    return summaries


def confidence_interval(accuracies: Sequence[float], test_images: int) -> tuple[float, float]:
    """Bound a mean accuracy by a 95 % interval.

    With two runs or more, the interval is Student's t interval of the mean, which reflects the
    spread between runs. A single run has no spread, so its interval is Wilson's interval, which
    reflects the number of test images only.

    Args:
        accuracies: Test accuracy of each run, 0 to 1.
        test_images: Number of test images of a run.

    Returns:
        Lower and upper end, within 0 and 1.
    """
    if len(accuracies) == 1:
        return wilson_interval(accuracies[0], test_images)
    low, high = student_interval(accuracies)
    return max(0.0, low), min(1.0, high)


def _revision(git: GitState | None) -> str:
    """Short git revision of a run's code; empty if the code was not in a git checkout."""
    return f"{git.revision[:12]}{'-dirty' if git.dirty else ''}" if git else ""


def _read_metrics(path: Path) -> dict[str, float | None]:
    """The metrics of a finished run, by name.

    Raises:
        StudyError: The run has no accuracy.
    """
    file = path / "metrics.json"
    metrics = values_of(json.loads(file.read_text("utf-8")))
    if metrics["accuracy"] is None:
        raise StudyError(f"{file} has no accuracy: delete the run's folder, and train it again")
    return metrics


def _row(run: Run, path: Path, metrics: Mapping[str, float | None]) -> dict[str, Any]:
    card = read_run_card(path) or RunCard()
    model, data, split = card.model, card.data, card.split
    if model is None or data is None or split is None:
        raise StudyError(
            f"{path / RUN_CARD} lacks the model, the data or the split of a finished run: delete "
            "the folder, and the study trains the run again"
        )
    hardware = card.hardware or Hardware()
    return {
        **run.cell.labels,
        "seed": run.seed,
        **metrics,
        "train_images": split.train,
        "test_images": split.test,
        **{name: getattr(card, name) for name in _FACTS},
        "backbone": model.backbone,
        "parameters": model.parameters,
        "synthetic": card.synthetic,
        "bands": " ".join(data.bands),
        "data": data.fingerprint,
        "revision": _revision(card.git),
        "cpu": hardware.cpu,
        "accelerator": hardware.accelerator,
        "threads": hardware.threads,
        "run": f"{path.parent.name}/{path.name}",
    }
