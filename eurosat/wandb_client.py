"""Settings of W&B's client in this process."""

import os
from typing import Any

_RETRIES = 2
"""Retries of a request.

W&B's default is 20 retries, which take longer than the client's own time limit, so that the client
reports a busy service and hides the cause. A request that the client abandons during a retry can
also keep the process from ending.
"""


def default_project(otherwise: str | None = None) -> str:
    """The W&B project where the command line names none.

    Args:
        otherwise: The project where ``WANDB_PROJECT`` is not set; ``eurosat`` if not given.
    """
    return os.environ.get("WANDB_PROJECT") or otherwise or "eurosat"


def connects() -> bool:
    """Start W&B's client, and return whether the client will connect to a server."""
    import wandb

    settings: Any = wandb.setup(wandb.Settings(x_graphql_retry_max=_RETRIES)).settings
    return settings.mode in ("online", "shared")
