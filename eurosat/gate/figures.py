"""Draw the figures of a comparison as a matplotlib ``Figure``."""

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from eurosat.bands import BANDS, RGB, render_rgb
from eurosat.evaluation.figures import BLUE, FAINT, GREY, ORANGE
from eurosat.gate.corruption import Corruption, Pixels
from eurosat.gate.measurement import Measurement


def accuracy_by_severity(
    candidate: Measurement,
    baseline: Measurement,
    corruptions: Sequence[Corruption],
    severities: Sequence[int],
) -> Figure:
    """Draw how accuracy falls with severity, in one panel per corruption.

    Args:
        candidate: Figures of the candidate, drawn in blue.
        baseline: Figures of the baseline, drawn in orange, dashed.
        corruptions: The corruptions that were measured, one or more.
        severities: The severities that were measured. The panels show the clean images at 0.

    Returns:
        Panels with common axes, in about as many rows as columns.
    """
    columns = math.ceil(math.sqrt(len(corruptions)))
    rows = math.ceil(len(corruptions) / columns)
    figure = Figure(figsize=(3.5 * columns, 2.8 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    panels: list[Axes] = list(grid.flat)
    for axes in panels[len(corruptions) :]:
        axes.remove()
    for axes in panels[max(0, len(corruptions) - columns) : len(corruptions)]:
        axes.tick_params(labelbottom=True)  # the panel below may have been removed
    ends = [0, *sorted(severities)]
    for axes, corruption in zip(panels, corruptions, strict=False):
        for found, label, colour, style in (
            (baseline, "baseline", ORANGE, "s--"),
            (candidate, "candidate", BLUE, "o-"),
        ):
            by_severity = dict(zip(severities, found.corrupted[corruption.name], strict=True))
            fractions = [found.accuracy, *(by_severity[severity] for severity in ends[1:])]
            axes.plot(ends, fractions, style, color=colour, markersize=4, label=label)
        axes.set_title(corruption.title, fontsize=11)
        axes.set_xticks(ends)
        axes.grid(axis="y", color=FAINT, linewidth=0.5)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylim(0, 1.02)
    panels[0].yaxis.set_major_formatter(PercentFormatter(1.0))
    panels[0].legend(frameon=False, loc="lower left")
    figure.supxlabel("severity (0: clean)", fontsize=10)
    figure.supylabel("test accuracy", fontsize=10)
    return figure


def corrupted_examples(
    example: Pixels, corruptions: Sequence[Corruption], severities: Sequence[int]
) -> Figure:
    """Show one patch under every corruption at every severity.

    Args:
        example: The raw patch with all channels of its data, shape (1, height, width, 3 or 13).
        corruptions: The corruptions to show, one or more.
        severities: The severities to show.

    Returns:
        One row per corruption: the clean patch, then one patch per severity with the amount.
    """
    columns = 1 + len(severities)
    figure = Figure(figsize=(1.25 * columns + 0.9, 1.55 * len(corruptions)), layout="constrained")
    grid = figure.subplots(len(corruptions), columns, squeeze=False)
    channels = RGB if example.shape[-1] == len(RGB) else BANDS
    for row, corruption in zip(grid, corruptions, strict=True):
        row[0].set_ylabel(corruption.title, rotation=0, ha="right", va="center", fontsize=10)
        _show(row[0], example, "clean" if corruption is corruptions[0] else "")
        for axes, severity in zip(row[1:], severities, strict=True):
            changed = corruption.apply(example, severity, channels)
            _show(axes, changed, f"{corruption.amount(severity):g}")
    return figure


def _show(axes: Axes, pixels: Pixels, title: str) -> None:
    picture = pixels[0] if pixels.shape[-1] == len(RGB) else render_rgb(pixels[0])
    axes.imshow(picture, interpolation="nearest")
    axes.set_title(title, fontsize=8.5, color=GREY, pad=2)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
