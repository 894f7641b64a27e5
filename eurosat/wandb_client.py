"""W&B's client in this process."""

from typing import Any

import wandb

_RETRIES = 2
"""Of a request; W&B's own 20 outlast its patience, and its error is then that it was busy.

A request that the client gives up while W&B's service tries again may also keep the process from
ending: asked to end while it hears that, the service misses it.
"""


def connects() -> bool:
    """Start W&B's client, and say whether it is to connect to a server."""
    settings: Any = wandb.setup(wandb.Settings(x_graphql_retry_max=_RETRIES)).settings
    return settings.mode in ("online", "shared")
