"""A resumed training: progress comes from the checkpoint, settings from the command line."""

import inspect
import logging
from collections.abc import Iterable, Mapping
from typing import Any

from lightning.pytorch.callbacks import Callback, Checkpoint
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from eurosat.errors import CheckpointError

_log = logging.getLogger(__name__)

_SET_BY_SCHEDULES = {"initial_lr", "max_lr", "min_lr", "base_momentum", "max_momentum"}
"""Settings of schedules that torch keeps in the groups of the optimiser."""

_DERIVED = {"base_lrs", "min_lrs", "default_min_lr", "mode_worse", "_schedule_phases"}
"""Attributes of torch's schedules that only depend on settings."""


def check_resumable(checkpoint: Mapping[str, Any]) -> None:
    """Check that a training can continue from a checkpoint.

    Raises:
        CheckpointError: The checkpoint holds weights only.
    """
    if not {"optimizer_states", "lr_schedulers", "loops", "callbacks"} <= checkpoint.keys():
        raise CheckpointError(
            "the checkpoint holds only weights, so a training cannot continue from it: start from "
            "it with --model.pretrained <checkpoint> in place of --ckpt_path"
        )


def keep_settings(optimizer: Optimizer) -> None:
    """Let an optimiser keep its own settings when it loads a state.

    The learning rate keeps the progress of its schedule: it is the loaded rate, scaled by the new
    initial rate over the initial rate of the checkpoint. An optimiser of another class, or of other
    weights, begins without a state.
    """
    kind = f"{type(optimizer).__module__}.{type(optimizer).__qualname__}"
    for group in optimizer.param_groups:
        group["kind"] = kind
        group.setdefault("initial_lr", group["lr"])
    optimizer.register_load_state_dict_pre_hook(_with_own_settings)


def _with_own_settings(optimizer: Optimizer, state: dict[str, Any]) -> dict[str, Any]:
    own, saved = optimizer.param_groups, state["param_groups"]
    settings = (_settings_of(optimizer) | _SET_BY_SCHEDULES | {"kind"}) - {"params"}
    # A checkpoint of an older revision does not name the class of its optimiser.
    needed = set(own[0]) & _settings_of(optimizer)
    same = all(
        group["kind"] == own[0]["kind"] if "kind" in group else needed <= group.keys()
        for group in saved
    )
    if not same or [len(group["params"]) for group in own] != [
        len(group["params"]) for group in saved
    ]:
        _log.warning(
            "the optimiser begins without a state, because the checkpoint has the state of "
            "%s: the weights and the epoch are those of the checkpoint",
            "an optimiser of other weights" if same else "another optimiser",
        )
        return optimizer.state_dict()
    groups = [
        before
        | {name: value for name, value in group.items() if name in settings}
        | {"lr": _continued_rate(group, before)}
        for group, before in zip(own, saved, strict=True)
    ]
    return state | {"param_groups": groups}


def _continued_rate(own: Mapping[str, Any], saved: Mapping[str, Any]) -> Any:
    before, now = saved.get("initial_lr"), own["initial_lr"]
    if before is None or before == now:
        return saved["lr"]
    return now if saved["lr"] == before else saved["lr"] * now / before


def restore_schedule(schedule: LRScheduler, state: Mapping[str, Any]) -> None:
    """Give a schedule the progress of a checkpoint; the settings of the schedule stay.

    Args:
        schedule: The schedule of the resumed training.
        state: The state of the schedule in the checkpoint. A state of another class of schedule
            is not restored.
    """
    own = schedule.state_dict()
    settings = _settings_of(schedule) & own.keys() - {"last_epoch"}
    if not settings <= state.keys():
        _log.warning(
            "the learning rate's schedule begins anew, because the checkpoint has the state of "
            "another schedule than %s",
            type(schedule).__name__,
        )
        return
    progress = {name: value for name, value in state.items() if name not in settings | _DERIVED}
    schedule.load_state_dict(own | progress)


def keep_settings_of_callbacks(
    callbacks: Iterable[Callback], states: Mapping[str, dict[str, Any]]
) -> None:
    """Replace settings in the saved states of callbacks by those of the command line.

    Args:
        callbacks: The callbacks of the resumed training.
        states: The states of a checkpoint by the callbacks' keys, which are changed.
    """
    for callback in callbacks:
        state = states.get(callback.state_key)
        if state is None or isinstance(callback, Checkpoint):  # ResumableCheckpoint restores itself
            continue
        for name in _settings_of(callback) & state.keys():
            state[name] = getattr(callback, name)


def _settings_of(item: object) -> set[str]:
    """Names of the parameters with which an object was made."""
    found: set[str] = set()
    for ancestor in type(item).__mro__[:-1]:
        if "__init__" in vars(ancestor):
            found |= set(inspect.signature(vars(ancestor)["__init__"]).parameters)
    return found
