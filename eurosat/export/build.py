"""Converting a checkpoint's model to a format, without the messages of the exporting packages."""

import contextlib
import importlib
import importlib.metadata
import io
import logging
import tempfile
import warnings
from collections.abc import Iterator, Sequence

from eurosat.errors import ExportError
from eurosat.inference.backend import Format, Patches, Write
from eurosat.inference.card import ModelCard
from eurosat.models.predictor import Predictor


def check_packages(format: Format) -> None:
    """Check that the packages which make a format's files are installed.

    Raises:
        ExportError: A package is missing.
    """
    for name in format.packages:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise ExportError(
                f"--format {format.name} needs {error.name or name}, which is not installed: "
                f"pip install '{format.install}'"
            ) from error


def package_versions(format: Format) -> dict[str, str]:
    """Give the versions of the packages that make a format's files, by import name."""
    return {name: _version(name) for name in format.packages}


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:  # The project has another name.
        (project, *_) = importlib.metadata.packages_distributions()[name]
        return importlib.metadata.version(project)


def build(
    format: Format, predictor: Predictor, card: ModelCard, calibration: Patches | None
) -> Write:
    """Convert a checkpoint's model to a format.

    Args:
        format: The format.
        predictor: The checkpoint's model.
        card: The checkpoint's card.
        calibration: Training patches that show the range of activations; None if the format is
            exact.

    Returns:
        The function that writes the model's file.

    Raises:
        ExportError: The model cannot be converted, or temporary files cannot be written.
    """
    try:
        with _quietly(format.packages):
            return format.build(predictor, card, calibration)
    except OSError as error:
        raise ExportError(
            f"temporary files cannot be written to {tempfile.gettempdir()} ({error.strerror}): "
            "free space on the disk, or set TMPDIR to another folder"
        ) from error
    except Exception as error:  # The exporters have no common class of errors.
        raise ExportError(
            f"{card.backbone} cannot be exported to {format.name} "
            f"({type(error).__name__}: {error}): choose another --format"
        ) from error


@contextlib.contextmanager
def _quietly(packages: Sequence[str]) -> Iterator[None]:
    """Suppress the messages of exporters, because users cannot act on the messages.

    Args:
        packages: Import names of the packages, which are the names of their loggers.
    """
    loggers = [logging.getLogger(name) for name in (*packages, "")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
