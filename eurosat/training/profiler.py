"""The profile of a training: each moment of the training loop belongs to one phase."""

import logging
import time
from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import lightning
import numpy as np
import numpy.typing as npt
import torch
from lightning.pytorch.callbacks import Checkpoint, WeightAveraging
from lightning.pytorch.profilers import Profiler
from torch.profiler import ProfilerActivity, profile, record_function

from eurosat.errors import EuroSATError
from eurosat.evaluation.profile import PHASES, Phase, summarise
from eurosat.files import atomic_write, write_json
from eurosat.hardware import hardware

_log = logging.getLogger(__name__)

ProfileKind = Literal["phases", "trace"]
"""Values of ``--profile``."""

WARM_UP_STEPS = 3
"""Number of first steps, which are reported apart: they load workers, compile and allocate."""

TRACED_STEPS = 5
"""Number of steps in a trace, after the warm-up steps; later steps repeat the same operations."""

TRACE_FILE = "trace.json.gz"

_PHASE_OF: dict[str, Phase] = {
    "run_training_epoch": "data",  # it opens the loader's iterator; _THEN has the next phase
    "train_dataloader_next": "data",
    "on_before_batch_transfer": "transfer",
    "batch_to_device": "transfer",
    "run_training_batch": "other",
    "training_step": "forward",
    "update_metrics": "logging",  # a part of EuroSATClassifier.training_step
    "backward": "backward",
    "optimizer_step": "optimiser",  # which calls training_step and backward
    "optimizer_zero_grad": "optimiser",
    "configure_gradient_clipping": "optimiser",
    "lr_scheduler_step": "optimiser",
    "save_checkpoint": "checkpoint",
}
"""Phase of each of Lightning's actions, by the last part of the action's name.

An action that is not listed belongs to the phase of its caller.
"""

_THEN: dict[str, Phase] = {
    "train_dataloader_next": "other",
    "on_train_batch_end": "logging",
    "on_train_epoch_start": "other",
    "on_train_epoch_end": "logging",
}
"""Phase of the loop's own work after an action.

At the end of a batch or an epoch the loop collects metrics and passes them to the loggers;
Lightning has no actions for this work.
"""


@dataclass
class _Frame:
    """An action that has started and not yet stopped."""

    phase: Phase
    event: Any = None


