"""A study's results as files: a CSV of the runs, a Markdown table and a plot."""

import statistics
from collections.abc import Sequence
from pathlib import Path

from eurosat.evaluation.figures import save_figure
from eurosat.files import write_csv, write_text
from eurosat.study.figure import accuracy_figure
from eurosat.study.plan import Study
from eurosat.study.results import Summary

_ONE_SPLIT = (
    "All runs share one split. The intervals are of the mean over seeds, and do not say how the "
    "accuracy differs on other images."
)
_RESPLIT = (
    "Every seed draws another split of the same images. The intervals are of the mean over seeds "
    "and splits. The splits share images, so the intervals are somewhat too narrow."
)


def write_results(study: Study, summaries: Sequence[Summary], output: Path) -> None:
    """Write ``runs.csv``, ``table.md`` and ``plot.png`` into a folder, each whole or not at all."""
    rows = [row for summary in summaries for row in summary.rows]
    if not rows:
        return
    write_csv(output / "runs.csv", list(rows[0]), [list(row.values()) for row in rows])
    write_text(output / "table.md", markdown_table(study, summaries))
    synthetic = any(row["synthetic"] for row in rows)
    save_figure(
        accuracy_figure(study, summaries, note="synthetic data" if synthetic else ""),
        output / "plot.png",
    )


def markdown_table(study: Study, summaries: Sequence[Summary]) -> str:
    """Markdown table with one line per cell: labels, accuracy, interval, images and speed."""
    header = [*study.axes, "accuracy", "95 % interval", "runs", "images", "epochs"]
    header += ["images/s", "parameters"]
    lines = [header, ["---"] * len(header)]
    for summary in summaries:
        first, count = summary.rows[0], len(summary.rows)
        # A run that was interrupted in its test and resumed there has no speed.
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
    if any(len(summary.rows) > 1 for summary in summaries):
        text += f"\n{_RESPLIT if study.resplit else _ONE_SPLIT}\n"
    if any(len(summary.rows) == 1 for summary in summaries):
        text += "\n\\* one run: Wilson's interval over the test images, not over seeds\n"
    revisions = sorted({row["revision"] for summary in summaries for row in summary.rows})
    if len(revisions) > 1 or any(revision.endswith("-dirty") for revision in revisions):
        text += f"\nCode of the runs: {', '.join(name or 'unknown' for name in revisions)}\n"
    return text
