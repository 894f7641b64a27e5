"""The status of a run: a keyword and, for an error, the reason."""

from dataclasses import replace
from pathlib import Path

from filelock import FileLock
from lightning.pytorch.utilities.exceptions import SIGTERMException

from eurosat.errors import DivergenceError
from eurosat.run_card import RUN_CARD, read_run_card


def status_after(exception: BaseException) -> str:
    """Return the status of a run that ``exception`` ended, for ``run.json`` and the trackers.

    Returns:
        ``interrupted`` (Ctrl-C), ``terminated`` (SIGTERM), or ``diverged`` or ``failed`` with the
        reason after a colon.
    """
    match exception:
        case KeyboardInterrupt():
            return "interrupted"
        case SIGTERMException():
            return "terminated"
        case DivergenceError():
            return f"diverged: {exception}"
        case _:
            return f"failed: {exception!r}"


def agree_on_status(run_directory: Path, status: str) -> str:
    """Record in ``run.json`` the status of whichever process ended first.

    When another process has failed, Lightning kills the first process, and the killed process
    cannot write ``run.json``.

    Args:
        run_directory: The run's folder, with ``run.json``.
        status: Status of this process.

    Returns:
        Status of the run.

    Raises:
        RunCardError: ``run.json`` is damaged.
    """
    if not (run_directory / RUN_CARD).is_file():
        return status  # the first process writes to a disk of another machine
    with FileLock(run_directory / ".run.json.lock"):
        card = read_run_card(run_directory)
        # A fit has the status "finished" before the test of the fit starts.
        if card and card.status not in ("running", "finished"):
            return card.status
        if card:
            replace(card, status=status).write(run_directory)
        return status
