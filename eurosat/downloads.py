"""Downloads from the Hugging Face hub: what a failure means, and whether the files are intact."""

import errno
import hashlib
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal
from urllib.error import URLError

from eurosat.errors import EuroSATError

_SHA256 = re.compile(r"[0-9a-f]{64}")
_UNWRITABLE = {
    *(errno.EACCES, errno.EDQUOT, errno.EEXIST, errno.ENOSPC),
    *(errno.ENOTDIR, errno.EPERM, errno.EROFS),
}
_BROKEN_OFF = {"ReadError", "RemoteProtocolError"}
"""Names of the errors of httpx that end a download after it has begun."""


class _DamagedFileError(Exception):
    """A downloaded file has another checksum than the published file."""


@contextmanager
def downloading(what: str, error: type[EuroSATError], otherwise: str) -> Iterator[None]:
    """Turn the failure of a download into one sentence with its cause and its remedy.

    Errors that no download causes pass unchanged.

    Args:
        what: What is downloaded, the subject of the sentence.
        error: Class of the error.
        otherwise: What the user can do without the download, an imperative.

    Raises:
        EuroSATError: The download failed; the error is an ``error``.
    """
    try:
        yield
    except Exception as failure:
        cause, remedy = next(filter(None, map(_explained, _chain(failure))), (None, None))
        if cause is None:
            raise
        raise error(
            f"{what} cannot be downloaded, because {cause}: {remedy}; otherwise {otherwise}"
        ) from failure


def refuse_damaged(files: Iterable[Path], sha256: str | None = None) -> None:
    """Compare downloaded files with their checksums.

    Libraries of the hub compare the size of a file only.

    Args:
        files: Files of the hub's cache on this machine, which names a large file by its SHA-256.
        sha256: SHA-256 of the files; if not given, the hub's.

    Raises:
        Exception: A file is damaged; `downloading` says so.
    """
    for file in files:
        blob = file.resolve()
        expected = sha256 or blob.name
        if not _SHA256.fullmatch(expected):  # a small file, or a cache without links (Windows)
            continue
        with blob.open("rb") as content:
            if hashlib.file_digest(content, "sha256").hexdigest() != expected:
                raise _DamagedFileError(str(blob))


def cached_files(
    kind: Literal["datasets", "models"], repository: str, revision: str = "*"
) -> list[Path]:
    """Find the downloaded files of a repository of the hub, of one commit or of all commits."""
    from huggingface_hub import constants

    folder = Path(constants.HF_HUB_CACHE, "--".join([kind, *repository.split("/")]), "snapshots")
    return [path for path in folder.glob(f"{revision}/**/*") if path.is_file()]


def first_line(error: BaseException) -> str:
    """Give the type of an error and the first line of its message."""
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}".rstrip(": ")


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Give an error and the errors that led to it, which libraries hide in errors of their own.

    Libraries ask for files that need not be there. An answer that a file is missing is therefore
    the cause of its own error only.
    """
    from huggingface_hub.errors import RemoteEntryNotFoundError

    current: BaseException | None = error
    while current is not None:
        if current is error or not isinstance(current, RemoteEntryNotFoundError):
            yield current
        current = current.__cause__ or current.__context__


def _explained(error: BaseException) -> tuple[str, str] | None:
    """Give the cause and the remedy of a failed download; None for other errors."""
    from huggingface_hub import constants
    from huggingface_hub.errors import FileMetadataError, HfHubHTTPError

    hub = constants.ENDPOINT
    text = first_line(error)
    match error:
        case _DamagedFileError():
            return (
                f"the checksum of {error} is not the published checksum",
                "delete this file and run the command again",
            )
        case ConnectionError() if constants.HF_HUB_OFFLINE:
            return "HF_HUB_OFFLINE forbids downloads", "unset HF_HUB_OFFLINE"
        case FileMetadataError():
            return (
                f"{hub} does not answer as the Hugging Face hub does",
                "correct HF_ENDPOINT, or log in to the network or the proxy that answers instead",
            )
        case HfHubHTTPError():
            return _explained_answer(error)
        case URLError():  # of weights that are not on the hub
            return f"their server cannot be reached ({text})", "check the network and the proxy"
        case OSError() if error.errno in _UNWRITABLE:
            return (
                f"{error.filename or constants.HF_HUB_CACHE} cannot be written ({error.strerror})",
                "free space, change the rights, or set HF_HOME to another folder",
            )
        case OSError() if "Consistency check failed" in text:
            return f"the download from {hub} broke off", "run the command again"
    # Versions of the hub's library use httpx or its successor httpx2.
    names = {base.__name__ for base in type(error).__mro__}
    if "TransportError" in names and names & _BROKEN_OFF:
        return f"the download from {hub} broke off ({text})", "run the command again"
    if "TransportError" in names or isinstance(error, ConnectionError):
        return f"{hub} cannot be reached ({text})", "check the network, the proxy and HF_ENDPOINT"
    return None


def _explained_answer(error: BaseException) -> tuple[str, str]:
    """Give the cause and the remedy of an answer of the hub that is not a file."""
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        RemoteEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    assert isinstance(error, HfHubHTTPError)
    status = error.response.status_code
    match error:
        case GatedRepoError():
            return (
                f"the owner of the repository has not granted access ({status})",
                "ask for access on the page of the repository, and set HF_TOKEN to your token",
            )
        case RepositoryNotFoundError():
            return (
                f"the hub has no such repository, or the repository is private ({status})",
                "correct the name, or set HF_TOKEN to a token that can read the repository",
            )
        case RevisionNotFoundError():
            return f"the repository has no such commit ({status})", "correct the commit"
        case RemoteEntryNotFoundError():
            return (
                f"the repository has no such file at this commit ({status})",
                "choose another commit",
            )
    match status:
        case 401:
            return (
                "the hub does not accept the token, or asks for one (401)",
                "set HF_TOKEN to a valid token, or remove an outdated token (hf auth logout)",
            )
        case 403:
            return (
                "the token does not permit this (403)",
                "set HF_TOKEN to a token that can read the repository",
            )
        case 429:
            return (
                "this machine has sent more requests than the hub allows (429)",
                "wait some minutes, or set HF_TOKEN, with which the hub allows more requests",
            )
        case _ if status >= 500:
            return f"the hub is out of order ({status})", "try again later"
    return f"the hub refuses the request ({status})", "check the proxy and HF_ENDPOINT"
