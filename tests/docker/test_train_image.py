"""The image of the training: one machine that is stopped, and two machines, one of which dies.

These tests take many minutes and build an image of 7 GB, so they run only on demand:
``.venv/bin/pytest -m long tests/docker``.
"""

import json
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.docker.engine import Engine

pytestmark = pytest.mark.long

HARDENED = ("--read-only", "--tmpfs=/tmp", "--cap-drop=all", "--security-opt=no-new-privileges")
QUICK = (
    *("fit", "--config=configs/quickstart.yaml", "--resume=auto", "--run_directory=outputs/run"),
    *("--data.synthetic_images=800", "--trainer.max_epochs=6", "--report=false"),
    '--model.backbone_args={"stem_width": 8, "widths": [8, 16]}',
    "--trainer.enable_progress_bar=false",
)
PAIR = ("--trainer.num_nodes=2", "--trainer.devices=1", "--trainer.strategy=ddp")


@dataclass
class Machine:
    """A container that trains."""

    engine: Engine
    name: str

    def logs(self) -> str:
        return self.engine("logs", self.name, check=False, both=True)

    def wait_for(self, text: str, seconds: float = 240) -> None:
        """Wait until the machine has logged a text."""
        deadline = time.monotonic() + seconds
        while text not in self.logs():
            assert self.engine.inspect(self.name)["State"]["Running"], self.logs()
            assert time.monotonic() < deadline, self.logs()
            time.sleep(0.5)

    def end(self, seconds: float = 300) -> int:
        """Wait for the end, and return the exit code."""
        return int(self.engine("wait", self.name, timeout=seconds))


@dataclass
class Site:
    """Folders and a network that machines share."""

    engine: Engine
    folder: Path
    image: str
    network: str = field(default_factory=lambda: f"eurosat-{uuid.uuid4().hex[:8]}")
    machines: list[str] = field(default_factory=list)

    def start(self, host: str, *command: str, program: str = "", **environment: str) -> Machine:
        """Start a machine, in place of an earlier machine of the same host name."""
        name = f"{self.network}-{host}"
        self.engine("rm", "--force", name, check=False)
        self.machines.append(name)
        shared = [f"--volume={self.folder / part}:/project/{part}" for part in ("outputs", "data")]
        self.engine(
            *("run", "--detach", f"--name={name}", f"--hostname={host}"),
            *(f"--network={self.network}", f"--network-alias={host}", *HARDENED, *shared),
            *(f"--env={variable}={value}" for variable, value in environment.items()),
            *([f"--entrypoint={program}"] if program else []),
            *(self.image, *command),
        )
        return Machine(self.engine, name)

    @property
    def record(self) -> dict[str, Any]:
        return dict(json.loads((self.folder / "outputs" / "run" / "run.json").read_text()))

    def losses(self) -> list[str]:
        table = (self.folder / "outputs" / "run" / "learning_curves.csv").read_text()
        return table.splitlines()


@pytest.fixture(scope="session")
def train_image(engine: Engine, base: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    engine.make("train-image", tmp_path_factory.mktemp("build"))
    return "eurosat-train"


@pytest.fixture
def site(engine: Engine, train_image: str, tmp_path: Path) -> Iterator[Site]:
    made = Site(engine, tmp_path, train_image)
    for part in ("outputs", "data"):
        (tmp_path / part).mkdir()
        (tmp_path / part).chmod(0o777)  # the image's user writes into the folder
    engine("network", "create", made.network)
    yield made
    for name in made.machines:
        engine("rm", "--force", name, check=False)
    engine("network", "rm", made.network, check=False)


def test_a_stopped_container_goes_on(site: Site) -> None:
    machine = site.start("one", *QUICK)
    machine.wait_for("epoch 1:")
    site.engine("stop", "--time=20", machine.name)
    assert machine.end() == 143
    assert site.record["status"] == "terminated"
    machine = site.start("one", *QUICK)
    assert machine.end() == 0
    assert [part["status"] for part in site.record["parts"]] == ["terminated", "finished"]
    assert site.record["epochs"] == 6
    assert site.record["git"]["revision"]


def vertex(site: Site, number: int) -> Machine:
    """A machine of a job of Vertex AI."""
    cluster = {"workerpool0": ["zero:2222"], "workerpool1": ["one:2222"]}
    task = {"type": f"workerpool{number}", "index": 0}
    specification = json.dumps({"cluster": cluster, "environment": "cloud", "task": task})
    host = ("zero", "one")[number]
    return site.start(host, *QUICK, *PAIR, CLUSTER_SPEC=specification, RANK=str(number))


def slurm(site: Site, number: int) -> Machine:
    """A machine of a SLURM job with one task a node."""
    job = {"SLURM_JOB_ID": "1234", "SLURM_JOB_NAME": "train", "SLURM_NTASKS": "2"}
    job |= {"SLURM_NTASKS_PER_NODE": "1", "SLURM_NODELIST": "zero,one", "SLURM_LOCALID": "0"}
    job |= {"SLURM_PROCID": str(number), "SLURM_NODEID": str(number)}
    return site.start(("zero", "one")[number], *QUICK, *PAIR, **job)


def torchrun(site: Site, number: int) -> Machine:
    """A machine on which torchrun starts the process."""
    options = ("--nnodes=2", f"--node_rank={number}", "--nproc_per_node=1")
    address = ("--master_addr=zero", "--master_port=29500")
    command = ("-m", "torch.distributed.run", *options, *address, "-m", "eurosat")
    host = ("zero", "one")[number]
    return site.start(host, *command, *QUICK, *PAIR, program="python")


@pytest.mark.parametrize("start", [vertex, slurm, torchrun])
def test_two_machines_train_and_survive_the_loss_of_one(
    start: Callable[[Site, int], Machine], site: Site
) -> None:
    zero, one = start(site, 0), start(site, 1)
    zero.wait_for("epoch 1:")
    site.engine("kill", one.name)
    begun = time.monotonic()
    code = zero.end(60)
    assert time.monotonic() - begun < 60
    assert code not in (0, 137)
    assert site.record["status"] not in ("running", "finished")
    zero, one = start(site, 0), start(site, 1)
    assert zero.end() == 0
    assert one.end() == 0
    record = site.record
    assert record["hardware"]["devices"] == 2
    assert record["epochs"] == 6
    assert len(record["parts"]) == 2
    assert len(site.losses()) == 1 + 6
