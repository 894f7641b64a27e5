"""Errors whose message names the cause first and the remedy second.

The command line prints these errors without a traceback and ends with their exit code.
"""


class EuroSATError(Exception):
    """The data, a setting or a file has a mistake that the user can correct."""

    exit_code = 2


class DataSourceError(EuroSATError):
    """A data source is missing, unreadable or incomplete, or its contents are not as stated."""


class SplitError(EuroSATError):
    """The data cannot be split as requested."""


class PatchSizeError(EuroSATError):
    """Patches have another size than the model takes."""


class AugmentationError(EuroSATError):
    """An augmentation cannot be applied to these patches."""


class CheckpointError(EuroSATError):
    """A checkpoint or weight file is missing or does not fit the model."""


class SettingsError(EuroSATError):
    """The command line rejects some settings."""


class ProjectError(EuroSATError):
    """A project cannot be laid out in a folder."""


class RunDirectoryError(EuroSATError):
    """A run's folder already holds another run."""


class PlatformError(EuroSATError):
    """A verb does not run on this operating system."""


class AcceleratorError(EuroSATError):
    """The requested accelerator cannot be used."""


class ClusterError(EuroSATError):
    """The machines of a run are not those that the run expects."""


class RunCardError(EuroSATError):
    """A run's ``run.json`` is damaged, or a newer version of this project wrote it."""


class ReportError(EuroSATError):
    """A run's report cannot be drawn from the files in its folder."""


class ModelFileError(EuroSATError):
    """A model file is missing, damaged, of another project, or cannot run on this machine."""


class ImagesError(EuroSATError):
    """The images that a model was trained and tested on are unavailable or have changed."""


class UnreadImagesError(EuroSATError):
    """Some images of a prediction cannot be read; the other images were classified."""

    exit_code = 1


class ModelReferenceError(EuroSATError):
    """A model's reference is missing, damaged, or of another model, or cannot be made."""


class ExportError(EuroSATError):
    """A model cannot be exported, or its export differs from the checkpoint."""


class ParityError(ExportError):
    """An exported model answers differently from its checkpoint; the user made no mistake."""

    exit_code = 1


class GateError(EuroSATError):
    """Two models cannot be compared as requested."""


class ServiceError(EuroSATError):
    """A service is unreachable, refuses the caller, or is not an ``eurosat`` service."""


class StudyError(EuroSATError):
    """A study's file is invalid, or the study's runs cannot be compared with each other."""


class StudyEndedError(EuroSATError):
    """Ctrl-C or SIGTERM ended a study before all of its runs had finished."""

    exit_code = 1


class RegistryError(EuroSATError):
    """A model cannot be registered, or a registered model cannot be fetched."""


class DivergenceError(EuroSATError):
    """The training or validation loss is NaN or infinite."""

    exit_code = 1


class PredictionLogError(EuroSATError):
    """A prediction log cannot be written, read or purged."""


class MonitorError(EuroSATError):
    """A callback monitors a metric that the run does not log."""


class TrackingError(EuroSATError):
    """The experiment tracker cannot be used as requested."""


class SweepError(EuroSATError):
    """A sweep's file, metric, parameters or agents are invalid."""


class DriftError(EuroSATError):
    """The traffic of a prediction log cannot be compared with a reference."""


class VertexError(EuroSATError):
    """A spec cannot be sent to Vertex AI, or Vertex AI refuses the spec."""
