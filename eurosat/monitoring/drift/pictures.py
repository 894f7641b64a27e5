"""The pictures of the drift report as SVG, which needs no drawing library.

The reference is blue and the window is orange in every picture.
"""

from collections.abc import Sequence
from html import escape

import numpy as np
import numpy.typing as npt

BEFORE, AFTER = "#2b7bba", "#e07b00"
_FAMILY_COLOURS = ("#2b7bba", "#e07b00", "#1b6b3a", "#8c4bb3")
_WIDTH, _HEIGHT = 420, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 14, 14, 12, 30
_BINS = 30
_POINTS = 400
"""Most points of one sample in the scatter plot; more would only overlap."""

Values = npt.NDArray[np.float32]


def histogram(before: Values, after: Values) -> str:
    """Draw the distributions of one number in the reference and in a window.

    Args:
        before: Values in the reference, shape (M,).
        after: Values in the window, shape (N,).
    """
    finite = [values[np.isfinite(values)] for values in (before, after)]
    pooled = np.concatenate(finite)
    low, high = np.quantile(pooled, [0.002, 0.998]) if len(pooled) else (0.0, 1.0)
    if high <= low:
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, _BINS + 1)
    # Values outside of the axis count at its ends.
    heights = [
        np.histogram(np.clip(values, low, high), edges)[0] / max(len(values), 1)
        for values in finite
    ]
    highest = max(float(max(bars.max() for bars in heights)), 1e-9)
    shapes = []
    for bars, colour in zip(heights, (BEFORE, AFTER), strict=True):
        points = [(0.0, 0.0)]
        for index, bar in enumerate(bars):
            height = float(bar) / highest
            points += [(index / _BINS, height), ((index + 1) / _BINS, height)]
        points.append((1.0, 0.0))
        shapes.append(
            f'<polygon points="{_path(points)}" fill="{colour}" fill-opacity=".3" '
            f'stroke="{colour}" stroke-width="1.5"/>'
        )
    return _svg("".join(shapes) + _axis(f"{low:.3g}", f"{high:.3g}"), "Two histograms")


def timeline(values: Sequence[Sequence[float | None]], names: Sequence[str], level: float) -> str:
    """Draw the p-values of every family, window by window, on a logarithmic axis.

    Args:
        values: For each window the p-value of every family; None where no test was possible.
        names: Names of the families.
        level: The level below which a p-value is significant.
    """
    floor = -6.0  # all smaller p-values are drawn at the upper edge

    def height(p_value: float) -> float:
        return max(float(np.log10(max(p_value, 1e-300))), floor) / floor

    count = len(values)
    x = [0.5 if count == 1 else index / (count - 1) for index in range(count)]
    (left, y), (right, _) = _place(0, height(level)), _place(1, 0)
    shapes = [
        f'<line x1="{left:.1f}" x2="{right:.1f}" y1="{y:.1f}" y2="{y:.1f}" '
        'stroke="currentColor" stroke-dasharray="4 4"/>'
    ]
    start = _LEFT  # of the next name
    for index, name in enumerate(names):
        colour = _FAMILY_COLOURS[index % len(_FAMILY_COLOURS)]
        points = [
            (x[row], height(p_value))
            for row, window in enumerate(values)
            if (p_value := window[index]) is not None
        ]
        shapes.append(
            f'<polyline points="{_path(points)}" fill="none" stroke="{colour}" stroke-width="2"/>'
        )
        for point in points:
            at = _place(*point)
            shapes.append(f'<circle cx="{at[0]:.1f}" cy="{at[1]:.1f}" r="3" fill="{colour}"/>')
        shapes.append(f'<text x="{start}" y="{_HEIGHT - 4}" fill="{colour}">{escape(name)}</text>')
        start += 6 * len(name) + 14
    return _svg("".join(shapes), "P-values of the families by window")


def bars(names: Sequence[str], before: Sequence[float], after: Sequence[float]) -> str:
    """Draw the fraction of every class in the reference and in a window.

    Args:
        names: Names of the classes.
        before: Fractions in the reference, in [0, 1].
        after: Fractions in the window, in [0, 1].
    """
    highest = max(*before, *after, 1e-9)
    room, row = 150, 26
    shapes = []
    for index, name in enumerate(names):
        top = index * row + 4
        shapes.append(
            f'<text x="{room - 8}" y="{top + 14}" text-anchor="end">{escape(name)}</text>'
        )
        for offset, value, colour in (
            (0, before[index], BEFORE),
            (10, after[index], AFTER),
        ):
            width = (_WIDTH - room - 60) * value / highest
            shapes.append(
                f'<rect x="{room}" y="{top + offset}" width="{width:.1f}" height="9" '
                f'fill="{colour}"/><text x="{room + width + 4:.1f}" y="{top + offset + 8.5}" '
                f'font-size="9">{value:.1%}</text>'
            )
    return _svg("".join(shapes), "Fractions of the classes", len(names) * row + 8)


def scatter(before: Values, after: Values) -> str:
    """Draw the first two coordinates of embeddings.

    Args:
        before: Embeddings of the reference, shape (M, D).
        after: Embeddings of the window, shape (N, D).
    """
    samples = [sample[np.isfinite(sample).all(axis=1)][:_POINTS, :2] for sample in (before, after)]
    pooled = np.concatenate(samples)
    if not len(pooled) or pooled.shape[1] < 2:
        return ""
    low, high = np.quantile(pooled, [0.005, 0.995], axis=0)
    span = np.where(high > low, high - low, 1)
    shapes = []
    for sample, colour in zip(samples, (BEFORE, AFTER), strict=True):
        for row in ((sample - low) / span).clip(0, 1).tolist():
            at = _place(row[0], row[1])
            shapes.append(
                f'<circle cx="{at[0]:.1f}" cy="{at[1]:.1f}" r="2" fill="{colour}" '
                'fill-opacity=".6"/>'
            )
    return _svg("".join(shapes) + _axis("", ""), "Embeddings of both samples")


def _place(x: float, y: float) -> tuple[float, float]:
    """Convert coordinates in [0, 1] to pixels."""
    return (
        _LEFT + x * (_WIDTH - _LEFT - _RIGHT),
        _HEIGHT - _BOTTOM - y * (_HEIGHT - _TOP - _BOTTOM),
    )


def _path(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in (_place(*point) for point in points))


def _axis(low: str, high: str) -> str:
    (left, bottom), (right, _) = _place(0, 0), _place(1, 0)
    return (
        f'<line x1="{left}" x2="{right}" y1="{bottom}" y2="{bottom}" stroke="currentColor"/>'
        f'<text x="{left}" y="{_HEIGHT - 12}">{escape(low)}</text>'
        f'<text x="{right}" y="{_HEIGHT - 12}" text-anchor="end">{escape(high)}</text>'
    )


def _svg(content: str, label: str, height: int = _HEIGHT) -> str:
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{escape(label)}" '
        'style="display:block;width:100%;height:auto;font-size:11px;fill:currentColor">'
        f"{content}</svg>"
    )
