"""The plot of a study."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from eurosat.evaluation.figures import BLUE, FAINT, GREY
from eurosat.study.plan import Study
from eurosat.study.results import Summary


def accuracy_figure(study: Study, summaries: Sequence[Summary], note: str = "") -> Figure:
    """Draw accuracies with their intervals.

    An axis of numbers gives curves, with one curve per combination of the other axes. Without an
    axis of numbers, every cell is a separate mark.

    Args:
        study: The study.
        summaries: The study's cells, at least one.
        note: Appended to the title, such as ``"synthetic data"``.

    Returns:
        The figure.
    """
    figure = Figure(figsize=(8.0, 4.8), layout="constrained")
    axes = figure.subplots()
    numbers = next(
        (n for n, v in study.axes.items() if all(isinstance(x, int | float) for x in v)), None
    )
    if numbers is None:
        _marks(axes, summaries)
        figure.set_size_inches(8.0, 1.6 + 0.45 * len(summaries))
    else:
        _curves(axes, summaries, numbers)
    axes.set_title(" – ".join(filter(None, [study.title, note])))
    axes.grid(color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _curves(axes: Axes, summaries: Sequence[Summary], numbers: str) -> None:
    lines: dict[str, list[Any]] = defaultdict(list)
    for summary in summaries:
        others = [str(v) for name, v in summary.cell.labels.items() if name != numbers]
        lines[", ".join(others)].append(summary)
    for index, (name, points) in enumerate(lines.items()):
        colour = BLUE if len(lines) == 1 else colormaps["viridis"](0.85 * index / (len(lines) - 1))
        points.sort(key=lambda point: point.cell.labels[numbers])
        axes.errorbar(
            [point.cell.labels[numbers] for point in points],
            [point.mean for point in points],
            yerr=_half_widths(points),
            label=name,
            color=colour,
            marker="o",
            markersize=4,
            capsize=3,
        )
        runs = [(point.cell.labels[numbers], row) for point in points for row in point.rows]
        axes.plot(
            [label for label, _ in runs], [row["accuracy"] for _, row in runs], ".", color=GREY
        )
    axes.set_xlabel(numbers)
    axes.set_ylabel("test accuracy: mean, 95 % interval, runs")
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    if any(lines):
        axes.legend(frameon=False)


def _marks(axes: Axes, summaries: Sequence[Summary]) -> None:
    ordered = sorted(summaries, key=lambda summary: summary.mean)
    places = np.arange(len(ordered))
    means = [summary.mean for summary in ordered]
    axes.errorbar(means, places, xerr=_half_widths(ordered), fmt="o", color=BLUE, capsize=3)
    for place, summary in zip(places, ordered, strict=True):
        accuracies = [row["accuracy"] for row in summary.rows]
        axes.plot(accuracies, [place] * len(accuracies), ".", color=GREY)
        axes.annotate(
            f"{summary.mean:.2%}",
            (summary.mean, place),
            xytext=(0, 7),
            textcoords="offset points",
            ha="center",
            fontsize=8,
        )
    names = [", ".join(map(str, summary.cell.labels.values())) for summary in ordered]
    axes.set_yticks(places, names)
    axes.set_ylim(-0.6, len(ordered) - 0.3)
    axes.set_xlabel("test accuracy: mean, 95 % interval, runs")
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))


def _half_widths(points: Sequence[Summary]) -> list[list[float]]:
    return [
        [point.mean - point.low for point in points],
        [point.high - point.mean for point in points],
    ]
