"""Reading the tables of a run, and joining the rows of ``metrics.csv`` by epoch."""

import csv
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path


def read_rows(path: Path) -> list[dict[str, str]]:
    """Read the rows of a CSV file such as ``metrics.csv``; blank cells become empty strings.

    Names of files may hold bytes that are not UTF-8, as in `write_csv`.
    """
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        return list(csv.DictReader(file))


def epoch_table(metrics: Sequence[Mapping[str, str]]) -> tuple[list[str], list[list[float]]]:
    """Join the rows of ``metrics.csv`` that belong to the same epoch.

    Args:
        metrics: Rows of ``metrics.csv``, from `read_rows`.

    Returns:
        Column names, and one row without blanks per validated epoch.
    """
    columns = ["train/loss", "val/loss", "train/accuracy", "val/accuracy"]
    series = [series_of(metrics, column) for column in columns]
    epochs = sorted(set.intersection(*(set(values) for values in series)))
    return ["epoch", *columns], [[epoch, *(values[epoch] for values in series)] for epoch in epochs]


def series_of(
    rows: Sequence[Mapping[str, str]], name: str, over: str = "epoch"
) -> dict[float, float]:
    """Average a sparse column at each value of the column ``over``, in ascending order."""
    values: defaultdict[float, list[float]] = defaultdict(list)
    for row in rows:
        if row.get(name) and row.get(over):
            values[float(row[over])].append(float(row[name]))
    return {position: sum(values[position]) / len(values[position]) for position in sorted(values)}
