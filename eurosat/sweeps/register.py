"""Registering a sweep on W&B's server."""

import os
from typing import Any

from eurosat.errors import SweepError
from eurosat.wandb_client import default_project


def log_in() -> None:
    """Check that the server accepts this machine's account.

    Raises:
        SweepError: W&B is offline, there is no account, the server does not answer, or the server
            rejects the key.
    """
    import wandb

    from eurosat.wandb_client import connects

    if not connects():
        raise SweepError(
            "W&B works offline, and a sweep needs W&B's server: unset WANDB_MODE, or run "
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
        "this machine has no W&B account, and a sweep needs W&B's server: run 'wandb login' or set "
        "WANDB_API_KEY; set WANDB_BASE_URL as well for a server of your own"
    )


def register(definition: dict[str, Any]) -> str:
    """Register a sweep, as ``wandb sweep`` does.

    Args:
        definition: The sweep, in W&B's format.

    Returns:
        The sweep as ENTITY/PROJECT/ID.

    Raises:
        SweepError: The server rejects the sweep.
    """
    import wandb

    project = default_project(definition.get("project"))
    entity = os.environ.get("WANDB_ENTITY") or definition.get("entity")
    try:
        number = wandb.sweep(definition, entity=entity, project=project)
        return f"{entity or wandb.Api().default_entity}/{project}/{number}"
    # W&B's client raises errors of several unrelated classes.
    except Exception as error:
        raise SweepError(
            f"W&B rejects the sweep ({error}): correct the file, or check the account"
        ) from error
