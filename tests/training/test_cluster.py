"""The machines of a job of Vertex AI."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from eurosat.cli import main
from eurosat.errors import ClusterError
from eurosat.training.cluster import Cluster, adopt_cluster, check_machines, read_cluster
from tests.conftest import SMALL_MODEL, TINY


def specification(pool: str = "workerpool1", index: int = 1, **changes: Any) -> str:
    """What Vertex AI gives to a machine of a job of four, two of which do not train."""
    return json.dumps(
        {
            "cluster": {
                "workerpool0": ["job-workerpool0-0:2222"],
                "workerpool1": ["job-workerpool1-0:2222", "job-workerpool1-1:2222"],
                "workerpool3": ["job-workerpool3-0:2222"],
            },
            "environment": "cloud",
            "task": {"type": pool, "index": index},
        }
        | changes
    )


@pytest.mark.parametrize(
    ("pool", "index", "machine"),
    [("workerpool0", 0, 0), ("workerpool1", 0, 1), ("workerpool1", 1, 2)],
)
def test_machines_are_numbered_over_the_pools_that_train(
    pool: str, index: int, machine: int
) -> None:
    found = read_cluster(specification(pool, index))
    assert found == Cluster("job-workerpool0-0", 2222, machine, 3)


def test_lightning_gets_the_machines_and_no_variable_of_torchrun() -> None:
    environment = {"CLUSTER_SPEC": specification(), "RANK": "2", "WORLD_SIZE": "4", "HOME": "/"}
    assert adopt_cluster(environment) is not None
    del environment["CLUSTER_SPEC"]
    assert environment == {
        "HOME": "/",
        "MASTER_ADDR": "job-workerpool0-0",
        "MASTER_PORT": "2222",
        "NODE_RANK": "2",
    }


@pytest.mark.parametrize(
    "content", ["", specification("workerpool0", 0, cluster={"workerpool0": ["a:1"]})]
)
def test_one_machine_needs_nothing(content: str) -> None:
    environment = {"CLUSTER_SPEC": content, "RANK": "0"}
    assert adopt_cluster(environment) is None
    assert environment["RANK"] == "0"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "does not describe the machines of a job"),
        (specification(cluster={}), "does not describe the machines of a job"),
        (specification("workerpool3", 0), "only workerpool0 and workerpool1 train"),
    ],
)
def test_a_damaged_description_is_named(content: str, message: str) -> None:
    with pytest.raises(ClusterError, match=message):
        read_cluster(content)


def test_a_run_that_leaves_machines_idle_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK"):
        monkeypatch.setenv(name, "")  # restored at the end
    monkeypatch.setenv("CLUSTER_SPEC", specification("workerpool0", 0))
    assert main(["fit", *TINY, *SMALL_MODEL]) == 2
    assert "pass --trainer.num_nodes 3" in capsys.readouterr().err


def test_machines_without_numbers_are_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("NODE_RANK", "GROUP_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert main(["fit", *TINY, *SMALL_MODEL, "--trainer.num_nodes=2"]) == 2
    assert "nothing gives the number of this machine" in capsys.readouterr().err


@pytest.mark.parametrize("variable", ["NODE_RANK", "GROUP_RANK", "TORCHELASTIC_RUN_ID"])
def test_a_launcher_numbers_the_machines(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NODE_RANK", "GROUP_RANK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, "1")
    check_machines(None, 2)


@pytest.mark.process
@pytest.mark.parametrize("variable", ["LOCAL_RANK", "RANK"])
def test_a_variable_that_a_launcher_left_over_is_refused(
    variable: str, tmp_path: Path, store_root: Path
) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "eurosat", "fit", *TINY, *SMALL_MODEL, f"--data.root={store_root}"],
        cwd=tmp_path,
        env=os.environ | {variable: "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.returncode == 2
    assert f"this process has number 1 ({variable}=1), and the run has one process" in ended.stderr
    assert not list(tmp_path.rglob("metrics.csv"))


@pytest.mark.process
def test_a_port_that_is_taken_is_named(tmp_path: Path, store_root: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        port = taken.getsockname()[1]
        arguments = [*TINY, *SMALL_MODEL, f"--data.root={store_root}", "--trainer.num_nodes=2"]
        ended = subprocess.run(
            [sys.executable, "-m", "eurosat", "fit", *arguments, "--trainer.strategy=ddp"],
            cwd=tmp_path,
            env=os.environ
            | {"NODE_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)},
            capture_output=True,
            text=True,
            timeout=120,
        )
    assert ended.returncode == 2, ended.stderr
    assert f"the processes of the run cannot meet at 127.0.0.1:{port}" in ended.stderr
    assert "nothing else uses MASTER_PORT" in ended.stderr
