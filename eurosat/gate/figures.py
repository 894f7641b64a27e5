"""The figures of a comparison, from arrays to a matplotlib ``Figure``."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from eurosat.bands import BANDS, RGB, render_rgb
from eurosat.evaluation.figures import BLUE, FAINT, GREY, ORANGE
from eurosat.gate.corruptions import AMOUNTS, CORRUPTIONS, Pixels, corrupt, readable
from eurosat.gate.measurement import Measurement


def accuracy_by_severity(
    candidate: Measurement, baseline: Measurement, severities: Sequence[int]
) -> Figure:
    """Draw how accuracy falls with severity, one panel a corruption.

    Args:
        candidate: Figures of the candidate, drawn in blue.
        baseline: Figures of the baseline, drawn in orange, dashed.
        severities: The severities that were measured; 0 is the clean images.

    Returns:
        Six panels with common axes.
    """
    figure = Figure(figsize=(10.5, 5.6), layout="constrained")
    panels: Sequence[Axes] = figure.subplots(2, 3, sharex=True, sharey=True).flat
    ends = [0, *sorted(severities)]
    for axes, corruption in zip(panels, CORRUPTIONS, strict=True):
        for found, label, colour, style in (
            (baseline, "baseline", ORANGE, "s--"),
            (candidate, "candidate", BLUE, "o-"),
        ):
            by_severity = dict(zip(severities, found.corrupted[corruption], strict=True))
            shares = [found.accuracy, *(by_severity[severity] for severity in ends[1:])]
            axes.plot(ends, shares, style, color=colour, markersize=4, label=label)
        axes.set_title(readable(corruption), fontsize=11)
        axes.set_xticks(ends)
        axes.grid(axis="y", color=FAINT, linewidth=0.5)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylim(0, 1.02)
    panels[0].yaxis.set_major_formatter(PercentFormatter(1.0))
    panels[0].legend(frameon=False, loc="lower left")
    figure.supxlabel("severity (0: clean)", fontsize=10)
    figure.supylabel("test accuracy", fontsize=10)
    return figure


def corrupted_examples(example: Pixels, severities: Sequence[int]) -> Figure:
    """Show one patch under every corruption at every severity.

    Args:
        example: The raw patch with all channels of its data, shape (1, height, width, 3 or 13).
        severities: The severities to show.

    Returns:
        A row a corruption: the clean patch, then the severities with their amounts.
    """
    columns = 1 + len(severities)
    figure = Figure(figsize=(1.25 * columns + 0.9, 9.3), layout="constrained")
    grid = figure.subplots(len(CORRUPTIONS), columns, squeeze=False)
    for row, corruption in zip(grid, CORRUPTIONS, strict=True):
        row[0].set_ylabel(readable(corruption), rotation=0, ha="right", va="center", fontsize=10)
        _show(row[0], example, "clean" if corruption == CORRUPTIONS[0] else "")
        for axes, severity in zip(row[1:], severities, strict=True):
            channels = RGB if example.shape[-1] == len(RGB) else BANDS
            changed = corrupt(example, corruption, severity, channels)
            _show(axes, changed, f"{AMOUNTS[corruption][severity - 1]:g}")
    return figure


def _show(axes: Axes, pixels: Pixels, title: str) -> None:
    picture = pixels[0] if pixels.shape[-1] == len(RGB) else render_rgb(pixels[0])
    axes.imshow(picture, interpolation="nearest")
    axes.set_title(title, fontsize=8.5, color=GREY, pad=2)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
