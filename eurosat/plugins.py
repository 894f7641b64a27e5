"""Entry points, by which installed packages add backbones, formats, metrics and corruptions."""

import importlib.metadata
import logging

_log = logging.getLogger(__name__)


def load_plugins(group: str) -> None:
    """Import every module that an installed package names as an entry point of a group.

    Each module registers its additions when it is imported. A module that cannot be imported is
    named in a warning, so that everything else works.

    Args:
        group: Group of the entry points, such as ``"eurosat.metrics"``.
    """
    for point in importlib.metadata.entry_points(group=group):
        try:
            point.load()
        except Exception as error:
            _log.warning(
                "the plugin %s of the group %s cannot be used (%s: %s): upgrade or uninstall %s",
                point.name,
                group,
                type(error).__name__,
                error,
                point.dist.name if point.dist else point.value,
            )
