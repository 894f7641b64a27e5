"""How a run ended, in a word and its reason."""

import json
from pathlib import Path

from filelock import FileLock
from lightning.pytorch.utilities.exceptions import SIGTERMException

from eurosat.errors import DivergenceError
from eurosat.files import write_json


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
    """Let that of several processes which ended first say in ``run.json`` how the run ended.

    When one of the others has failed, Lightning kills the first process, which then cannot.

    Args:
        run_directory: The run's folder, with ``run.json``.
        status: How this process ended.

    Returns:
        How the run ended.
    """
    path = run_directory / "run.json"
    if not path.is_file():  # a machine that does not share the first process's disk
        return status
    with FileLock(run_directory / ".run.json.lock"):
        card = json.loads(path.read_text("utf-8"))
        if card["status"] in ("running", "finished"):  # finished: a fit, before its test
            write_json(path, card | {"status": status})
            return status
        return str(card["status"])
