"""Errors that name their cause and the way out.

The command line prints them without a traceback and ends with exit code 2.
"""


class EuroSATError(Exception):
    """A mistake in the data, a setting or a file that the user can put right."""


class DataSourceError(EuroSATError):
    """A data source is missing, unreadable, incomplete or not what it claims to be."""


class SplitError(EuroSATError):
    """A split cannot be made as asked."""


class AugmentationError(EuroSATError):
    """An augmentation cannot be applied to these patches."""


class CheckpointError(EuroSATError):
    """A checkpoint or weight file is missing or does not fit."""
