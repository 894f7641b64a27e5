"""Draw the figures of a run, with pure functions from arrays to a matplotlib ``Figure``.

The functions use only matplotlib's object interface, so drawing changes no global state and is safe
in any thread or process. Blue and orange are colours of Okabe and Ito's colour-blind-safe palette.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from eurosat.calibration import BINS, CalibrationError, confidence_bins
from eurosat.evaluation.colours import class_colours
from eurosat.evaluation.tables import series_of
from eurosat.files import atomic_write
from eurosat.plain_text import plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.typing import ColorType

_MOST_CLASSES = 30  # rows of a confusion matrix that can be read
BLUE, ORANGE, GREY, FAINT = "#0072B2", "#D55E00", "#666666", "#CCCCCC"


def save_figure(figure: "Figure", path: Path) -> None:
    """Write a figure as PNG, whole or not at all, and create missing folders."""
    with atomic_write(path) as partial:
        # Without matplotlib's version in the file, the same figure gives the same bytes.
        figure.savefig(partial, format="png", dpi=150, metadata={"Software": None})


def learning_curves(
    metrics: Sequence[Mapping[str, str]],
    monitor: str = "val/accuracy",
    mode: Literal["min", "max"] = "max",
    note: str = "",
) -> "Figure":
    """Draw loss, accuracy and learning rate during training.

    Args:
        metrics: Rows of ``metrics.csv``, from `read_rows`. Cells may be blank and columns may be
            missing; a panel without data shows "not recorded".
        monitor: Column by which the best checkpoint was chosen.
        mode: Whether the best epoch has the smallest or the largest value of ``monitor``.
        note: Appended to the title, such as ``"synthetic data"``.

    Returns:
        Three panels; epochs count from 0, as in ``metrics.csv`` and checkpoint names.
    """
    from matplotlib import colormaps
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    figure = Figure(figsize=(12.5, 4.0), layout="constrained")
    loss, accuracy, rate = figure.subplots(1, 3)
    for axes, quantity in ((loss, "loss"), (accuracy, "accuracy")):
        for split, colour in (("train", ORANGE), ("val", BLUE)):
            _curve(axes, series_of(metrics, f"{split}/{quantity}"), split, colour)
        _finish_panel(axes, quantity.capitalize(), "epoch")
    accuracy.yaxis.set_major_formatter(PercentFormatter(1.0))

    rates = {
        name.removeprefix("lr-"): series
        for name in (metrics[0] if metrics else ())
        if name.startswith("lr-") and not name.endswith(("-momentum", "-weight_decay"))
        if (series := series_of(metrics, name, over="step"))
    }
    for index, (name, series) in enumerate(rates.items()):
        _curve(rate, series, name, colormaps["viridis"](0.85 * index / len(rates)))
    peaks = [max(series.values()) for series in rates.values()] or [0.0]
    if 0 < min(peaks) * 10 <= max(peaks):
        rate.set_yscale("log")  # Rates of parameter groups may differ by orders of magnitude.
    _finish_panel(rate, "Learning rate", "optimiser step")

    title = "Learning curves"
    monitored = series_of(metrics, monitor)
    monitored = {epoch: value for epoch, value in monitored.items() if not math.isnan(value)}
    if monitored:
        best = (min if mode == "min" else max)(monitored, key=lambda epoch: monitored[epoch])
        title += f": best {monitor} {monitored[best]:.4f} at epoch {best:.0f}"
        steps = series_of([row for row in metrics if row.get(monitor)], "step", over="epoch")
        for axes, position in ((loss, best), (accuracy, best), (rate, steps.get(best))):
            if position is not None and axes.lines:
                axes.axvline(position, color=GREY, linewidth=1, linestyle=":", zorder=0)
    figure.suptitle(_titled(title, note))
    return figure


def confusion_matrix(
    matrix: npt.NDArray[np.integer], classes: Sequence[str], note: str = ""
) -> "Figure":
    """Draw the confusion matrix of true and predicted classes.

    Args:
        matrix: Counts of images, integers of shape (C, C): true class by row, predicted by column.
        classes: The C class names in index order.
        note: Appended to the title, such as ``"synthetic data"``.

    Returns:
        One cell per pair of classes, with the count as text and the fraction of the true class as
        colour; counts of 0 are faint. The colour scale follows the square root of the fraction, so
        that a few percent of mistakes are visible. Of more than 30 classes, the 29 classes with
        most mistakes are drawn, and the other classes are added up in the last row and column.
    """
    from matplotlib.colors import PowerNorm
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    title = f"Confusion matrix: {np.trace(matrix)} of {matrix.sum()} images right"
    colours = list(class_colours(classes).values())
    if len(classes) > _MOST_CLASSES:
        title += f"; the {_MOST_CLASSES - 1} classes with most mistakes"
        matrix, kept = _group_others(matrix)
        colours = [*(colours[label] for label in kept), GREY]
        others = len(classes) - len(kept)
        classes = [*(classes[label] for label in kept), f"the {others} other classes"]
    count = len(classes)
    side = min(2.6 + 0.42 * max(count, 9), 14.5)
    figure = Figure(figsize=(side + 0.9, side), layout="constrained")
    axes = figure.subplots()
    fraction = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    norm = PowerNorm(0.5, vmin=0, vmax=1)
    image = axes.imshow(fraction, cmap="Blues", norm=norm)
    size = 9.5 if count <= 12 else 6.5
    for (row, column), images in np.ndenumerate(matrix):
        dark = norm(fraction[row, column]) > 0.55
        colour = FAINT if images == 0 else "white" if dark else "black"
        axes.text(column, row, str(images), ha="center", va="center", color=colour, fontsize=size)
    classes = [_drawn(name) for name in classes]
    axes.set_xticks(range(count), classes, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(count), classes)
    axes.tick_params(length=7, width=7, labelsize=10 if count <= 12 else 8)
    for ticks in (axes.xaxis.get_major_ticks(), axes.yaxis.get_major_ticks()):
        for tick, colour in zip(ticks, colours, strict=True):
            tick.tick1line.set_markeredgecolor(colour)
    axes.set(xlabel="predicted class", ylabel="true class")
    axes.spines[:].set_color(FAINT)
    bar = figure.colorbar(image, shrink=0.8, aspect=30, ticks=[0, 0.01, 0.05, 0.1, 0.25, 0.5, 1])
    bar.ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    bar.set_label("fraction of the images of the true class")
    bar.outline.set_visible(False)
    axes.set_title(_titled(title, note), pad=12)
    return figure


def _group_others(
    matrix: npt.NDArray[np.integer],
) -> tuple[npt.NDArray[np.integer], list[int]]:
    """Add up the rows and columns of all classes but those with most mistakes.

    Returns:
        The smaller matrix, whose last row and column are the other classes, and the labels of the
        classes of all other rows.
    """
    mistakes = matrix.sum(axis=0) + matrix.sum(axis=1) - 2 * matrix.diagonal()
    kept = sorted(np.argsort(-mistakes, kind="stable")[: _MOST_CLASSES - 1].tolist())
    group = np.full(len(matrix), len(kept))
    group[kept] = np.arange(len(kept))
    grouped = np.zeros((len(kept) + 1, len(kept) + 1), matrix.dtype)
    np.add.at(grouped, (group[:, None], group[None, :]), matrix)
    return grouped, kept


def reliability_diagram(
    confidence: npt.NDArray[np.floating],
    correct: npt.NDArray[np.bool_],
    bins: int = BINS,
    note: str = "",
) -> "Figure":
    """Draw how often predictions of a given confidence are right.

    The title gives the expected calibration error, which `eurosat.calibration.CalibrationError`
    computes.

    Args:
        confidence: Probability of the predicted class, in [0, 1], shape (N,).
        correct: Whether the prediction is right, shape (N,).
        bins: Number of equal-width bins on [0, 1].
        note: Appended to the title, such as ``"synthetic data"``.

    Returns:
        An upper panel with the accuracy per bin, the diagonal, and the gaps hatched, and a lower
        panel with the number of images per bin.
    """
    from matplotlib.figure import Figure

    edges = np.linspace(0, 1, bins + 1)
    error = CalibrationError(confidence, correct, bins).overall()
    # The calibration error counts confidences of exactly 1 in a separate bin. The diagram counts
    # such confidences in the last bar.
    index = np.minimum(confidence_bins(confidence, bins), bins - 1)
    images = np.bincount(index, minlength=bins)
    some = images > 0
    centres = ((edges[:-1] + edges[1:]) / 2)[some]
    accuracy = np.bincount(index, weights=correct, minlength=bins)[some] / images[some]
    mean_confidence = np.bincount(index, weights=confidence, minlength=bins)[some] / images[some]

    figure = Figure(figsize=(6.5, 7.4), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    width = 0.92 / bins
    upper.bar(centres, accuracy, width, color="#B3D5E8")
    gap = {"facecolor": "#FBE3D3", "edgecolor": ORANGE, "hatch": "///", "linewidth": 0}
    label = "gap to the mean confidence"
    upper.bar(centres, mean_confidence - accuracy, width, accuracy, label=label, **gap)
    ends = (centres - width / 2, centres + width / 2)
    upper.hlines(accuracy, *ends, color=BLUE, linewidth=3, label="accuracy")
    upper.plot([0, 1], [0, 1], "--", color=GREY, linewidth=1, label="perfect calibration")
    upper.set(xlim=(0, 1), ylim=(0, 1), ylabel="accuracy")
    upper.legend(frameon=False, loc="upper left")
    lower.bar(centres, images[some], width, color=GREY)
    lower.set_yscale("log")
    lower.set(xlabel="confidence (probability of the predicted class)", ylabel="images (log)")
    lower.set_ylim(bottom=0.5)
    for axes in (upper, lower):
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(_titled(f"Reliability: expected calibration error {error:.4f}", note))
    return figure


def confident_mistakes(
    images: npt.NDArray[np.uint8],
    files: Sequence[str],
    labels: Sequence[str],
    predicted: Sequence[str],
    confidence: npt.NDArray[np.floating],
    note: str = "",
) -> "Figure":
    """Draw wrong predictions, in the given order.

    Args:
        images: Pictures as RGB, uint8, shape (N, H, W, 3).
        files: Name of each picture's file, N of them.
        labels: True class name of each picture.
        predicted: Predicted class name of each picture.
        confidence: Probability of the predicted class, in [0, 1], shape (N,).
        note: Appended to the title, such as ``"synthetic data"``.

    Returns:
        A grid of pictures, each with its true and predicted class, confidence and file name.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    if not len(images):
        figure = Figure(figsize=(8, 2.5), layout="constrained")
        figure.suptitle(_titled("Most confident mistakes", note))
        figure.text(0.5, 0.4, "No mistakes: every prediction is right.", ha="center", fontsize=13)
        return figure
    rows = math.ceil(len(images) / 5)
    height = 0.55 + 3.0 * rows  # inches; per row, 2.15 for the picture and 0.85 for its text
    figure = Figure(figsize=(12, height))
    figure.subplots_adjust(0.01, 0.45 / height, 0.99, 1 - 0.95 / height, wspace=0.12, hspace=0.4)
    colours = class_colours(sorted({*labels, *predicted}))
    for index in range(len(images)):
        axes = figure.add_subplot(rows, 5, index + 1)
        axes.set_axis_off()
        axes.imshow(images[index], interpolation="nearest")
        words = (("is", labels[index]), ("predicted", predicted[index]))
        axes.legend(
            handles=[
                Patch(color=colours[name], label=f"{word} {_drawn(name)}") for word, name in words
            ],
            loc="lower left",
            bbox_to_anchor=(-0.03, 1.0),
            borderpad=0,
            handlelength=0.8,
            handleheight=0.8,
            frameon=False,
            fontsize=8.5,
        )
        caption = f"{confidence[index]:.1%} sure\n{_drawn(Path(files[index]).name)}"
        axes.text(0, -0.04, caption, transform=axes.transAxes, va="top", fontsize=8.5, color=GREY)
    title = _titled(f"Most confident mistakes: {len(images)} images", note)
    figure.suptitle(title, x=0.01, ha="left", y=1 - 0.12 / height, va="top")
    return figure


def _drawn(name: str) -> str:
    """Write a name of a file or class as text of a figure, which is no formula."""
    return plain(name).replace("$", r"\$")


def _titled(title: str, note: str) -> str:
    return f"{title} ({note})" if note else title


def _curve(axes: "Axes", series: dict[float, float], label: str, colour: "ColorType") -> None:
    if series:
        style = "o-" if len(series) <= 30 else "-"  # A line through a single epoch is invisible.
        axes.plot(list(series), list(series.values()), style, ms=3, color=colour, label=label)


def _finish_panel(axes: "Axes", title: str, unit: str) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_title(title, fontsize=11)
    axes.set_xlabel(unit)
    axes.spines[["top", "right"]].set_visible(False)
    if not axes.lines:
        axes.set(xticks=[], yticks=[])
        axes.text(0.5, 0.5, "not recorded", ha="center", color=GREY, transform=axes.transAxes)
        return
    axes.grid(axis="y", color=FAINT, linewidth=0.5)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    if axes.dataLim.width == 0:
        axes.set_xlim(axes.dataLim.x0 - 1, axes.dataLim.x0 + 1)
    if len(axes.lines) > 1:
        axes.legend(frameon=False)
