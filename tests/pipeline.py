"""A copy of this repository in a separate git repository, with a tiny pipeline."""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import source_from_cache
from pathlib import Path

import requests
import yaml
from dvc.repo import Repo

from tests.conftest import REPOSITORY
from tests.session_folder import SessionFolder

_PARTS = (
    *("configs", "data/raw/README.md", "dvc.yaml", "eurosat", "requirements"),
    *(".dvc/.gitignore", ".dvc/config", ".dvcignore", ".gitignore"),
    *("models/.gitignore", "pipeline/.gitignore", "pipeline/evaluate/.gitignore"),
)
TINY_PARAMS = {
    "data": {"source": "synthetic", "synthetic_images": 300, "batch_size": 32},
    "model": {"backbone_args": {"stem_width": 8, "widths": [8, 16]}},
    "trainer": {"max_epochs": 1, "accelerator": "cpu", "enable_progress_bar": False},
}


@dataclass(frozen=True)
class Checkout:
    """A working copy and the commands that a person would run in the working copy."""

    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)

    def run(self, *command: str, code: int = 0) -> str:
        """Run a command, check its exit code, and return its standard output and standard error."""
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=dict(os.environ)
            | {
                # The commands of the tests' environment come first, as after its activation.
                "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
                "GIT_AUTHOR_NAME": "Tester",
                "GIT_AUTHOR_EMAIL": "tester@example.org",
                "GIT_COMMITTER_NAME": "Tester",
                "GIT_COMMITTER_EMAIL": "tester@example.org",
                "DVC_NO_ANALYTICS": "1",
                "OMP_NUM_THREADS": "1",
            }
            | dict(self.environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=3600,  # a busy machine takes minutes for a pipeline; 3600 s end a hung command
        )
        assert done.returncode == code, done.stdout[-3000:]
        return done.stdout

    def commit(self, message: str = "change") -> None:
        """Commit everything that git does not ignore."""
        self.run("git", "add", "--all")
        self.run("git", "commit", "--quiet", "--message", message)

    def set_params(self, changes: Mapping[str, Mapping[str, object]]) -> None:
        """Change groups of params.yaml."""
        path = self.folder / "params.yaml"
        params = yaml.safe_load(path.read_text())
        for group, values in changes.items():
            params[group] = params.get(group, {}) | values
        path.write_text(yaml.safe_dump(params, sort_keys=False))

    def changed(self) -> set[str]:
        """Names of the stages whose own dependencies or parameters changed since the last run."""
        # DVC runs in this process, because a separate `dvc status` takes seconds to start.
        with Repo(str(self.folder)) as repo:
            return {name.rpartition(":")[2] for name in repo.status()}

    def ran(self, output: str) -> list[str]:
        """Names of the stages that `dvc repro` ran, read from the output of `dvc repro`."""
        return [
            line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")
        ]


def committed_params() -> str:
    """Return the committed text of params.yaml; `dvc exp run -S` changes the working copy."""
    command = ["git", "-C", str(REPOSITORY), "show", "HEAD:params.yaml"]
    done = subprocess.run(command, capture_output=True, text=True)
    # A source distribution has neither a git history nor changes by experiments.
    return done.stdout if done.returncode == 0 else (REPOSITORY / "params.yaml").read_text()


def copy_repository(folder: Path) -> Checkout:
    """Copy this repository into a folder, make the pipeline tiny, and commit the copy."""
    for part in _PARTS:
        source, target = REPOSITORY / part, folder / part
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    (folder / "params.yaml").write_text(committed_params())
    checkout = Checkout(folder)
    checkout.run("git", "init", "--quiet", "--initial-branch=main")
    checkout.set_params(TINY_PARAMS)
    checkout.commit("Start")
    return checkout


_TRACER = '''
"""Notes every file of the checkout that a stage opens, in the stage and in all it starts."""

import os, sys

root, stage = os.environ["DVC_ROOT"], os.environ["DVC_STAGE"]
log = os.open(os.path.join(os.environ["TRACES"], stage), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
noted = set()

def note(event, arguments):
    if event == "open" and isinstance(arguments[0], str):
        path = os.path.abspath(arguments[0])
        if path.startswith(root + os.sep) and path not in noted:
            noted.add(path)
            os.write(log, (os.path.relpath(path, root) + "\\n").encode())

sys.addaudithook(note)
'''


@dataclass(frozen=True)
class Tracer:
    """A start-up file of Python that records the files that the stages of a pipeline open."""

    folder: Path

    @property
    def environment(self) -> Mapping[str, str]:
        """Environment variables that trace the commands of a checkout."""
        module = self.folder / "sitecustomize.py"
        module.parent.mkdir(parents=True, exist_ok=True)
        # Only commands of stages are traced, because DVC itself opens every file that DVC compares.
        module.write_text(f"import os\nif 'DVC_STAGE' in os.environ:\n    exec({_TRACER!r})\n")
        return {"PYTHONPATH": str(self.folder), "TRACES": str(self.folder)}

    def files(self, stage: str) -> set[str]:
        """Files that a stage opened, relative to the checkout; a .pyc file counts as its source."""
        opened = [Path(line) for line in (self.folder / stage).read_text().splitlines()]
        return {
            source_from_cache(str(path)) if path.suffix == ".pyc" else str(path) for path in opened
        }


STAGES = ["prepare", "train", "evaluate", "report", "export"]


def run_pipeline_once(session_folder: SessionFolder) -> tuple[Path, Tracer]:
    """Copy this repository and run the copy's pipeline, once per session.

    Returns:
        The copy, whose results are committed, and the files that the stages opened. A test that
        changes the copy must copy it first.
    """

    def fill(folder: Path) -> None:
        tracer = Tracer(folder / "traces")
        made = copy_repository(folder / "checkout")
        output = Checkout(made.folder, tracer.environment).run("dvc", "repro")
        assert sorted(made.ran(output)) == sorted(STAGES)
        made.commit("Results of the pipeline")

    folder = session_folder("pipeline", fill)
    return folder / "checkout", Tracer(folder / "traces")


@contextmanager
def gcs_emulator(*buckets: str) -> Iterator[Mapping[str, str]]:
    """Run an emulator of Google Cloud Storage on the loopback interface.

    Yields:
        Environment variables that direct clients to the emulator.
    """
    from gcp_storage_emulator.server import create_server

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = create_server("127.0.0.1", port, in_memory=True)
    server.start()
    try:
        for bucket in buckets:
            made = requests.post(
                f"http://127.0.0.1:{port}/storage/v1/b", json={"name": bucket}, timeout=10
            )
            made.raise_for_status()
        yield gcs_environment(port)
    finally:
        server.stop()


def impatience(folder: Path) -> Mapping[str, str]:
    """Return environment variables that shorten the pauses between the attempts of a client.

    Args:
        folder: New folder for a start-up file of Python.
    """
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(
        "import asyncio\n"
        "sleep = asyncio.sleep\n"
        "asyncio.sleep = lambda seconds, *rest: sleep(min(seconds, 0.01), *rest)\n"
    )
    return {"PYTHONPATH": str(folder)}


def gcs_environment(port: int) -> Mapping[str, str]:
    """Return environment variables that direct Google Cloud Storage clients to a loopback port."""
    return {
        "STORAGE_EMULATOR_HOST": f"http://127.0.0.1:{port}",
        "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",  # the emulator lacks this feature
    }
