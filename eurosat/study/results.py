"""What a study found: one row a run, one interval a cell, a table and a plot."""

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scipy.stats import t as student

from eurosat.bands import RGB
from eurosat.callbacks.figures import save_figure
from eurosat.callbacks.report import wilson_interval
from eurosat.errors import StudyError
from eurosat.files import replacing, write_csv
from eurosat.study.figure import accuracy_figure
from eurosat.study.plan import Cell, Study
from eurosat.study.runner import Run

_METRICS = ("accuracy", "accuracy_macro", "f1_macro", "ece", "loss")
_FACTS = ("images_per_second", "train_seconds", "epochs")


@dataclass(frozen=True)
class Summary:
    """A cell's finished runs.

    Attributes:
        cell: The point of the grid.
        rows: One a finished run, as in ``runs.csv``.
        mean: Mean test accuracy, 0 to 1.
        low: Lower end of its 95 % interval.
        high: Upper end.
    """

    cell: Cell
    rows: list[dict[str, Any]]
    mean: float
    low: float
    high: float


def summarise(study: Study, runs: Sequence[Run]) -> list[Summary]:
    """Summarise the finished runs, cell by cell, in the study's order.

    Raises:
        StudyError: Runs were made of different data.
    """
    rows = [(run, _row(run, path)) for run in runs if (path := run.finished)]
    # RGB and bands of the same files are stored apart, and may be compared.
    rgb_names = " ".join(channel.name for channel in RGB)
    stores = {(row["bands"] == rgb_names, row["data"]) for _, row in rows}
    if len({rgb for rgb, _ in stores}) < len(stores):
        raise StudyError(
            "the finished runs were made of different data, so they cannot be compared: give "
            "every source an --output of its own"
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

    Over two seeds or more it is Student's t interval of the mean, for the spread between runs. A
    single run has no spread: Wilson's interval then bounds what the test images alone leave open.

    Args:
        accuracies: One a run, 0 to 1.
        test_images: Test images of a run.

    Returns:
        Lower and upper end, within 0 and 1.
    """
    if len(accuracies) == 1:
        return wilson_interval(accuracies[0], test_images)
    mean = statistics.mean(accuracies)
    error = statistics.stdev(accuracies) / math.sqrt(len(accuracies))
    reach = float(student.ppf(0.975, len(accuracies) - 1)) * error
    return max(0.0, mean - reach), min(1.0, mean + reach)


def write_results(study: Study, summaries: Sequence[Summary], output: Path) -> None:
    """Write ``runs.csv``, ``table.md`` and ``plot.png`` into a folder, each whole or not at all."""
    rows = [row for summary in summaries for row in summary.rows]
    if not rows:
        return
    write_csv(output / "runs.csv", list(rows[0]), [list(row.values()) for row in rows])
    with replacing(output / "table.md") as partial:
        partial.write_text(markdown_table(study, summaries))
    synthetic = any(row["synthetic"] for row in rows)
    save_figure(
        accuracy_figure(study, summaries, note="synthetic data" if synthetic else ""),
        output / "plot.png",
    )


def markdown_table(study: Study, summaries: Sequence[Summary]) -> str:
    """One line a cell: its labels, accuracy, interval and what it took."""
    header = [*study.axes, "accuracy", "95 % interval", "runs", "images", "epochs"]
    header += ["images/s", "parameters"]
    lines = [header, ["---"] * len(header)]
    for summary in summaries:
        first, count = summary.rows[0], len(summary.rows)
        # A run that was cut off in its test, and went on there, has no speed.
        rates = [rate for row in summary.rows if (rate := row["images_per_second"])]
        lines.append(
            [
                *map(str, summary.cell.labels.values()),
                f"{summary.mean:.2%}",
                f"{summary.low:.2%} to {summary.high:.2%}{'' if count > 1 else ' *'}",
                str(count),
                f"{first['train_images']:,}",
                str(first["epochs"]),
                f"{statistics.median(rates):,.0f}" if rates else "n/a",
                f"{first['parameters'] / 1e6:.2f} M",
            ]
        )
    synthetic = any(row["synthetic"] for summary in summaries for row in summary.rows)
    title = f"{study.title} – synthetic data" if synthetic else study.title
    text = f"{title}\n\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines)
    if any(len(summary.rows) == 1 for summary in summaries):
        text += "\n\\* one run: Wilson's interval over its test images, not over seeds\n"
    revisions = sorted({row["revision"] for summary in summaries for row in summary.rows})
    if len(revisions) > 1 or any(revision.endswith("-dirty") for revision in revisions):
        text += f"\nCode of the runs: {', '.join(name or 'unknown' for name in revisions)}\n"
    return text


def _revision(git: Mapping[str, Any] | None) -> str:
    """The code of a run, shortened; empty outside of a checkout."""
    return f"{git['revision'][:12]}{'-dirty' if git['dirty'] else ''}" if git else ""


def _row(run: Run, path: Path) -> dict[str, Any]:
    card = json.loads((path / "run.json").read_text())
    metrics = json.loads((path / "metrics.json").read_text())
    return {
        **run.cell.labels,
        "seed": run.seed,
        **{name: metrics[name] for name in _METRICS},
        "train_images": card["split"]["train"],
        "test_images": card["split"]["test"],
        **{name: card.get(name) for name in _FACTS},
        "backbone": card["model"]["backbone"],
        "parameters": card["model"]["parameters"],
        "synthetic": card["synthetic"],
        "bands": " ".join(card["data"]["bands"]),
        "data": card["data"]["fingerprint"],
        "revision": _revision(card["git"]),
        "cpu": card["hardware"]["cpu"],
        "accelerator": card["hardware"]["accelerator"],
        "threads": card["hardware"]["threads"],
        "run": f"{path.parent.name}/{path.name}",
    }
