"""GTO's Python interface, imported without GTO's configuration of logging.

GTO configures logging when it is imported, by ``logging.config.dictConfig``. This function closes
every handler of the process, and with some handlers the process's standard error.
"""

import logging.config
from typing import Any

_configure = logging.config.dictConfig


def _ignore(config: Any) -> None:
    """Replacement for `logging.config.dictConfig` during the import."""


logging.config.dictConfig = _ignore
try:
    from gto import api
    from gto.exceptions import ArtifactNotFound, GTOException
finally:
    logging.config.dictConfig = _configure

__all__ = ["ArtifactNotFound", "GTOException", "api"]
