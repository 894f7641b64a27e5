"""``eurosat promote``: register a model and assign it to a stage."""

from pathlib import Path
from typing import Literal


def promote(
    model: str,
    *,
    stage: Literal["staging", "production"] = "staging",
    version: str | None = None,
    registry: Literal["git", "wandb"] | None = None,
    push: bool = False,
) -> None:
    """Register a model and assign it to a stage.

    The git registry needs no server and works offline: a version is a git tag on the commit whose
    dvc.lock or .dvc file holds the model's checksum, and DVC stores the file. --push true uploads
    the file and the tags. The W&B Registry stores versions and files on W&B's server.

    `eurosat serve registry:STAGE` serves a model of the git registry, and `eurosat serve
    wandb:STAGE` serves a model of the W&B Registry.

    Args:
        model: A model file, such as models/eurosat.onnx, or a registered model, such as
            registry:staging, registry:v0.1.0 or wandb:staging. To register a file in the git
            registry, DVC must track the file, dvc.yaml must declare the file as an artifact, and no
            file that git tracks may have an uncommitted change.
        stage: Stage of the model; the model replaces the stage's earlier model.
        version: Version for a file that is not registered yet, such as v1.0.0; if not given, the
            latest version with its last number raised by one; the first version is v0.0.1. The W&B
            Registry numbers versions itself and takes no --version.
        registry: Registry for a file: 'git' for tags in the git repository of the current folder,
            'wandb' for the Weights & Biases (W&B) Registry; if not given, 'git'. A registered model
            stays in its registry and needs no --registry.
        push: Push the file to the DVC remote and the tags to the git remote origin. To push a
            model later, repeat the command with --push true. The option is for the git
            registry only: the W&B Registry uploads the file when the command registers it.
    """
    from eurosat.errors import RegistryError
    from eurosat.registry.reference import is_reference, parse_reference

    place = parse_reference(model) if is_reference(model) else Path(model)
    if not isinstance(place, Path):
        if registry not in (None, place.registry):
            raise RegistryError(
                f"{place} is not in the registry '{registry}': remove --registry, or promote the "
                "model's file to register the file there"
            )
        registry = place.registry
    if registry == "wandb":
        if version is not None or push:
            raise RegistryError(
                "the W&B Registry numbers versions and uploads the file itself: remove --version "
                "and --push"
            )
        from eurosat.registry.wandb_registry import promote as promote_in_wandb

        print(promote_in_wandb(place, stage))
        return
    from eurosat.registry import git

    done = git.promote(place, stage, version=version, push=push)
    print(f"model    {done.name} {done.version}, now in {done.stage}")
    print(f"commit   {done.commit}")
    print(f"tags     {', '.join(done.tags)}")
    if not push:
        print(f"share    dvc push && git push origin {' '.join(done.tags)}")
    print(f"\nServe it with: eurosat serve registry:{done.name}@{done.stage}")
