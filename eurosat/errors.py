"""Errors that name their cause and the way out.

The command line prints them without a traceback and ends with their exit code.
"""


class EuroSATError(Exception):
    """A mistake in the data, a setting or a file that the user can put right."""

    exit_code = 2


class DataSourceError(EuroSATError):
    """A data source is missing, unreadable, incomplete or not what it claims to be."""


class SplitError(EuroSATError):
    """A split cannot be made as asked."""


class AugmentationError(EuroSATError):
    """An augmentation cannot be applied to these patches."""


class CheckpointError(EuroSATError):
    """A checkpoint or weight file is missing or does not fit."""


class SettingsError(EuroSATError):
    """The command line does not take some settings."""


class RunDirectoryError(EuroSATError):
    """A run's folder holds an earlier run."""


class ModelFileError(EuroSATError):
    """A model file is missing, damaged, not of this project, or not to be run here."""


class ImagesError(EuroSATError):
    """The images that a model was trained and tested on cannot be had, or are others."""


class ExportError(EuroSATError):
    """A model cannot be exported, or its export differs from the checkpoint."""


class ParityError(ExportError):
    """An exported model does not do what its checkpoint does: not a mistake of the user's."""

    exit_code = 1


class GateError(EuroSATError):
    """Two models cannot be compared as asked."""


class ServiceError(EuroSATError):
    """A service cannot be reached, refuses the caller, or is not one of this project."""


class StudyError(EuroSATError):
    """A study cannot be read, or its runs do not belong together."""


class StudyEndedError(EuroSATError):
    """Ctrl-C or SIGTERM ended a study before all of its runs were done."""

    exit_code = 1


class RegistryError(EuroSATError):
    """A model cannot be registered, or a registered one cannot be had."""


class DivergenceError(EuroSATError):
    """A training left the finite numbers: no mistake in usage, so the exit code is 1."""

    exit_code = 1


class MonitorError(EuroSATError):
    """A checkpoint, or whatever else watches a metric, watches one that nothing logs."""


class TrackingError(EuroSATError):
    """The experiment tracker cannot be used as asked."""


class SweepError(EuroSATError):
    """A sweep's file, metric, parameters or agents are not as they have to be."""
