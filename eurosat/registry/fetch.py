"""Getting the file of a registered model, from whichever registry has it."""

from pathlib import Path

from eurosat.errors import RegistryError
from eurosat.registry.reference import Reference


def fetch(reference: Reference, folder: Path) -> Path:
    """Fetch a registered model and verify its checksum.

    Args:
        reference: The model.
        folder: An empty folder for its file.

    Returns:
        The file.

    Raises:
        RegistryError: There is no such model, its file cannot be had or is damaged, or a package
            for its registry is missing.
    """
    try:
        match reference.registry:
            case "wandb":
                from eurosat.registry import wandb_registry

                return wandb_registry.fetch(reference, folder)
            case _:
                from eurosat.registry import git

                return git.fetch(reference, folder)
    except ModuleNotFoundError as error:
        extra = "track" if reference.registry == "wandb" else "pipeline"
        raise RegistryError(
            f"{reference} needs the package {error.name}, which is not installed: "
            f"pip install 'eurosat[{extra}]'"
        ) from error
