"""Settings that a checkpoint gives to a command that evaluates or continues it."""

import inspect
import logging
from collections.abc import Mapping
from typing import Any

from eurosat.data.datamodule import EuroSATDataModule
from eurosat.data.trained import TrainedOn
from eurosat.models.classifier import EuroSATClassifier

_log = logging.getLogger(__name__)

_OF_A_CHECKPOINT = (
    *(("data", "bands"), ("data", "classes")),
    *(("model", "backbone"), ("model", "backbone_args")),
)
"""Settings that a checkpoint always gives."""


def warn_of_ignored(config: Any, saved: Mapping[str, Any]) -> None:
    """Warn of settings of the command line in place of which the checkpoint's count.

    Args:
        config: The settings of a verb, as parsed.
        saved: The hyperparameters of the checkpoint.
    """
    parts = {"data": EuroSATDataModule, "model": EuroSATClassifier}
    for part, name in _OF_A_CHECKPOINT:
        given, default = config[part][name], inspect.signature(parts[part]).parameters[name].default
        if _plain(given) not in (_plain(default), _plain(saved[name])):
            _log.warning(
                "--%s.%s %s has no effect, because the checkpoint sets it to %s",
                *(part, name, _plain(given), _plain(saved[name])),
            )


def adopt_split(data: Any, trained: TrainedOn | None) -> None:
    """Give the data the split of a checkpoint, where the command line leaves the defaults.

    Args:
        data: The settings of the data module, which are changed.
        trained: The images and the split of the checkpoint's training; None if an older revision
            wrote the checkpoint.
    """
    if trained is None:
        _log.warning(
            "the checkpoint does not say which images it was trained on: if --data.source or "
            "--data.split* differ from those of its training, the metrics are of images that it "
            "was trained on"
        )
        return
    defaults = inspect.signature(EuroSATDataModule).parameters
    known = {name: value for name, value in trained.settings.items() if name in defaults}
    changed = {name: value for name, value in known.items() if _plain(data[name]) != value}
    if any(_plain(data[name]) != _plain(defaults[name].default) for name in changed):
        return  # The command line asks for another split, which loading the checkpoint refuses.
    for name, value in changed.items():
        data[name] = tuple(value) if isinstance(value, list) else value
    if changed:
        options = " ".join(f"--data.{name} {value}" for name, value in changed.items())
        _log.info("the split is that of the checkpoint: %s", options)


def _plain(value: Any) -> Any:
    """Give a value as a checkpoint holds it."""
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple | list) else value
