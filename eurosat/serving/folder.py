"""The service's temporary folder, and the removal of the folders of services that died."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from eurosat.errors import EuroSATError
from eurosat.operating_system import socket_address

_PREFIX = "eurosat-service-"


@contextmanager
def service_folder() -> Iterator[Path]:
    """Make a private folder for sockets, metrics and a fetched model; remove the folder at the end.

    The folder is locked (flock) as long as the main process or an API process lives, and the kernel
    releases the lock however these processes end. A folder of this user that nobody has locked is
    therefore what a killed service left, and the next service removes such folders first.

    Yields:
        The folder, inside the system's folder for temporary files.

    Raises:
        EuroSATError: The folder cannot be made, or its path is too long for a socket.
    """
    folder = lock = None
    try:
        try:
            _sweep()
            folder, lock = _make()
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise EuroSATError(
                f"the service cannot make a temporary folder: {reason}; free space in the folder "
                "for temporary files, or name another folder in the environment variable TMPDIR"
            ) from error
        socket_address(folder / "requests-99")  # fails before a model is fetched
        yield folder
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def _make() -> tuple[Path, int]:
    """Make and lock a folder; a sweep of another service may take the folder before the lock."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
        lock = _lock(folder, wait=True)
        if lock is not None and folder.exists():
            return folder, lock
        if lock is not None:
            os.close(lock)


def _sweep() -> None:
    """Remove this user's folders that no service has locked."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        lock = _lock(folder, wait=False)
        if lock is not None:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)


def _lock(folder: Path, *, wait: bool) -> int | None:
    """Lock a folder of this user.

    Returns:
        The descriptor that holds the lock; None if the folder is gone, is a link, belongs to
        another user, or is locked by a service.
    """
    import fcntl  # Windows lacks the module, and the tests import this file there

    with suppress(OSError):
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            if os.fstat(lock).st_uid == os.geteuid():
                fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
                return lock
        except OSError:
            pass
        os.close(lock)
    return None
