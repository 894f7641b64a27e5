"""Reading the files of a run's folder, so that a damaged file is named."""

import csv
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

from eurosat.errors import ReportError
from eurosat.evaluation.tables import read_rows


@contextmanager
def told_if_damaged(path: Path) -> Iterator[None]:
    """Name the file whose reading fails in the block.

    Raises:
        ReportError: The block fails as reading a damaged file does.
    """
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, csv.Error, BadZipFile) as error:
        raise ReportError(
            f"{path} is damaged ({type(error).__name__}: {error}): restore the file, or delete it "
            "to draw the report without it"
        ) from error


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON object; an empty one if there is no file.

    Raises:
        ReportError: The file holds something else.
    """
    if not path.is_file():
        return {}
    with told_if_damaged(path):
        content = json.loads(path.read_text("utf-8"))
        if not isinstance(content, dict):
            raise ValueError("the file holds no JSON object")
        return content


def read_predictions(path: Path) -> list[dict[str, str]]:
    """Read the rows of ``predictions.csv``; none if there is no file.

    Raises:
        ReportError: The file lacks a column.
    """
    if not path.is_file():
        return []
    with told_if_damaged(path):
        rows = read_rows(path)
        for row in rows:
            _ = row["label"], row["predicted"], row["confidence"]
        return rows