class PhaseProfiler(Profiler):
    """Times the phases of the training loop from Lightning's own actions.

    Actions are nested: an optimiser's step calls the forward and the backward pass. Each moment
    counts for the innermost action only, so that the phases add up to the time of the loop. A
    validation counts as validation as a whole, except for the checkpoints saved at its end.

    A device that computes asynchronously (CUDA, MPS) is synchronised at the end of each phase.
    Synchronising slows the run, and charges each phase with the operations that it started.
    """

    def __init__(self, run_directory: Path, config: Any, *, trace: bool) -> None:
        """Store the settings; call `attach` before the first step.

        Args:
            run_directory: Folder for ``profile.json`` and ``trace.json.gz``.
            config: The configuration of the run; the advice names settings of it.
            trace: Whether to write a trace of five steps.
        """
        super().__init__()
        self._run_directory = run_directory
        self._config = config
        self._trace = trace
        self._frames = [_Frame("other")]
        self._running = False

    def attach(self, trainer: lightning.Trainer) -> None:
        """Attach the profiler to its trainer."""
        self._trainer = trainer

    def start(self, action_name: str) -> None:
        """Start an action."""
        hook = action_name.rpartition(".")[2]
        # A callback may train inside an action; such steps are not profiled.
        if hook == "on_train_start" and len(self._frames) == 1 and not self._running:
            self._begin()
        frame = _Frame(self._phase_of(action_name, hook))
        self._frames.append(frame)
        if self._running:
            if hook == "train_dataloader_next":
                self._next_step()
            elif hook == "on_exception":
                self._finish()
                return
            self._enter(frame.phase)
            if self._tracer is not None:
                frame.event = record_function(action_name)
                frame.event.__enter__()

    def stop(self, action_name: str) -> None:
        """Stop an action."""
        frame = self._frames.pop()
        if frame.event is not None:
            frame.event.__exit__(None, None, None)
        if not self._running:
            return
        hook = action_name.rpartition(".")[2]
        caller = self._frames[-1]
        caller.phase = _THEN.get(hook, caller.phase)
        self._enter(caller.phase)
        if hook == "on_train_end" and action_name.startswith(
            "[Strategy]"
        ):  # the last action of a fit
            self._finish()

    def _phase_of(self, action_name: str, hook: str) -> Phase:
        outer = self._frames[-1].phase
        if outer == "checkpoint":
            return outer
        if action_name.startswith("[Callback]"):
            name = action_name.removeprefix("[Callback]").removesuffix(f".{hook}")
            return self._callbacks.get(name, "logging") if self._running else outer
        return _PHASE_OF.get(hook, outer)

    def _begin(self) -> None:
        """Start the clock, on the first process."""
        if not self._trainer.is_global_zero:
            return
        self._callbacks: dict[str, Phase] = {}
        for callback in cast(Any, self._trainer).callbacks:
            if isinstance(callback, Checkpoint):
                self._callbacks[callback.state_key] = "checkpoint"
            elif isinstance(callback, WeightAveraging):
                self._callbacks[callback.state_key] = "optimiser"
        device = self._trainer.strategy.root_device
        self._synchronise = {"cuda": torch.cuda.synchronize, "mps": torch.mps.synchronize}.get(
            device.type, lambda: None
        )
        self._rows = array("d")  # seconds by step and phase; the first row is before any step
        self._row = dict.fromkeys(PHASES, 0.0)
        self._steps = 0
        self._tracer: profile | None = None
        self._trace_seconds = 0.0
        self._phase: Phase = "other"
        self._running = True
        self._last = time.perf_counter()

    def _enter(self, phase: Phase) -> None:
        """Charge the time from now on to a phase."""
        if self._trainer.validating and phase != "checkpoint":
            phase = "validation"
        if phase != self._phase:
            self._charge()
            self._phase = phase

    def _charge(self) -> None:
        """Charge the time since the last change to the current phase."""
        self._synchronise()
        now = time.perf_counter()
        self._row[self._phase] += now - self._last
        self._last = now

    def _next_step(self) -> None:
        self._charge()
        self._rows.extend(self._row.values())
        self._row = dict.fromkeys(PHASES, 0.0)
        if self._trace and self._steps in (WARM_UP_STEPS, WARM_UP_STEPS + TRACED_STEPS):
            if self._steps == WARM_UP_STEPS:
                self._tracer = profile(activities=self._activities())
                self._tracer.start()
            else:
                self._write_trace()
            now = time.perf_counter()  # the time for writing the trace belongs to no phase
            self._trace_seconds += now - self._last
            self._last = now
        self._steps += 1

    def _activities(self) -> list[ProfilerActivity]:
        cuda = self._trainer.strategy.root_device.type == "cuda"
        return [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]

    def _write_trace(self) -> None:
        if self._tracer is not None:
            self._tracer.stop()
            with atomic_write(self._run_directory / TRACE_FILE) as partial:
                self._tracer.export_chrome_trace(str(partial))
            self._tracer = None

    def _finish(self) -> None:
        """Stop the clock, then write and print the profile."""
        self._charge()
        self._running = False
        self._rows.extend(self._row.values())
        self._write_trace()
        apart = WARM_UP_STEPS + (TRACED_STEPS if self._trace else 0)
        if self._steps <= apart:
            _log.warning(
                "no profile: the run made %d steps, and the first %d steps are not counted",
                self._steps,
                apart,
            )
            return
        seconds = np.asarray(self._rows).reshape(-1, len(PHASES))
        content = self._content(seconds, apart)
        write_json(self._run_directory / "profile.json", content)
        # Here, so that a run without a profile depends on nothing that presents one.
        from eurosat.evaluation.profile_table import show

        show(content)

    def _content(self, seconds: npt.NDArray[np.float64], apart: int) -> dict[str, Any]:
        """Content of ``profile.json``; the first steps are reported apart."""
        # Here, so that a change of the advice does not count as a change of the training.
        from eurosat.evaluation.profile_advice import advise

        trainer = self._trainer
        loader = cast(Any, trainer).train_dataloader
        batch_size = loader.sampler.batch_size * trainer.world_size
        steady = summarise(seconds[1 + apart :], batch_size)
        steady["bottleneck"]["advice"] = list(
            advise(
                steady["bottleneck"]["phases"],
                self._config,
                device=trainer.strategy.root_device.type,
                precision=str(trainer.precision),
            )
        )
        warm_up, traced = seconds[: 1 + WARM_UP_STEPS], seconds[1 + WARM_UP_STEPS : 1 + apart]
        return {
            "device": hardware(trainer).accelerator,
            "precision": str(trainer.precision),
            "processes": trainer.world_size,
            "batch_size": batch_size,
            "workers": loader.num_workers,
            "seconds": float(seconds.sum()) + self._trace_seconds,
            "warm_up": {"steps": WARM_UP_STEPS, "seconds": float(warm_up.sum())},
            "trace": {
                "file": TRACE_FILE,
                "steps": TRACED_STEPS,
                "seconds": float(traced.sum()) + self._trace_seconds,
            }
            if self._trace
            else None,
            **steady,
        }


def make_profiler(verb: str, config: Any, run_directory: Path) -> PhaseProfiler | None:
    """Make the profiler that ``--profile`` asks for; None without ``--profile``.

    Args:
        verb: The trainer verb.
        config: The configuration of the run.
        run_directory: Folder for ``profile.json`` and ``trace.json.gz``.

    Raises:
        EuroSATError: Other settings exclude ``--profile``.
    """
    if config.profile is None:
        return None
    if verb != "fit":
        raise EuroSATError(
            f"--profile shows where the time of fit goes, and {verb} trains nothing:"
            " drop it (--profile null if it comes from a file)"
        )
    if config.trainer.fast_dev_run:
        raise EuroSATError("--profile needs more than fast_dev_run's one batch: drop one of them")
    if config.trainer.profiler is not None:
        raise EuroSATError(
            "--profile is a profiler, and --trainer.profiler sets another: drop one of them"
        )
    return PhaseProfiler(run_directory, config, trace=config.profile == "trace")
