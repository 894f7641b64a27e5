"""Read the files of a run's folder, with an error that names a damaged file."""

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
def reading(path: Path) -> Iterator[None]:
    """Name a damaged file in the error, where the block under ``with`` reads the file.

    Args:
        path: The file that the block reads.

    Raises:
        ReportError: The block raises an error that reading a damaged file can raise.
    """
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, csv.Error, BadZipFile) as error:
        raise ReportError(
            f"{path} is damaged ({type(error).__name__}: {error}): restore the file, or delete it "
            "to draw the report without it"
        ) from error


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON object, or give an empty object if the file is missing.

    Raises:
        ReportError: The file cannot be read, or holds no JSON object.
    """
    if not path.is_file():
        return {}
    with reading(path):
        content = json.loads(path.read_text("utf-8"))
        if not isinstance(content, dict):
            raise ValueError("the file holds no JSON object")
        return content


def read_predictions(path: Path) -> list[dict[str, str]]:
    """Read the rows of ``predictions.csv``, or give no rows if the file is missing.

    Raises:
        ReportError: The file cannot be read, or lacks a column.
    """
    if not path.is_file():
        return []
    with reading(path):
        rows = read_rows(path)
        for row in rows:
            _ = row["label"], row["predicted"], row["confidence"]
        return rows
