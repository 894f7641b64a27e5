"""W&B's client in this process."""

import os
from typing import Any

_RETRIES = 2
"""Of a request; W&B's own 20 outlast its patience, and its error is then that it was busy.

A request that the client gives up while W&B's service tries again may also keep the process from
ending: asked to end while it hears that, the service misses it.
"""


def default_project(otherwise: str | None = None) -> str:
    """The W&B project where the command line names none.

    Args:
        otherwise: The project where ``WANDB_PROJECT`` is not set; ``eurosat`` if not given.
    """
    return os.environ.get("WANDB_PROJECT") or otherwise or "eurosat"


def connects() -> bool:
    """Start W&B's client, and say whether it is to connect to a server."""
    import wandb

    settings: Any = wandb.setup(wandb.Settings(x_graphql_retry_max=_RETRIES)).settings
    return settings.mode in ("online", "shared")
