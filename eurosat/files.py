"""Atomic writes, and checksums of files."""

import csv
import hashlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from eurosat.errors import EuroSATError


@contextmanager
def writing_to(
    output: Path, raised: type[EuroSATError], option: str = "--output"
) -> Iterator[None]:
    """Convert an error of the block's writing to an error that names the option to choose.

    Args:
        output: The file or folder that the block writes.
        raised: The error to raise.
        option: The option that chooses ``output``.
    """
    try:
        yield
    except OSError as error:
        raise raised(
            f"{output} cannot be written ({error.strerror or error}): choose another {option}"
        ) from error


def check_writable_folder(
    output: Path, raised: type[EuroSATError], option: str = "--output"
) -> None:
    """Create a folder if it is missing, and check that files can be written to it.

    Raises:
        EuroSATError: The folder cannot be written; the error's class is ``raised``.
    """
    with writing_to(output, raised, option):
        output.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=output).close()


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Write to a temporary file that takes the place of ``path`` when the block succeeds.

    Yields:
        The temporary file, in the same folder and with the same ending.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.", suffix=path.suffix)
    os.close(handle)
    partial = Path(name)
    try:
        yield partial
        partial.chmod(0o644)
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


@contextmanager
def atomic_write_folder(folder: Path) -> Iterator[Path]:
    """Write several files to a temporary folder, and move them to ``folder`` at the end.

    If the block fails, ``folder`` stays as it was. If the block succeeds, the files are moved one
    by one, and each move is atomic. If a move fails, the files that were moved before it stay, and
    the other files in ``folder`` are unchanged.

    Yields:
        The temporary folder, which lies inside ``folder``; ``folder`` is created if it is missing.
    """
    missing = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=folder, prefix="."))
    try:
        yield partial
        for path in sorted(partial.iterdir()):
            path.replace(folder / path.name)
    except BaseException:
        # An error of the cleanup must not hide the first error.
        shutil.rmtree(partial, ignore_errors=True)
        if missing:
            with suppress(OSError):
                folder.rmdir()
        raise
    partial.rmdir()


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a CSV file atomically, in UTF-8 but for names of files that hold other bytes."""
    with (
        atomic_write(path) as partial,
        partial.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, in UTF-8 and with the same line ends on every system."""
    with atomic_write(path) as partial:
        partial.write_text(text, "utf-8", newline="\n")


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file atomically, indented, with keys in the given order.

    JSON has no word for NaN and infinity: null stands for them.
    """
    write_text(path, json.dumps(_valid(content), indent=2, allow_nan=False) + "\n")


def _valid(content: Any) -> Any:
    """The same content with None for each float that JSON has no word for."""
    match content:
        case float():
            return content if math.isfinite(content) else None
        case dict():
            return {name: _valid(value) for name, value in content.items()}
        case list() | tuple():
            return [_valid(value) for value in content]
        case _:
            return content


def md5_of(path: Path) -> str:
    """MD5 of a file's content, as hex; DVC names files by it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()
