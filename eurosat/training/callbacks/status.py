"""How a run ended, in a word and its reason."""

from dataclasses import replace
from pathlib import Path

from filelock import FileLock
from lightning.pytorch.utilities.exceptions import SIGTERMException

from eurosat.errors import DivergenceError
from eurosat.run_card import RUN_CARD, read_run_card


def status_after(exception: BaseException) -> str:
    """How a run ended that ``exception`` ended, as ``run.json`` and the trackers say it.

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

    When another process has failed, Lightning kills the first process, which then cannot write.

    Args:
        run_directory: The run's folder, with ``run.json``.
        status: How this process ended.

    Returns:
        How the run ended.

    Raises:
        RunCardError: ``run.json`` is damaged.
    """
    if not (run_directory / RUN_CARD).is_file():
        return status  # this machine does not share the first process's disk
    with FileLock(run_directory / ".run.json.lock"):
        card = read_run_card(run_directory)
        if card and card.status not in ("running", "finished"):  # finished: a fit, before its test
            return card.status
        if card:
            replace(card, status=status).write(run_directory)
        return status
