"""Finding a model file by its URI: on disk, in a bucket, or in a registry."""

import concurrent.futures
import logging
import shutil
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path, PurePosixPath

from eurosat.errors import ModelFileError, RegistryError
from eurosat.inference.backends import model_suffixes
from eurosat.inference.files import model_files
from eurosat.registry.reference import Reference, is_reference, parse_reference

_log = logging.getLogger(__name__)

BUCKET_SECONDS = 120.0
"""Time without a byte from a bucket after which the fetch is given up."""

REGISTRY_SECONDS = 600.0
"""Time after which the fetch from a registry is given up.

The clients of registries download into caches of their own, where the arrival of bytes is unseen.
"""


def find_model(model_uri: str, folder: Path) -> Path:
    """Find the model file of a URI, and fetch it where it is remote.

    A fetch from a bucket is given up if nothing has arrived for `BUCKET_SECONDS`, and a fetch from
    a registry after `REGISTRY_SECONDS`.

    Args:
        model_uri: A file, a folder that holds one model file, the address of a file or folder in a
            bucket (``gs://...``), or a registered model (``registry:production``).
        folder: An empty folder for the fetched files.

    Raises:
        ModelFileError: The URI holds no model file or several, or the bucket cannot be read or
            does not answer.
        RegistryError: The registered model does not exist, or its file cannot be fetched, or the
            registry does not answer.
    """
    if is_reference(model_uri):
        reference = parse_reference(model_uri)
        _log.info("fetching %s: the registry has %g s to answer", model_uri, REGISTRY_SECONDS)
        if not _finishes(lambda: _fetch_registered(reference, folder), REGISTRY_SECONDS):
            raise RegistryError(
                f"{model_uri} was not fetched within {REGISTRY_SECONDS:g} s: check the address of "
                "the registry and the network"
            )
        path = folder
    elif "://" in model_uri:
        _log.info("fetching %s: the bucket has %g s to answer", model_uri, BUCKET_SECONDS)
        if not _finishes(lambda: _fetch_from_bucket(model_uri, folder), BUCKET_SECONDS, folder):
            raise ModelFileError(
                f"{model_uri} does not answer: nothing has arrived for {BUCKET_SECONDS:g} s; check "
                "the address and the network"
            )
        return Path(_only_model(model_uri, map(str, folder.iterdir())))
    else:
        path = Path(model_uri)
    if not path.is_dir():
        return path
    return Path(_only_model(model_uri, map(str, path.rglob("*"))))


def _finishes(work: Callable[[], object], seconds: float, folder: Path | None = None) -> bool:
    """Do work in a thread, because no client of a bucket or registry bounds the whole fetch.

    Args:
        work: The work. Its errors are raised here.
        seconds: Time that the work has.
        folder: A folder in which any growth gives the work its time again.

    Returns:
        Whether the work has finished; otherwise the thread is left behind.
    """
    done: concurrent.futures.Future[object] = concurrent.futures.Future()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:
            done.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    arrived, deadline = 0, time.monotonic() + seconds
    while time.monotonic() < deadline:
        if concurrent.futures.wait([done], timeout=min(seconds, 1)).done:
            done.result()
            return True
        if folder and (size := _size(folder)) > arrived:
            arrived, deadline = size, time.monotonic() + seconds
    return False


def _size(folder: Path) -> int:
    """Size of a folder's files in bytes."""
    with suppress(FileNotFoundError):  # a file was renamed in the meantime
        return sum(path.stat().st_size for path in folder.rglob("*"))
    return 0


def _only_model(model_uri: str, files: Iterable[str]) -> str:
    """The only model file among the files of a folder.

    Raises:
        ModelFileError: The folder holds no model file, or several.
    """
    found = sorted(file for file in files if Path(file).suffix in model_suffixes())
    if len(found) != 1:
        names = ", ".join(found) or "none"
        raise ModelFileError(
            f"{model_uri} must hold one model file and holds {names}: name the file"
        )
    return found[0]


def _fetch_registered(reference: Reference, folder: Path) -> None:
    """Fetch a registered model and verify its checksum.

    Raises:
        RegistryError: The model does not exist, its file cannot be fetched or is damaged, or a
            package of its registry is missing.
    """
    try:
        match reference.registry:
            case "wandb":
                from eurosat.registry import wandb_registry

                wandb_registry.fetch(reference, folder)
            case _:
                from eurosat.registry import git

                git.fetch(reference, folder)
    except ModuleNotFoundError as error:
        extra = "track" if reference.registry == "wandb" else "pipeline"
        raise RegistryError(
            f"{reference} needs the package {error.name}, which is not installed: "
            f"pip install 'eurosat[{extra}]'"
        ) from error


def _fetch_from_bucket(address: str, folder: Path) -> None:
    """Copy a model file from a bucket; the address is that of the file or of its folder."""
    try:
        import fsspec

        filesystem, path = fsspec.core.url_to_fs(address)
        files = [path] if filesystem.isfile(path) else filesystem.find(path)
        if not files:
            raise FileNotFoundError("the address holds nothing")
        model = _only_model(address, files)
        for file in model_files(PurePosixPath(model)):
            filesystem.get_file(str(file), str(folder / file.name))
    except ModelFileError:
        raise
    except ImportError as error:
        raise ModelFileError(
            f"{address} cannot be fetched without a package for it ({error}): "
            "pip install gcsfs for gs://"
        ) from error
    except Exception as error:  # each kind of bucket raises its own errors
        shutil.rmtree(folder, ignore_errors=True)
        raise ModelFileError(
            f"{address} cannot be fetched ({type(error).__name__}: {error}): check the address "
            "and the rights of this machine's account"
        ) from error
