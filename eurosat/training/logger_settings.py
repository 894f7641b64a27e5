"""Loggers of the command line: their folders, their packages and the time of their creation."""

import importlib
import logging
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

from lightning.pytorch.loggers import Logger, MLFlowLogger, TensorBoardLogger, WandbLogger

from eurosat.errors import EuroSATError, TrackingError
from eurosat.training.loggers import FinishesRun

_log = logging.getLogger(__name__)

RUN_FOLDER = "<run folder>"
"""Placeholder in a logger's ``save_dir``; the run's folder, named at the start, replaces it."""

_PACKAGES: dict[type[Logger], tuple[str, ...]] = {
    WandbLogger: ("wandb",),
    TensorBoardLogger: ("tensorboard", "tensorboardX"),
    MLFlowLogger: ("mlflow",),
}
"""Packages per logger, at least one of which is required; the extras install the first."""


def postpone(logger_class: type[Logger], **settings: Any) -> Any:
    """Keep a logger's settings until its run has a folder.

    jsonargparse uses this function as an instantiator. If jsonargparse made the logger itself, an
    error of the logger would appear as one item in a list of the types that ``--trainer.logger``
    accepts.

    Args:
        logger_class: The class of the logger.
        **settings: Arguments of the class.

    Returns:
        A function without required arguments that makes the logger.
    """
    return partial(logger_class, **settings)


def check_packages(loggers: Sequence["partial[Logger]"]) -> None:
    """Check that the packages of the loggers are installed, before the run writes any file.

    Args:
        loggers: Return values of `postpone`.

    Raises:
        ModuleNotFoundError: A package is missing; the error names the package.
    """
    for logger in loggers:
        for base, packages in _PACKAGES.items():
            if issubclass(_class_of(logger), base) and not any(map(_is_importable, packages)):
                raise ModuleNotFoundError(f"No module named {packages[0]!r}", name=packages[0])


def _class_of(postponed: "partial[Logger]") -> type[Logger]:
    return cast("type[Logger]", postponed.func)


def _is_importable(package: str) -> bool:
    try:
        importlib.import_module(package)
    except ImportError:
        return False
    return True


def make_loggers(loggers: Sequence["partial[Logger]"], run_directory: Path) -> list[Logger]:
    """Make the loggers of a run.

    Args:
        loggers: Return values of `postpone`.
        run_directory: The run's folder.

    Returns:
        The loggers, in the same order.

    Raises:
        TrackingError: A logger needs a package that is not installed, or cannot start.
    """
    return [_make(logger, run_directory.absolute()) for logger in loggers]


def _make(postponed: "partial[Logger]", run_directory: Path) -> Logger:
    settings = dict(postponed.keywords)
    if "save_dir" in settings:
        settings["save_dir"] = _resolve(settings["save_dir"], run_directory)
    if issubclass(_class_of(postponed), MLFlowLogger):
        # MLflow 3 refuses a plain folder as its store unless this variable is set.
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
    try:
        logger = postponed.func(**settings)
    except ModuleNotFoundError as error:
        raise TrackingError(
            f"{_class_of(postponed).__name__} needs a package that is not installed: "
            + " ".join(str(error).split())
        ) from error
    except EuroSATError:
        raise
    except Exception as error:  # Every logger has errors of its own.
        raise TrackingError(
            f"{_class_of(postponed).__name__} cannot start ({type(error).__name__}: "
            f"{' '.join(str(error).split())}): change its settings, or choose another "
            "--trainer.logger"
        ) from error
    if isinstance(logger, FinishesRun):
        logger.run_directory = run_directory
    return logger


def _resolve(save_dir: Any, run_directory: Path) -> str:
    """Return the folder of a ``save_dir`` with the run's folder in place of `RUN_FOLDER`."""
    folder = Path(str(save_dir or RUN_FOLDER).replace(RUN_FOLDER, str(run_directory)))
    if folder.absolute() != run_directory and (folder / "run.json").is_file():
        # An earlier revision saved the path of the run's folder in config.yaml.
        _log.warning(
            "%s is the folder of another run: the logger saves into %s; leave save_dir out of the "
            "configuration",
            folder,
            run_directory,
        )
        return str(run_directory)
    return str(folder)
