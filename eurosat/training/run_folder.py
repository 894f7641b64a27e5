"""The folder of a run; no two runs share a folder, and no two processes train in one folder."""

import contextlib
import logging
import os
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self, cast

from filelock import FileLock, Timeout
from lightning.pytorch.utilities import rank_zero_only

from eurosat.errors import RunCardError, RunDirectoryError
from eurosat.training.resume import (
    FinishedRunError,
    differing_settings,
    has_begun,
    has_other_processes,
    is_finished,
)

_log = logging.getLogger(__name__)

_BEFORE_A_RUN = frozenset(
    {"run.jsonl", "config.yaml", "wandb", "wandb_run_id", "mlruns", "mlflow_run_id", "tensorboard"}
)
"""Files and folders that a command can leave that ends before its run begins."""

_SECONDS_TO_END = 10.0
"""Time for the worker processes of a killed run to end; until then they hold the run's lock."""


class RunFolder:
    """A run's folder, locked against other processes until it is closed.

    Attributes:
        path: The folder.
        chosen: Whether the command chose the folder itself, without ``--run_directory``.
    """

    def __init__(self, path: Path, *, chosen: bool = False) -> None:
        """Store the folder, which other processes may still use."""
        self.path = path
        self.chosen = chosen
        self._lock: FileLock | None = None
        self._made = False

    def lock(self) -> Self:
        """Make the folder if it is missing, and lock the folder.

        Returns:
            This object.

        Raises:
            RunDirectoryError: Another process holds the lock, or the folder cannot be written.
        """
        self._made = not self.path.exists()
        lock = FileLock(self.path / ".lock", thread_local=False)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=_SECONDS_TO_END)
        except Timeout as error:
            raise RunDirectoryError(
                f"another process trains in {self.path}: wait until it ends, or choose another "
                "--run_directory"
            ) from error
        except NotImplementedError:
            _log.warning("the file system of %s has no locks: start a run only once", self.path)
        except OSError as error:
            raise _not_writable(self.path, error) from error
        else:
            self._lock = lock
        return self

    def close(self) -> None:
        """Release the lock, and delete a new folder that is empty, because no run has begun."""
        if self._lock is not None:
            with contextlib.suppress(OSError):
                Path(self._lock.lock_file).unlink()
            self._lock.release()
        if self.chosen or self._made:
            with contextlib.suppress(OSError):  # the folder is not empty
                self.path.rmdir()


def requested_folder(folder: Path) -> RunFolder:
    """Take a folder that a user requested for a new run.

    Raises:
        RunDirectoryError: The folder holds files or cannot be written, or another process trains
            in the folder.
    """
    if not is_first_process():
        return RunFolder(folder)
    if folder.exists() and not folder.is_dir():
        raise _occupied(folder)
    with _locked(folder) as run:
        if _holds_files(folder):
            raise _occupied(folder)
        return run


def requested_or_stopped(folder: Path, settings: Mapping[str, Any]) -> RunFolder:
    """Take a folder that a user requested for a new run, or for a run that was stopped.

    Args:
        folder: The folder.
        settings: The whole configuration of the run, as in ``config.yaml``.

    Raises:
        FinishedRunError: The folder holds a finished run of the same settings.
        RunDirectoryError: The folder holds a run of other settings, or other files, or another
            process trains in the folder.
    """
    if not is_first_process():
        _check_stopped(folder, settings)
        return RunFolder(folder)
    if folder.exists() and not folder.is_dir():
        raise _occupied(folder)
    with _locked(folder) as run:
        _check_stopped(folder, settings)
        return run


