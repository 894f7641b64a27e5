"""Options and help texts of the trainer verbs."""

from pathlib import PurePosixPath
from typing import Any, Literal

from lightning.pytorch.cli import LightningArgumentParser
from lightning.pytorch.loggers import Logger

from eurosat.logs import LogLevel
from eurosat.training.callbacks.checkpoints import BestCheckpoint
from eurosat.training.callbacks.predictions_csv import PredictionsCSV
from eurosat.training.logger_settings import RUN_FOLDER
from eurosat.training.profiler import ProfileKind

Resume = Literal["auto"]
"""Values of ``--resume``."""

_OF_A_CHECKPOINT = (
    "--ckpt_path is required. The checkpoint sets the model, the bands, the classes and the split, "
    "but not the images: repeat --data.source of the training and, if the training had them, "
    "--data.revision, --data.band_order, --data.verify and --data.synthetic_images. By default, "
    "other images and another split are refused, because their {} images may be images that the "
    "checkpoint was trained on; --other_data true accepts them."
)

_DESCRIPTIONS = {
    "fit": "Train a classifier, then test its best checkpoint.",
    "validate": "Evaluate a checkpoint on the validation split. "
    + _OF_A_CHECKPOINT.format("validation"),
    "test": "Evaluate a checkpoint on the test split, and write the report. "
    + _OF_A_CHECKPOINT.format("test"),
    "predict": "Classify the images of --data.images with a checkpoint, and write a CSV file. "
    "--ckpt_path is required. The checkpoint sets the model, the bands and the classes.",
}
"""First lines of the help texts; Lightning's own are cut off in the middle of a sentence."""

_USAGE = "eurosat {} [--config FILE ...] [--option VALUE ...]"
"""First line of the help texts and of errors; argparse's own lists all options on 100 lines."""


class SettingsParser(LightningArgumentParser):
    """Lightning's parser with the run's folder as the default ``save_dir`` of every logger.

    The parser refuses abbreviated options, which could be another option than the user means.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Build the parser; see `LightningArgumentParser`."""
        super().__init__(*args, allow_abbrev=False, **kwargs)

    def add_class_arguments(
        self, theclass: Any, nested_key: str | None = None, *args: Any, **kwargs: Any
    ) -> list[str]:
        """Add the parameters of a class; a logger's ``save_dir`` defaults to the run's folder.

        jsonargparse calls this method for every class that a configuration names.
        """
        added: list[str] = super().add_class_arguments(theclass, nested_key, *args, **kwargs)
        is_logger = isinstance(theclass, type) and issubclass(theclass, Logger)
        if is_logger and nested_key is None and "save_dir" in added:
            own = self.get_default("save_dir")  # None where the class requires save_dir
            self.set_defaults({"save_dir": str(PurePosixPath(RUN_FOLDER, own or "."))})
        return added

    def add_method_arguments(
        self, theclass: Any, themethod: str, *args: Any, **kwargs: Any
    ) -> list[str]:
        """Add the parameters of a verb; Lightning's title is cut off within a sentence."""
        added: list[str] = super().add_method_arguments(theclass, themethod, *args, **kwargs)
        assert self.groups is not None  # the method's own group is one of them
        self.groups[themethod].title = f"Options of Lightning's Trainer.{themethod}"
        return added


def help_texts(verb: str) -> dict[str, str]:
    """Return the description and the usage of a trainer verb, as arguments of its parser."""
    return {"description": _DESCRIPTIONS[verb], "usage": _USAGE.format(verb)}


def add_run_options(parser: LightningArgumentParser) -> None:
    """Add the options of the run folder, the checkpoint, the console and the predictions."""
    parser.add_argument(
        "--output_root",
        default="outputs",
        help="Folder above all run folders, which are <output_root>/<experiment>/<UTC time>.",
    )
    parser.add_argument(
        "--experiment",
        type=str | None,
        default=None,
        help="Folder of the experiment's runs in output_root. Default: the name of the first "
        "configuration file without .yaml, or the verb if there is no configuration file.",
    )
    parser.add_argument(
        "--run_directory",
        type=str | None,
        default=None,
        help="Run folder with a fixed path, for pipelines. The folder must be empty or missing; "
        "with --resume auto, the folder may also hold a run with the same settings. Default: a new "
        "folder <output_root>/<experiment>/<UTC time>. 'predict' makes no run folder.",
    )
    parser.add_argument(
        "--resume",
        type=Resume | None,
        default=None,
        help="Only for 'fit'. 'auto' continues an unfinished run from the run's last checkpoint. "
        "With --run_directory, the command continues the run in the given folder. If the run has "
        "other settings, the command fails. If the run is finished, the command does nothing. "
        "Without --run_directory, the command continues the experiment's newest unfinished run "
        "with the same settings. If there is no run to continue, a new run begins.",
    )
    parser.add_argument(
        "--other_data",
        type=bool,
        default=False,
        help="Accept a checkpoint (--ckpt_path) that was trained on other images than those of "
        "--data.source, or on another split of the images, and take the split from the command "
        "line. The log of the run then has a warning, and metrics.json of a test has "
        "'other_data: true'. The option has no effect on 'predict'.",
    )
    parser.add_argument(
        "--test_after_fit",
        type=bool,
        default=True,
        help="Only for 'fit': test the best checkpoint after the training.",
    )
    parser.add_argument(
        "--report",
        type=bool,
        default=True,
        help="Draw the figures and write report.html at the end of the run. After a run with "
        "--report false, 'eurosat report' can still draw the figures and write the report. "
        "'predict' has no report.",
    )
    parser.add_argument(
        "--profile",
        type=ProfileKind | None,
        nargs="?",
        const="phases",
        default=None,
        help="Only for 'fit'. 'phases' measures the time of each phase of the training, shows the "
        "result, writes profile.json, and suggests faster settings; --profile without a value "
        "means 'phases'. 'trace' also writes trace.json.gz for Perfetto or chrome://tracing.",
    )
    parser.add_argument(
        "--log_level",
        type=LogLevel,
        default="info",
        help="Lowest level of messages on the console. The file run.jsonl in the run folder always "
        "contains the messages of level info and above.",
    )
    parser.add_lightning_class_args(BestCheckpoint, "checkpoint")
    parser.add_lightning_class_args(PredictionsCSV, "predictions")
    parser.link_arguments("data.bands", "model.bands")
    parser.link_arguments("data.classes", "model.classes")
