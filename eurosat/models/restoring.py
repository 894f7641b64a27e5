"""A resumed training: progress comes from the checkpoint, settings from the command line."""

import inspect
import logging
from collections.abc import Iterable, Mapping
from typing import Any, cast

import lightning
from lightning.pytorch.callbacks import Callback, Checkpoint, StochasticWeightAveraging
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingWarmRestarts, LRScheduler
from torch.optim.swa_utils import SWALR

from eurosat.errors import CheckpointError

_log = logging.getLogger(__name__)

_SET_BY_SCHEDULES = {"initial_lr", "max_lr", "min_lr", "base_momentum", "max_momentum"}
"""Settings of schedules that torch keeps in the groups of the optimiser."""

_DERIVED = {
    *("base_lrs", "min_lrs", "max_lrs", "lr_lambdas", "base_momentums", "max_momentums"),
    *("total_size", "step_ratio", "use_beta1", "default_min_lr", "mode_worse"),
    *("_anneal_func_type", "_scale_fn_custom", "_schedule_phases"),
}
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
    settings = (_settings_of(type(optimizer)) | _SET_BY_SCHEDULES | {"kind"}) - {"params"}
    # A checkpoint of an older revision does not name the class of its optimiser.
    needed = set(own[0]) & _settings_of(type(optimizer))
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
    if all("max_momentum" in group for group in (own[0], *saved)):
        settings -= {"betas", "momentum"}  # the schedule moves the momentum with the rate
    groups = [
        before
        | {name: value for name, value in group.items() if name in settings}
        | {"lr": _continued_rate(group, before)}
        for group, before in zip(own, saved, strict=True)
    ]
    return state | {"param_groups": groups}


def _continued_rate(own: Mapping[str, Any], saved: Mapping[str, Any]) -> Any:
    before, now = saved.get("initial_lr"), own["initial_lr"]
    # StochasticWeightAveraging replaces the initial rate by its own, and sets its own anew.
    if before is None or before == now or "swa_lr" in saved:
        return saved["lr"]
    return now if saved["lr"] == before else saved["lr"] * now / before


def restore_schedule(schedule: LRScheduler, state: Mapping[str, Any]) -> None:
    """Give a schedule the progress of a checkpoint; the settings of the schedule stay.

    Args:
        schedule: The schedule of the resumed training.
        state: The state of the schedule in the checkpoint. A state of another class of schedule
            is not restored. Schedules within a schedule are restored in the same way.
    """
    own = schedule.state_dict()
    settings = _settings_of(type(schedule)) & own.keys() - {"last_epoch"}
    inner, inner_states = getattr(schedule, "_schedulers", []), state.get("_schedulers", [])
    if not settings <= state.keys() or len(inner) != len(inner_states):
        _log.warning(
            "the learning rate's schedule begins anew, because the checkpoint has the state of "
            "another schedule than %s",
            type(schedule).__name__,
        )
        return
    progress = {name: value for name, value in state.items() if name not in settings | _DERIVED}
    schedule.load_state_dict(own | progress)
    for each, its_state in zip(inner, inner_states, strict=True):
        restore_schedule(each, its_state)
    if isinstance(schedule, CosineAnnealingWarmRestarts) and any(
        own[name] != state[name] for name in ("T_0", "T_mult")
    ):
        rates = [group["lr"] for group in schedule.optimizer.param_groups]
        schedule.step(schedule.last_epoch)  # finds the position in the periods of the new length
        for group, rate in zip(schedule.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate


def unseen_metrics(trainer: lightning.Trainer) -> dict[str, float]:
    """Values that schedules have yet to see when a checkpoint of an epoch's end is saved.

    Lightning shows a metric to the schedules that watch it after the checkpoints are saved, and not
    after a resume.

    Returns:
        Values by the metric's name.
    """
    progress = cast(Any, trainer.fit_loop.epoch_progress.current)
    return {
        config.monitor: float(trainer.callback_metrics[config.monitor])
        for config in trainer.lr_scheduler_configs
        if config.reduce_on_plateau
        and config.interval == "epoch"
        and config.monitor in trainer.callback_metrics
        and progress.processed > progress.completed
        and progress.processed % config.frequency == 0
    }


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
        for name in _settings_of(type(callback)) & state.keys():
            state[name] = getattr(callback, name)
        if isinstance(callback, StochasticWeightAveraging) and state["scheduler_state"]:
            for name in _settings_of(SWALR) & state["scheduler_state"].keys() - {"last_epoch"}:
                del state["scheduler_state"][name]


def _settings_of(kind: type) -> set[str]:
    """Names of the attributes that hold the parameters with which an object is made."""
    found: set[str] = set()
    for ancestor in kind.__mro__[:-1]:
        if "__init__" in vars(ancestor):
            for name in inspect.signature(vars(ancestor)["__init__"]).parameters:
                found |= {name, f"_{name}"}
    return found
