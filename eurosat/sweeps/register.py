"""A sweep on W&B's server."""

import os
from typing import Any

from eurosat.errors import SweepError
from eurosat.wandb_client import default_project


def log_in() -> None:
    """Make sure that the server knows this machine's account.

    Raises:
        SweepError: There is no account, the server does not answer or refuses the key.
    """
    import wandb

    from eurosat.wandb_client import connects

    if not connects():
        raise SweepError(
            "W&B's server leads a sweep, but W&B is set to work offline: unset WANDB_MODE, or run "
            "'wandb online'"
        )
    try:
        if wandb.login(prompt=False):
            return
    except wandb.Error as error:
        raise SweepError(
            f"{error} 'wandb login --relogin' renews a key, and WANDB_BASE_URL names a server of "
            "your own"
        ) from error
    raise SweepError(
        "W&B's server leads a sweep, and there is no account here: run 'wandb login' or set "
        "WANDB_API_KEY; for a server of your own set WANDB_BASE_URL as well"
    )


def register(definition: dict[str, Any]) -> str:
    """Register a sweep, as ``wandb sweep`` does.

    Args:
        definition: The sweep, in W&B's format.

    Returns:
        The sweep as ENTITY/PROJECT/ID.

    Raises:
        SweepError: The server refuses it.
    """
    import wandb

    project = default_project(definition.get("project"))
    entity = os.environ.get("WANDB_ENTITY") or definition.get("entity")
    try:
        number = wandb.sweep(definition, entity=entity, project=project)
        return f"{entity or wandb.Api().default_entity}/{project}/{number}"
    # W&B's client raises errors of several families, and what they have in common is this.
    except Exception as error:
        raise SweepError(f"W&B does not register the sweep: {error}") from error
