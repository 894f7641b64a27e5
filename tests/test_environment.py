"""The locks in requirements/, and which of them each make target installs."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.conftest import REPOSITORY

pytestmark = pytest.mark.process

LOCKS = REPOSITORY / "requirements"


def pins(name: str) -> dict[str, str]:
    """Versions in a lock by the packages' names."""
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", (LOCKS / f"{name}.txt").read_text(), re.M))


def asked_for(extra: str) -> list[Requirement]:
    """Requirements that an extra of pyproject.toml adds to those of the core, extras resolved."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    found: list[Requirement] = []
    for line in project["dependencies"] + project["optional-dependencies"][extra]:
        requirement = Requirement(line)
        if requirement.name == "eurosat":
            for name in sorted(requirement.extras):
                found += asked_for(name)
        else:
            found.append(requirement)
    return found


@pytest.mark.parametrize("lock", ["train", "serve", "monitor", "cloud"])
def test_a_small_lock_has_the_versions_of_the_large_one(lock: str) -> None:
    assert pins(lock).items() < pins("dev").items()


@pytest.mark.parametrize("lock", ["train", "serve", "monitor", "cloud", "dev"])
def test_a_lock_has_what_pyproject_asks_for(lock: str) -> None:
    locked = pins(lock)
    for requirement in asked_for(lock):
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        assert name in locked, f"{requirement} is not in requirements/{lock}.txt: run make lock"
        assert locked[name] in requirement.specifier, f"{requirement}: run make lock"


def test_the_tools_of_a_release_are_locked_in_the_versions_of_the_large_lock() -> None:
    groups = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["dependency-groups"]
    locked, large = pins("release"), pins("dev")
    for requirement in map(Requirement, groups["release"]):
        assert locked[requirement.name] in requirement.specifier, f"{requirement}: run make lock"
    assert all(large[name] == locked[name] for name in locked.keys() & large.keys())


def test_serving_installs_no_torch() -> None:
    assert not {"torch", "lightning", "matplotlib"} & pins("serve").keys()
    assert "torch" in pins("train")


@pytest.mark.parametrize("path", sorted(LOCKS.glob("*.txt")), ids=lambda path: path.name)
def test_locks_have_a_hash_for_every_package_and_name_no_registry(path: Path) -> None:
    text = path.read_text("utf-8")
    assert "://" not in text
    assert "index" not in re.sub(r"^\S+==.*", "", text, flags=re.M)
    for entry in re.split(r"^(?=[a-z0-9-]+==)", text, flags=re.M)[1:]:
        assert "--hash=sha256:" in entry


def make(*arguments: str, folder: Path, path: str = "") -> subprocess.CompletedProcess[str]:
    """What make would do for an environment that is not there yet."""
    return subprocess.run(
        ["make", "--dry-run", f"VENV={folder / 'venv'}", f"PYTHON={sys.executable}", *arguments],
        cwd=REPOSITORY,
        env={"PATH": f"{path}/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )


@pytest.fixture
def uv(tmp_path: Path) -> str:
    """The start of a PATH on which uv is found."""
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin/uv"
    command.write_text("#!/bin/sh\n")
    command.chmod(0o755)
    return f"{tmp_path / 'bin'}:"


def test_each_target_installs_its_own_lock(tmp_path: Path) -> None:
    fit = make("fit", folder=tmp_path).stdout
    assert "pip install --no-deps --require-hashes --requirement requirements/train.txt" in fit
    assert "requirements/dev.txt" not in fit
    for target in ("test", "lint", "environment"):
        shown = make(target, folder=tmp_path).stdout
        assert "--requirement requirements/dev.txt" in shown
        assert "requirements/train.txt" not in shown


def test_uv_installs_where_it_is_found(tmp_path: Path, uv: str) -> None:
    assert "python -m pip install --no-deps --require-hashes" in make("fit", folder=tmp_path).stdout
    assert "uv pip install --python" in make("fit", folder=tmp_path, path=uv).stdout


def test_the_cpu_build_of_torch_is_installed_beside_the_hashed_rest(
    tmp_path: Path, uv: str
) -> None:
    refused = make("fit", "TORCH=cpu", folder=tmp_path)
    assert refused.returncode != 0
    assert "TORCH=cpu needs uv" in refused.stderr
    shown = make("fit", "TORCH=cpu", folder=tmp_path, path=uv).stdout
    assert "--torch-backend cpu --no-deps" in shown
    # The filter of the recipe is run for real.
    (program,) = re.findall(r"awk '(.+)' requirements/train.txt", shown)
    command = ["awk", program, LOCKS / "train.txt"]
    rest = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    kept = set(re.findall(r"^([a-z0-9-]+)==", rest, re.M))
    left_out = pins("train").keys() - kept
    assert {"torch", "torchvision", "triton", "nvidia-cublas", "cuda-bindings"} <= left_out
    assert {"torchmetrics", "lightning", "numpy"} <= kept
    assert all(re.match("torch$|torchvision$|triton$|cuda-|nvidia-", name) for name in left_out)


def test_the_lowest_versions_of_the_wheel_are_the_bounds_of_pyproject(
    tmp_path: Path, uv: str
) -> None:
    shown = make("test-wheel", "RESOLUTION=lowest", folder=tmp_path, path=uv).stdout
    # The filter of the recipe is run for real.
    (program,) = re.findall(r"\{ (grep .+?); \} >", shown, re.DOTALL)
    command = ["sh", "-c", program]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    lowest = set(done.stdout.splitlines())
    for requirement in asked_for("dev"):
        (bound,) = (part for part in requirement.specifier if part.operator in (">=", "=="))
        assert bound.operator == "==" or f"{requirement.name}=={bound.version}" in lowest


def test_an_unknown_resolution_is_refused(tmp_path: Path, uv: str) -> None:
    refused = make("test-wheel", "RESOLUTION=highest", folder=tmp_path, path=uv)
    assert refused.returncode != 0
    assert "there is no RESOLUTION=highest: choose locked or lowest" in refused.stderr
