"""Finding a model file by its URI: on disk, in a bucket, or in a registry."""

import shutil
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from eurosat.errors import ModelFileError, RegistryError
from eurosat.inference.backends import model_suffixes
from eurosat.inference.files import model_files
from eurosat.registry.reference import Reference, is_reference, parse_reference


def find_model(model_uri: str, folder: Path) -> Path:
    """Find the model file of a URI, and fetch it where it is remote.

    Args:
        model_uri: A file, a folder that holds one model file, the address of a file or folder in a
            bucket (``gs://...``), or a registered model (``registry:production``).
        folder: An empty folder for the fetched files.

    Raises:
        ModelFileError: The URI holds no model file or several, or the bucket cannot be read.
        RegistryError: The registered model does not exist, or its file cannot be fetched.
    """
    if is_reference(model_uri):
        _fetch_registered(parse_reference(model_uri), folder)
        path = folder
    elif "://" in model_uri:
        return _fetch_from_bucket(model_uri, folder)
    else:
        path = Path(model_uri)
    if not path.is_dir():
        return path
    return Path(_only_model(model_uri, map(str, path.rglob("*"))))


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


def _fetch_from_bucket(address: str, folder: Path) -> Path:
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
        return folder / Path(model).name
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
