"""A container engine, a base image, and images that the Makefile builds over the base image."""

import configparser
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.conftest import REPOSITORY

BASE = "localhost/eurosat-base"
"""Debian's Python, which stands for an official image of Python."""

_CA = "/etc/ssl/certs/ca-certificates.crt"


@dataclass(frozen=True)
class Engine:
    """Docker or podman."""

    name: str
    environment: dict[str, str]

    def __call__(
        self, *arguments: str, check: bool = True, both: bool = False, timeout: float = 600
    ) -> str:
        """Run a command of the engine and return its output, with ``both`` also its errors."""
        # The monitor of a detached container would keep a pipe open, so the output goes to files.
        with (
            tempfile.TemporaryFile("w+", encoding="utf-8") as output,
            tempfile.TemporaryFile("w+", encoding="utf-8") as errors,
        ):
            code = subprocess.run(
                [self.name, *arguments],
                env=self.environment,
                stdout=output,
                stderr=errors,
                timeout=timeout,
            ).returncode
            output.seek(0)
            errors.seek(0)
            shown = errors.read()
            assert not check or code == 0, shown
            return (output.read() + (shown if both else "")).strip()

    def inspect(self, thing: str) -> dict[str, Any]:
        """Everything that the engine knows about an image or a container."""
        (content,) = json.loads(self("inspect", thing))
        return dict(content)

    def make_base(self, folder: Path) -> None:
        """Make the base image from Debian's packages."""
        archive = folder / "base.tar"
        packages = "--include=python3,python3-venv,ca-certificates"
        subprocess.run(
            ["mmdebstrap", "--quiet", "--variant=minbase", packages, "bookworm", archive],
            check=True,
            timeout=900,
        )
        self("import", str(archive), BASE)
        archive.unlink()

    def make(self, target: str, folder: Path, *variables: str) -> None:
        """Build an image with the Makefile; this machine's package index stays a secret."""
        options = ["--network=host", *_index_of_this_machine(folder)]
        ended = subprocess.run(
            [
                *("make", target, f"ENGINE={self.name}", f"BASE={BASE}", *variables),
                f"OPTIONS={' '.join(options)}",
            ],
            cwd=REPOSITORY,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=1500,
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr


def find_engine() -> Engine | str:
    """Return an engine that can run containers here, or the reason why there is none."""
    environment = dict(os.environ)
    if not Path("/run/systemd/system").is_dir():
        settings = Path(__file__).with_name("containers.conf")
        environment.setdefault("CONTAINERS_CONF", str(settings))
    for name in ("docker", "podman"):
        if shutil.which(name) is None:
            continue
        if subprocess.run([name, "info"], env=environment, capture_output=True).returncode == 0:
            break
    else:
        return "neither docker nor podman runs here"
    if shutil.which("mmdebstrap") is None or os.getuid() != 0:
        return "needs mmdebstrap and root to make a base image"
    return Engine(name, environment)


def _index_of_this_machine(folder: Path) -> Sequence[str]:
    """Options that give a build this machine's package index and certificates."""
    listed = subprocess.run(
        ["pip", "config", "list"], capture_output=True, text=True, check=True
    ).stdout
    settings = {}
    for line in listed.splitlines():
        name, _, value = line.partition("=")
        key, value = name.rsplit(".", 1)[-1], value.strip("'\"")
        if "://" in value or key in ("cert", "trusted-host") or key.endswith("timeout"):
            settings[key] = value
    if not settings:
        return []
    parser = configparser.ConfigParser()
    parser["global"] = settings
    path = folder / "pip.conf"
    with path.open("w") as file:
        parser.write(file)
    options = [f"--secret=id=pip,src={path}"]
    if "cert" in settings:
        options.append(f"--volume={settings['cert']}:{settings['cert']}:ro")
    return options