def _check_stopped(folder: Path, settings: Mapping[str, Any]) -> None:
    """Check that a folder holds nothing, or a stopped run of the same settings."""
    if not has_begun(folder):
        # A command that ends before its run begins leaves a log, and the folders of trackers.
        if _holds_files(folder, _BEFORE_A_RUN):
            raise _occupied(folder)
        return
    differing = differing_settings(folder, settings)
    if differing:
        raise RunDirectoryError(
            f"{folder} holds a run of other settings, which --resume auto does not continue "
            f"({', '.join(differing)}): repeat the settings of the run, or choose another "
            "--run_directory"
        )
    if is_finished(folder):
        raise FinishedRunError(f"the run in {folder} is finished, so nothing is left to do")


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[RunFolder]:
    """Lock a folder, and release the lock after an error."""
    run = RunFolder(folder).lock()
    try:
        yield run
    except BaseException:
        run.close()
        raise


def _holds_files(folder: Path, accepted: frozenset[str] = frozenset()) -> bool:
    """Whether a folder holds other files than the accepted ones."""
    # Hidden files, such as DVC's .gitignore, do not belong to a run.
    return folder.is_dir() and any(path.name not in accepted for path in folder.glob("[!.]*"))


def _occupied(folder: Path) -> RunDirectoryError:
    return RunDirectoryError(
        f"{folder} exists and is not empty: delete {folder}, or choose another --run_directory; "
        "--resume auto continues a run that was stopped"
    )


def new_folder(parent: Path) -> RunFolder:
    """Make a folder for a new run.

    Args:
        parent: Folder of an experiment's runs; it is created if it is missing.
    """
    if not is_first_process():  # RunRecord sends the folder of the first process to the others
        return RunFolder(name_folder(parent), chosen=True)
    return RunFolder(reserve_folder(parent), chosen=True).lock()


def new_or_stopped(parent: Path, settings: Mapping[str, Any]) -> RunFolder:
    """Take the folder of the newest stopped run of the same settings, or make a new folder.

    Args:
        parent: Folder of an experiment's runs.
        settings: The whole configuration of the run, as in ``config.yaml``.

    Raises:
        RunDirectoryError: Each process of the run would have to find the folder.
    """
    if has_other_processes() or not is_first_process():
        raise RunDirectoryError(
            "--resume auto needs --run_directory if SLURM, torchrun or a cloud starts several "
            "processes, because all processes need the same folder: pass --run_directory"
        )
    for folder in sorted(parent.glob("*Z*"), reverse=True):
        try:
            if has_begun(folder) and not is_finished(folder):
                if differing_settings(folder, settings):
                    continue
                return RunFolder(folder, chosen=True).lock()
        except (RunCardError, RunDirectoryError) as error:
            _log.warning("not continued: %s", error)
    return new_folder(parent)


def reserve_folder(parent: Path) -> Path:
    """Create a new folder named after the current time.

    Runs may start in the same second, as the runs of a sweep do. The first run gets the name, and
    each later run gets the name with a number appended.

    Args:
        parent: Folder of an experiment's runs; it is created if it is missing.

    Raises:
        RunDirectoryError: The folder cannot be written.
    """
    folder = name_folder(parent)
    number, candidate = 1, folder
    try:
        parent.mkdir(parents=True, exist_ok=True)
        while True:
            try:
                candidate.mkdir()
            except FileExistsError:
                number += 1
                candidate = folder.with_name(f"{folder.name}-{number}")
            else:
                return candidate
    except OSError as error:
        raise _not_writable(parent, error) from error


def _not_writable(folder: Path, error: OSError) -> RunDirectoryError:
    return RunDirectoryError(
        f"no run folder can be made in {folder} ({error.strerror}): give this user the right to "
        "write there, or choose another --output_root or --run_directory"
    )


def name_folder(parent: Path) -> Path:
    """Name a folder after the current time without creating it."""
    return parent / datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%SZ")


def is_first_process() -> bool:
    """Whether this is the first process of a run, before a trainer exists.

    Lightning reads the rank from the environment, but where it starts the processes of every
    machine itself, only the number of the machine tells their first ones apart.
    """
    return cast(Any, rank_zero_only).rank == 0 and os.environ.get("NODE_RANK", "0") == "0"
