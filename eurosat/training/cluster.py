"""Training on several machines of Vertex AI."""

import json
import os
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, cast

from eurosat.errors import ClusterError

_POOLS = ("workerpool0", "workerpool1")
"""Pools that train; Vertex AI's pools 2 and 3 hold parameter servers and evaluators."""

_OF_OTHER_LAUNCHERS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK")
"""Variables that Lightning would take for those of torchrun."""

_RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")
"""Variables from which Lightning takes the number of a process."""


@dataclass(frozen=True)
class Cluster:
    """The machines of a Vertex AI job, as one of the machines sees them.

    Attributes:
        main_address: Host name of the first machine.
        main_port: Port of the first machine, by which the processes find each other.
        machine: Number of this machine, from 0.
        machines: Number of machines.
    """

    main_address: str
    main_port: int
    machine: int
    machines: int


def read_cluster(specification: str) -> Cluster | None:
    """Read ``CLUSTER_SPEC``, the description that Vertex AI gives every machine of a job.

    Source: https://cloud.google.com/vertex-ai/docs/training/distributed-training#cluster-variables

    Args:
        specification: The value of the variable.

    Returns:
        The cluster; None for a job of one machine.

    Raises:
        ClusterError: The description is damaged, or this machine is not in a pool that trains.
    """
    try:
        content = json.loads(specification)
        pools, task = content["cluster"], content["task"]
        machines = [address for pool in _POOLS for address in pools.get(pool, [])]
        host, _, port = machines[0].rpartition(":")
        pool, index = task["type"], int(task["index"])
        main_port = int(port)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise ClusterError(
            f"CLUSTER_SPEC does not describe the machines of a job ({type(error).__name__}: "
            f"{error}): unset the variable outside of Vertex AI"
        ) from error
    if pool not in _POOLS:
        raise ClusterError(
            f"this machine is in {pool}, and only workerpool0 and workerpool1 train: leave the "
            "other pools out of the job"
        )
    if len(machines) == 1:
        return None
    before = len(pools["workerpool0"]) if pool == "workerpool1" else 0
    return Cluster(host, main_port, before + index, len(machines))


def adopt_cluster(environment: MutableMapping[str, str] = os.environ) -> Cluster | None:
    """Give Lightning the machines of a Vertex AI job, if this process is part of such a job.

    Lightning reads ``MASTER_ADDR``, ``MASTER_PORT`` and ``NODE_RANK``, and starts the processes of
    the machine's devices itself.

    Args:
        environment: The environment, which is changed.

    Returns:
        The cluster; None on one machine, and outside of Vertex AI.

    Raises:
        ClusterError: ``CLUSTER_SPEC`` is damaged, or this machine is not in a pool that trains.
    """
    specification = environment.get("CLUSTER_SPEC")
    cluster = read_cluster(specification) if specification else None
    if cluster is None:
        return None
    for name in _OF_OTHER_LAUNCHERS:
        environment.pop(name, None)
    environment["MASTER_ADDR"] = cluster.main_address
    environment["MASTER_PORT"] = str(cluster.main_port)
    environment["NODE_RANK"] = str(cluster.machine)
    return cluster


def check_machines(
    cluster: Cluster | None, requested: int, environment: Mapping[str, str] = os.environ
) -> None:
    """Check that a run uses every machine of the job, and that the machines know each other.

    A machine that the run leaves out would be paid and idle. Without a launcher, every machine
    would take itself for the first, and wait for the others.

    Args:
        cluster: The machines of a Vertex AI job; None on one machine, and outside of Vertex AI.
        requested: The value of ``--trainer.num_nodes``.
        environment: The environment of this process.

    Raises:
        ClusterError: The numbers differ, or nothing gives this machine's number.
    """
    from lightning.fabric.plugins.environments.lsf import LSFEnvironment
    from lightning.fabric.plugins.environments.mpi import MPIEnvironment
    from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
    from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment

    launchers = (TorchElasticEnvironment, SLURMEnvironment, LSFEnvironment, MPIEnvironment)
    numbered = bool({"NODE_RANK", "GROUP_RANK"} & environment.keys())
    if requested > 1 and not numbered and not any(launcher.detect() for launcher in launchers):
        raise ClusterError(
            f"--trainer.num_nodes is {requested}, and nothing gives the number of this machine: "
            "start the command by SLURM, torchrun or Vertex AI, or set NODE_RANK, MASTER_ADDR and "
            "MASTER_PORT on every machine"
        )
    if cluster is not None and cluster.machines != requested:
        raise ClusterError(
            f"the job has {cluster.machines} machines and the run uses {requested}: pass "
            f"--trainer.num_nodes {cluster.machines}"
        )


def check_rank(processes: int) -> None:
    """Check that the only process of a run is the first, which writes the run's files.

    Lightning takes the number of a process from the environment, where a variable of a launcher may
    be left over.

    Args:
        processes: Number of processes of the run.

    Raises:
        ClusterError: The process has another number than 0, and would write no file.
    """
    from lightning.pytorch.utilities import rank_zero_only

    rank = cast(Any, rank_zero_only).rank
    if processes == 1 and rank:
        given = [f"{name}={os.environ[name]}" for name in _RANKS if os.environ.get(name)]
        raise ClusterError(
            f"this process has number {rank} ({', '.join(given)}), and the run has one process, "
            "which has number 0: unset the variable, or start every process by the launcher that "
            "sets it"
        )


def unreachable(error: Exception) -> ClusterError:
    """Name the address at which the processes of a run could not meet.

    Args:
        error: torch's error of the address, a port that is in use or a wait that was too long.
    """
    address = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
    reason = " ".join(str(error).split())
    return ClusterError(
        f"the processes of the run cannot meet at {address} ({reason}): check that MASTER_ADDR is "
        "the first machine, that nothing else uses MASTER_PORT there, and that all machines start"
    )
