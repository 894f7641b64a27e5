"""The W&B Registry: a model is an artifact in a collection, and its stage is an alias."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import wandb
from wandb.errors import Error as WandbError

from eurosat.errors import RegistryError
from eurosat.inference.files import model_files
from eurosat.inference.runtime import open_model
from eurosat.registry.reference import DEFAULT_NAME, Reference, Stage
from eurosat.wandb_client import connects, default_project

_COLLECTION = "wandb-registry-model/{name}"
"""Collection of an organisation's registered models in W&B."""


def promote(model: Path | Reference, stage: Stage) -> str:
    """Log a model file as an artifact, and link the artifact to the registry with a stage's alias.

    Args:
        model: A model file, or a reference to a version in the W&B Registry.
        stage: The stage.

    Returns:
        One line that describes the result.

    Raises:
        RegistryError: There is no account or connection, or W&B refuses. Nothing was linked.
    """
    with _connected():
        if isinstance(model, Reference):
            artifact = wandb.Api().artifact(_address(model))
            artifact.aliases.append(stage)
            artifact.save()
            return f"{model.name} {artifact.version} is now in {stage}"
        card = open_model(model, threads=1).card
        # The example images and the reference stay in the model file.
        metadata: dict[str, Any] = json.loads(json.dumps(card.summary()))
        artifact = wandb.Artifact(DEFAULT_NAME, type="model", metadata=metadata)
        for path in model_files(model):
            artifact.add_file(str(path))
        with wandb.init(project=default_project(), job_type="promote") as run:
            run.log_artifact(artifact).wait()
            run.link_artifact(artifact, _COLLECTION.format(name=DEFAULT_NAME), aliases=[stage])
        return f"{DEFAULT_NAME} {artifact.version} is now in {stage} of the W&B Registry"


def fetch(reference: Reference, folder: Path) -> None:
    """Download a registered model, and verify the files by W&B's digests.

    Args:
        reference: The registered model.
        folder: An empty folder for its files.

    Raises:
        RegistryError: The model does not exist, cannot be fetched, or is damaged.
    """
    with _connected():
        artifact = wandb.Api().artifact(_address(reference), type="model")
        artifact.download(str(folder))
        try:
            artifact.verify(str(folder))
        except ValueError as error:
            raise RegistryError(
                f"{reference} is damaged ({error}): fetch it again, or promote its file again"
            ) from error


def _address(reference: Reference) -> str:
    collection = _COLLECTION.format(name=reference.name)
    return f"{collection}:{reference.stage or reference.version}"


@contextmanager
def _connected() -> Iterator[None]:
    """Check the account before anything is written, and convert W&B's errors.

    Raises:
        RegistryError: W&B is offline or unreachable, there is no account, or W&B refuses.
    """
    if not connects():
        raise RegistryError(
            "the W&B Registry needs W&B online: unset WANDB_MODE, or use the git registry"
        )
    try:
        if not wandb.login(prompt=False):
            raise RegistryError(
                "the W&B Registry needs an account: run 'wandb login', set WANDB_API_KEY, or use "
                "the git registry"
            )
        yield
    except (WandbError, OSError, ValueError) as error:  # requests' errors are OSErrors
        raise RegistryError(
            f"the W&B Registry is unreachable or refuses ({type(error).__name__}: {error}): "
            "check the network, WANDB_BASE_URL and your rights to the registry"
        ) from error
