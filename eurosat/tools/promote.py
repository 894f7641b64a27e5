"""``eurosat promote``: register a model and put it into a stage."""

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
    """Register a model and put it into a stage, from where `eurosat serve` takes it.

    The registry in git needs no server: a version is a tag on the commit whose dvc.lock names the
    model's checksum, and DVC keeps the file. It works offline; --push true shares it.

    Args:
        model: A model file under DVC's care such as models/eurosat.onnx, or a registered model
            such as registry:staging or registry:v0.1.0.
        stage: The stage; the model that was in it leaves it.
        version: Version of a file that has none yet, such as v1.0.0; the next one if not given.
            The W&B Registry counts its versions itself.
        registry: Where a file is registered: 'git' (if not given) for tags in this repository,
            'wandb' for the W&B Registry. A registered model stays where it is.
        push: Send the file to the DVC remote and the tags to git's origin, also of a model that is
            in the stage already.
    """
    from eurosat.errors import RegistryError
    from eurosat.registry.reference import is_reference, parse_reference

    place = parse_reference(model) if is_reference(model) else Path(model)
    if not isinstance(place, Path):
        if registry not in (None, place.registry):
            raise RegistryError(
                f"{place} is not in the registry '{registry}': leave out --registry, or promote "
                "its file to register it there"
            )
        registry = place.registry
    if registry == "wandb":
        if version is not None or push:
            raise RegistryError(
                "W&B counts versions itself and always gets the file: leave out --version and "
                "--push"
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
