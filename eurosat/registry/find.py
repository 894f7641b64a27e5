"""The file of a model, wherever it is: on disk, in a bucket, or in a registry."""

import shutil
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from eurosat.errors import ModelFileError, RegistryError
from eurosat.inference.files import model_files
from eurosat.inference.runtime import MODEL_SUFFIXES
from eurosat.registry.reference import Reference, is_reference, parse_reference


def find_model(place: str, folder: Path) -> Path:
    """The model file at a place.

    Args:
        place: A file, a folder with one model file in it, either in a bucket (``gs://...``), or a
            registered model (``registry:production``).
        folder: An empty folder for what has to be fetched.

    Raises:
        ModelFileError: There is none, there are several, or the bucket cannot be read.
        RegistryError: There is no such registered model, or its file cannot be had.
    """
    if is_reference(place):
        _fetch_registered(parse_reference(place), folder)
        path = folder
    elif "://" in place:
        return _fetch_from_bucket(place, folder)
    else:
        path = Path(place)
    if not path.is_dir():
        return path
    return Path(_only_model(place, map(str, path.rglob("*"))))


def _only_model(place: str, files: Iterable[str]) -> str:
    """The one model file among the files of a place.

    Raises:
        ModelFileError: There is none, or there are several.
    """
    found = sorted(file for file in files if Path(file).suffix in MODEL_SUFFIXES)
    if len(found) != 1:
        names = ", ".join(found) or "none"
        raise ModelFileError(f"{place} must hold one model file, found {names}: name the file")
    return found[0]


def _fetch_registered(reference: Reference, folder: Path) -> None:
    """Fetch a registered model and verify its checksum.

    Raises:
        RegistryError: There is no such model, its file cannot be had or is damaged, or a package
            for its registry is missing.
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


def _fetch_from_bucket(address: str, folder: Path) -> Path:
    """Copy a model file from a bucket, where the address is its or that of a folder with it."""
    try:
        import fsspec

        filesystem, path = fsspec.core.url_to_fs(address)
        files = [path] if filesystem.isfile(path) else filesystem.find(path)
        if not files:
            raise FileNotFoundError("there is nothing")
        model = _only_model(address, files)
        for file in model_files(PurePosixPath(model)):
            filesystem.get_file(str(file), str(folder / file.name))
        return folder / Path(model).name
    except ModelFileError:
        raise
    except ImportError as error:
        raise ModelFileError(
            f"{address} cannot be fetched without a package for it ({error}): "
            "pip install gcsfs for gs://"
        ) from error
    except Exception as error:  # every kind of bucket has errors of its own
        shutil.rmtree(folder, ignore_errors=True)
        raise ModelFileError(
            f"{address} cannot be fetched ({type(error).__name__}: {error}): check the address "
            "and the rights of this machine's account"
        ) from error
