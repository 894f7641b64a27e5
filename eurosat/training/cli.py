"""LightningCLI with this project's module, data and record of a run."""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import lightning
import yaml
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import LearningRateMonitor
from lightning.pytorch.cli import (
    ArgsType,
    LightningArgumentParser,
    LightningCLI,
    SaveConfigCallback,
)
from lightning.pytorch.loggers import CSVLogger, Logger
from lightning.pytorch.utilities import rank_zero_only
from torch.distributed import DistNetworkError, DistStoreError

from eurosat.configuration import strict_configuration
from eurosat.data.datamodule import EuroSATDataModule
from eurosat.data.trained import TrainedOn
from eurosat.errors import (
    CheckpointError,
    DivergenceError,
    EuroSATError,
    MonitorError,
    RunDirectoryError,
    SettingsError,
)
from eurosat.logs import Logs
from eurosat.models.classifier import EuroSATClassifier
from eurosat.models.saved import load_content, read_saved
from eurosat.training.adoption import adopt_split, warn_of_ignored
from eurosat.training.callbacks.checkpoints import LastCheckpoint, best_checkpoint, without_best
from eurosat.training.callbacks.guards import (
    AccumulationGuard,
    DivergenceGuard,
    MonitorGuard,
    TerminationGuard,
)
from eurosat.training.callbacks.record import RunRecord
from eurosat.training.callbacks.test_results import TestResults
from eurosat.training.callbacks.vertex_trial import VertexTrial
from eurosat.training.cluster import Cluster, adopt_cluster, check_machines, unreachable
from eurosat.training.logger_settings import check_packages, make_loggers, postpone
from eurosat.training.loggers import FinishesRun
from eurosat.training.parser import SettingsParser, add_run_options, help_texts
from eurosat.training.profiler import make_profiler
from eurosat.training.resume import (
    FinishedRunError,
    Resumption,
    discard_repeated,
    find_resumption,
    has_begun,
    open_metrics,
)
from eurosat.training.run_folder import (
    RunFolder,
    is_first_process,
    name_folder,
    new_folder,
    new_or_stopped,
    requested_folder,
    requested_or_stopped,
)
from eurosat.training.termination import recorded_termination
from eurosat.training.trainer import Trainer, check_trainer, stopped_by_settings

# Processes that Lightning starts for DDP inherit it, so that all of them share one run folder.
_RUN_DIRECTORY_VARIABLE = "EUROSAT_RUN_DIRECTORY"


def run_trainer_verb(arguments: Sequence[str]) -> None:
    """Run a verb of LightningCLI, and close the loggers at the end.

    Args:
        arguments: A verb and its options.

    Raises:
        EuroSATError: Lightning rejects the settings, or the run ended with a named error.
    """
    launched = _RUN_DIRECTORY_VARIABLE in os.environ
    cluster = None if launched else adopt_cluster()
    try:
        with recorded_termination(launched=launched):
            command_line = EuroSATCLI(arguments, cluster)
            for logger in command_line.trainer.loggers:
                if isinstance(logger, FinishesRun):
                    logger.finish()
    except FinishedRunError as finished:
        print(finished)
    except MisconfigurationException as error:
        raise EuroSATError(str(error)) from error
    except (DistNetworkError, DistStoreError) as error:
        raise unreachable(error) from error
    except (DivergenceError, MonitorError):
        # Every process of a run finds these errors, and the first process raises. If another
        # process raised too, Lightning would kill the first process while it writes the record.
        if cast(Any, rank_zero_only).rank == 0:
            raise
    except EuroSATError:
        raise
    except Exception as error:
        if (named := stopped_by_settings(error)) is None:
            raise
        raise named from error


class SaveConfig(SaveConfigCallback):
    """Saves ``config.yaml``, and sends the whole configuration to every logger."""

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Save the configuration; ``predict`` has no run folder, so it saves none."""
        if stage != "predict":
            super().setup(trainer, pl_module, stage)

    def save_config(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Send the configuration; Lightning calls this once per run, on the first process."""
        content = json.loads(self.parser.dump(self.config, skip_none=False, format="json"))
        for logger in trainer.loggers[1:]:  # the first writes metrics.csv, beside config.yaml
            logger.log_hyperparams(content)


