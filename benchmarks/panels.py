"""Draw the panels of the dashboards from a Prometheus, without Grafana.

The pictures docs/images/dashboard-*.png are made with this command.

python -m benchmarks.panels --prometheus http://localhost:9090 --minutes 15
"""

import argparse
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import matplotlib.dates
import matplotlib.pyplot as plt
import numpy as np
import requests
from matplotlib.axes import Axes

from eurosat.monitoring.dashboards.panels import DASHBOARDS, RATE, Panel, Query

COLUMNS = 6
"""Numbers in a row; a chart has the width of three numbers."""


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--prometheus", default="http://localhost:9090", help="its address")
    options.add_argument("--minutes", type=float, default=15, help="length of the curves (15)")
    options.add_argument("--output", type=Path, default=Path("docs/images"), help="(docs/images)")
    args = options.parse_args()
    end = time.time()
    period = {"start": end - 60 * args.minutes, "end": end, "step": max(5, args.minutes)}
    period["time"] = end  # of a query at one time

    def ask(query: Query, kind: str = "query_range") -> list[tuple[str, Any]]:
        """Legends and values, shape (time and value, points), of the series of a query."""
        answer = requests.get(
            f"{args.prometheus}/api/v1/{kind}",
            params={"query": query.expression.replace(RATE, "[1m]"), **period},
            timeout=60,
        )
        answer.raise_for_status()
        found = []
        for series in answer.json()["data"]["result"]:
            legend = query.legend
            for label, value in series["metric"].items():
                legend = legend.replace(f"{{{{{label}}}}}", value)
            found.append((legend, np.array(series.get("values") or [series["value"]], float).T))
        return found

    for board in DASHBOARDS:
        numbers = [panel for panel in board.panels if panel.kind in ("number", "name")]
        charts = [panel for panel in board.panels if panel.kind in ("curves", "histogram")]
        rows = -(-len(charts) // 2)
        figure = plt.figure(figsize=(11, 1.1 + 2.5 * rows), layout="constrained")
        figure.suptitle(board.title, x=0.01, ha="left", weight="bold")
        grid = figure.add_gridspec(rows + 1, COLUMNS, height_ratios=[0.7, *[2.5] * rows])
        for column, panel in enumerate(numbers):
            draw_number(figure.add_subplot(grid[0, column]), panel, ask(panel.queries[0], "query"))
        for number, panel in enumerate(charts):
            row, left = 1 + number // 2, 3 * (number % 2)
            axes = figure.add_subplot(grid[row, left : left + 3])
            series = [found for query in panel.queries for found in ask(query)]
            draw_chart(axes, panel, series)
            axes.set_xlim(period["start"] / 86400, end / 86400)
        path = args.output / f"dashboard-{board.name}.png"
        figure.savefig(path, dpi=110)
        plt.close(figure)
        print(path)


def draw_number(axes: Axes, panel: Panel, series: list[tuple[str, Any]]) -> None:
    """Write the newest value, or the legend of the series if the panel shows a name."""
    text = "no data"
    if series:
        legend, (_, values) = series[0]
        value = values[-1]
        text = legend.replace(" (", "\n(") if panel.kind == "name" else f"{value:.3g}"
        if panel.unit == "fraction":
            text = f"{value:.1%}"
        if panel.unit == "s":
            text = str(timedelta(seconds=round(value)))
    axes.axis("off")
    axes.text(0.5, 0.95, panel.title, ha="center", va="top", fontsize=9)
    size = 6.5 if panel.kind == "name" else 15
    unit = "" if panel.unit in ("fraction", "s") else panel.unit
    axes.text(0.5, 0.6, text, ha="center", va="top", fontsize=size, color="#1b6b3a")
    axes.text(0.5, 0.0, unit, ha="center", va="bottom", fontsize=8, color="gray")


def draw_chart(axes: Axes, panel: Panel, series: list[tuple[str, Any]]) -> None:
    """Draw curves over time, or a heat map of the buckets of a histogram over time."""
    unit, scale = ("MB", 1e6) if panel.unit == "bytes" else (panel.unit, 1)
    axes.set_title(f"{panel.title}{f' ({unit})' if unit else ''}", fontsize=9)
    if not series:
        axes.text(0.5, 0.5, "no data", ha="center", transform=axes.transAxes, color="gray")
    elif panel.kind == "curves":
        for legend, (times, values) in series:
            axes.plot(times / 86400, values / scale, label=legend, linewidth=1.2)
        axes.set_ylim(0, 1.1 * (max(values.max() for _, (_, values) in series) / scale or 1))
        axes.legend(fontsize=6, loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    else:
        bounds = sorted(series, key=lambda item: float(item[0]))
        times = np.unique(np.concatenate([values[0] for _, values in bounds]))
        table = np.zeros((len(bounds), len(times)))
        for row, (_, (when, values)) in enumerate(bounds):
            table[row, np.searchsorted(times, when)] = values
        counts = np.diff(table, axis=0, prepend=0).clip(0)  # Prometheus' buckets are cumulative
        axes.pcolormesh(times / 86400, np.arange(len(bounds)), counts, cmap="Greens")
        axes.set_yticks(range(len(bounds)), [f"≤ {legend}" for legend, _ in bounds], fontsize=6)
    axes.xaxis.set_major_formatter(matplotlib.dates.DateFormatter("%H:%M"))
    axes.tick_params(labelsize=7)


if __name__ == "__main__":
    main()
