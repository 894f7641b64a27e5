"""``eurosat sweep``: search for good hyperparameters with W&B, on every GPU of this machine."""

import re
import sys
from pathlib import Path

from eurosat.errors import SweepError


def sweep(
    file: Path | None = None,
    *,
    sweep_id: str | None = None,
    count: int | None = None,
    check: bool = False,
) -> int:
    """Search for good hyperparameters with Weights & Biases (W&B), on every GPU of this machine.

    The command checks the file, registers the sweep with W&B, and starts one W&B agent per GPU; on
    a machine without a GPU, the command starts one agent on the CPU. An agent is a process that
    asks W&B for settings and trains with them, again and again. A sweep needs a W&B account. Other
    machines join with --sweep_id. Ctrl-C ends the agents and their runs. The exit code is 1 if an
    agent fails. W&B ends an agent if three of its runs fail within the first minute, or if its
    first five runs fail. Such an agent does not count as failed.

    Args:
        file: YAML file of a sweep, such as configs/sweeps/bayes.yaml.
        sweep_id: Existing sweep that the agents join, as ENTITY/PROJECT/ID. The command needs
            either a file or --sweep_id.
        count: Number of runs per agent; if not given, agents run until the sweep ends.
        check: Check the file, and start nothing. This option needs a file.
    """
    from eurosat.sweeps.agents import gpus, run_agents
    from eurosat.sweeps.definition import read_sweep
    from eurosat.sweeps.register import log_in, register

    if (file is None) == (sweep_id is None):
        raise SweepError(
            "one of FILE and --sweep_id is needed: give a file to start a sweep, or --sweep_id to "
            "join a sweep"
        )
    if sweep_id is not None and not re.fullmatch(r"[^/\s]+/[^/]+/[^/\s]+", sweep_id):
        raise SweepError(f"--sweep_id must be ENTITY/PROJECT/ID, got '{sweep_id}'")
    if check and file is None:
        raise SweepError("--check checks a file: give a file, or join the sweep without --check")
    if count is not None and count < 1:
        raise SweepError("--count must be 1 or more")
    if file is not None:
        found = read_sweep(file)
        for warning in found.warnings:
            print(f"eurosat sweep: warning: {file}: {warning}", file=sys.stderr)
        print(f"{file}: {len(found.definition['parameters'])} parameters, all accepted")
        if check:
            return 0
    log_in()
    joined = sweep_id or register(found.definition)
    print(f"On other machines: eurosat sweep --sweep_id {joined}", flush=True)
    devices = gpus()
    codes = run_agents(joined, devices, count)
    for device, code in codes.items():
        print(f"agent on {f'GPU {device}' if devices else 'the CPU'}: exit code {code}")
    return int(any(codes.values()))