class EuroSATCLI(LightningCLI):
    """``fit``, ``validate``, ``test`` and ``predict``."""

    def __init__(self, arguments: Sequence[str], cluster: Cluster | None = None) -> None:
        """Parse the arguments and run the verb.

        Args:
            arguments: A verb and its options.
            cluster: The machines of a Vertex AI job; None if Vertex AI starts no other machine.
        """
        self._verb = arguments[0]
        self._cluster = cluster
        self._logs = Logs(rank=lambda: cast(Any, rank_zero_only).rank)
        self._folder: RunFolder | None = None
        self._resumption: Resumption | None = None
        self._saved: dict[str, Any] | None = None
        try:
            with self._logs:
                super().__init__(
                    EuroSATClassifier,
                    EuroSATDataModule,
                    trainer_class=Trainer,
                    parser_class=SettingsParser,
                    parser_kwargs={"prog": "eurosat", self._verb: help_texts(self._verb)},
                    save_config_callback=SaveConfig,
                    save_config_kwargs={"overwrite": True},
                    seed_everything_default=42,
                    auto_configure_optimizers=False,
                    # Lightning warns if the process's own arguments are passed.
                    args=None if list(arguments) == sys.argv[1:] else list(arguments),
                )
        finally:
            os.environ.pop(_RUN_DIRECTORY_VARIABLE, None)
            if self._folder is not None:
                self._folder.close()

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]
        """Return the verb to run alone, because Lightning builds a parser per verb."""
        return {self._verb: super().subcommands()[self._verb]}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the options of the run folder, the checkpoint and the predictions."""
        add_run_options(parser)

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse the arguments, set the console's log level, and check the checkpoint."""
        with strict_configuration():
            super().parse_arguments(parser, args)
        config = self.config[self.config.subcommand]
        self._logs.set_level(config.log_level)
        if config.ckpt_path and Path(config.ckpt_path).exists():
            # LightningCLI parses the file's hyperparameters next, and imports what they name.
            self._saved = read_saved(Path(config.ckpt_path)).hyperparameters
            warn_of_ignored(config, self._saved)

    def before_instantiate_classes(self) -> None:
        """Name the run folder, and take bands and classes from the checkpoint."""
        config = self.config[self.subcommand]
        check_trainer(config.trainer, str(self.subcommand))
        config.test_after_fit &= config.trainer.limit_test_batches != 0
        if not config.trainer.plugins:  # which may know the machines
            check_machines(self._cluster, config.trainer.num_nodes)
        self._adopt_checkpoint(config)
        if config.experiment is None:
            files = config.get("config") or []
            config.experiment = Path(str(files[0])).stem if files else str(self.subcommand)
        resumes = config.resume is not None and self.subcommand == "fit"
        resumes = resumes and not self._leaves_no_folder()
        if _RUN_DIRECTORY_VARIABLE not in os.environ:
            self._folder = self._find_folder(config, resumes=resumes)
            os.environ[_RUN_DIRECTORY_VARIABLE] = str(self._folder.path)
        self.run_directory = Path(os.environ[_RUN_DIRECTORY_VARIABLE])
        config.run_directory = None  # the saved configuration can be run again
        # A resumed run keeps its file. All processes decide before the first of them can write.
        self.save_config_kwargs["save_to_log_dir"] = not has_begun(self.run_directory)
        if resumes:
            self._resume(config)
        self._save_between_validations(config)
        self.parser.add_instantiator(postpone, Logger)

    @staticmethod
    def _save_between_validations(config: Any) -> None:
        """Save after training epochs if a metric of the training, or none, chooses the checkpoint.

        A validation within an epoch comes before the metrics of the training.
        """
        watched = config.checkpoint.monitor or ""
        seldom = config.trainer.check_val_every_n_epoch != 1 and not watched.startswith("val/")
        unset = config.checkpoint.save_on_train_epoch_end is None
        if unset and (seldom or watched.startswith("train/")):
            config.checkpoint.save_on_train_epoch_end = True

    def _find_folder(self, config: Any, *, resumes: bool) -> RunFolder:
        parent = Path(config.output_root) / config.experiment
        requested = Path(config.run_directory) if config.run_directory is not None else None
        if self._leaves_no_folder():
            return RunFolder(requested or name_folder(parent))
        if not resumes:
            return requested_folder(requested) if requested else new_folder(parent)
        content = yaml.safe_load(self.parser.dump(self.config, skip_none=False))
        settings = content[self.subcommand]
        if requested:
            return requested_or_stopped(requested, settings)
        if config.trainer.num_nodes > 1:
            raise RunDirectoryError(
                "--resume auto on several machines needs --run_directory: pass a folder that all "
                "machines share"
            )
        return new_or_stopped(parent, settings)

    def _resume(self, config: Any) -> None:
        self._resumption = find_resumption(self.run_directory)
        if self._resumption is None:
            return
        if self._folder is not None and is_first_process():
            discard_repeated(self._resumption)
        config.ckpt_path = str(self._resumption.checkpoint)

    def _leaves_no_folder(self) -> bool:
        config = self.config[self.subcommand]
        return self.subcommand == "predict" or bool(config.trainer.fast_dev_run)

    def instantiate_classes(self) -> None:
        """Build trainer, model and data.

        Raises:
            SettingsError: A class refuses its settings.
        """
        try:
            super().instantiate_classes()
        except (ArithmeticError, AssertionError, LookupError, TypeError, ValueError) as error:
            raise SettingsError(
                f"the settings cannot be used ({type(error).__name__}: {error}): correct them, and "
                "see 'eurosat "
                f"{self.subcommand} --help'"
            ) from error
        self.datamodule.other_data_allowed = self.config[self.subcommand].other_data

    def instantiate_trainer(self, **kwargs: Any) -> lightning.Trainer:
        """Build the trainer with the loggers and callbacks that every run has."""
        config = self.config[self.subcommand]
        profiler = make_profiler(str(self.subcommand), config, self.run_directory)
        loggers = self._get(self.config_init, "trainer")["logger"]
        if isinstance(loggers, bool) or loggers is None:  # true is Lightning's CSVLogger
            loggers = []
        loggers = loggers if isinstance(loggers, list) else [loggers]
        check_packages(loggers)
        if self._leaves_no_folder():
            return super().instantiate_trainer(logger=False, **kwargs)
        if profiler is not None:
            kwargs["profiler"] = profiler
        trainer = super().instantiate_trainer(
            logger=CSVLogger(self.run_directory, name="", version=""),
            default_root_dir=self.run_directory,
            **kwargs,
        )
        if profiler is not None:
            profiler.attach(trainer)
        if trainer.is_global_zero:
            open_metrics(cast(CSVLogger, trainer.loggers[0]), self._resumption)
            trainer.loggers = [*trainer.loggers, *make_loggers(loggers, self.run_directory)]
        # The guards run before the checkpoints, so that no checkpoint saves a refused state.
        cast(Any, trainer).callbacks[:0] = [
            AccumulationGuard(),
            DivergenceGuard(),
            MonitorGuard(),
            TerminationGuard(),
        ]
        cast(Any, trainer).callbacks += [
            LastCheckpoint(filename="last", enable_version_counter=False),
            LearningRateMonitor(logging_interval="epoch"),
            TestResults(self.run_directory),
            RunRecord(
                self.run_directory,
                config.experiment,
                None if config.seed_everything is False else config.seed_everything,
                self._logs,
                report=config.report,
                checkpoint=config.ckpt_path,
            ),
        ]
        if trial := VertexTrial.of_environment():
            cast(Any, trainer).callbacks.append(trial)
        return trainer

    def after_fit(self) -> None:
        """Test the best checkpoint, and print the next steps.

        Raises:
            MonitorError: No validation took place, so no checkpoint is the best.
        """
        if self.config[self.subcommand].trainer.fast_dev_run:
            return
        kept = best_checkpoint(self.trainer)
        best = kept.best_model_path
        if not best:
            for logger in self.trainer.loggers:
                logger.finalize("failed")
            raise without_best(self.trainer)
        config = self.config[self.subcommand]
        if config.test_after_fit:
            self.trainer.test(self.model, datamodule=self.datamodule, ckpt_path=best)
        if self.trainer.is_global_zero:
            from eurosat.training.reference import write_reference

            write_reference(Path(best), self.datamodule.opened, self.trainer.strategy.root_device)
        if self._folder is not None and self._folder.chosen:  # a pipeline knows its next steps
            from eurosat.training.next_steps import show_next_steps

            show_next_steps(
                self.run_directory,
                best,
                self.datamodule.opened.store.card,
                tested=config.test_after_fit,
                report=config.report,
            )

    def _adopt_checkpoint(self, config: Any) -> None:
        """Give the data and the model the checkpoint's bands and classes."""
        path = config.ckpt_path
        if path is None:
            if self.subcommand == "fit":
                return
            raise CheckpointError(
                f"nothing to {self.subcommand}: pass --ckpt_path <.ckpt file of a run>"
            )
        if self._saved is None:
            raise CheckpointError(f"there is no checkpoint {path}: give a .ckpt file of a run")
        try:
            trained = TrainedOn.of_checkpoint(load_content(Path(path)))
        except Exception as error:
            raise CheckpointError(
                f"{path} is not a checkpoint of this project ({type(error).__name__}: {error})"
            ) from error
        bands, classes = self._saved["bands"], tuple(self._saved["classes"])
        for part in (config.data, config.model):
            part.bands, part.classes = bands, classes
        if self.subcommand != "predict" and not config.other_data:
            adopt_split(config.data, trained)
