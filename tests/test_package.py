"""What `make dist` releases: the sdist, the wheel and the SBOM."""

import email
import json
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import eurosat
from tests.conftest import REPOSITORY, files_in
from tests.session_folder import SessionFolder
from tests.test_environment import LOCKS

pytestmark = pytest.mark.process

RELEASE_VENV = REPOSITORY / ".venv-release"


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=Test", "-c", "user.email=test@example.org")
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def make_dist(clone: Path) -> subprocess.CompletedProcess[str]:
    command = ["make", "dist", f"RELEASE_VENV={RELEASE_VENV}", f"PYTHON={sys.executable}"]
    return subprocess.run(command, cwd=clone, capture_output=True, text=True)


def fill(folder: Path) -> None:
    """Make a repository of this repository's files as they are now, and its release."""
    listed = git(REPOSITORY, "ls-files", "--cached", "--others", "--exclude-standard", "-z")
    for name in filter(None, listed.split("\0")):
        if (REPOSITORY / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPOSITORY / name, folder / name)  # make compares the files' times
    git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message=All files")
    for ignored in IGNORED:
        (folder / ignored).parent.mkdir(parents=True, exist_ok=True)
        (folder / ignored).write_text("*")  # tools ignore their caches so
    assert not git(folder, "status", "--porcelain")
    done = make_dist(folder)
    assert done.returncode == 0, done.stdout + done.stderr


IGNORED = (
    ".ci/quickstart.sh",
    ".ci/uv/pyvenv.cfg",
    ".dvc/cache/files/md5/00/0",
    ".dvc/config.local",
    ".dvc/tmp/lock",
    ".tool_cache/.gitignore",
    ".tool_cache/data.json",
    ".venv/pyvenv.cfg",
    "data/raw/EuroSAT_RGB.zip",
    "models/eurosat.onnx",
    "outputs/fast/run.json",
    "pipeline/evaluate/metrics.csv",
    "pipeline/report/report.html",
    "pipeline/train/last.ckpt",
)
"""Files in the places that .gitignore files name, here or in the caches of tools."""


@pytest.fixture(scope="module")
def clone(session_folder: SessionFolder) -> Path:
    """A clone in which `make dist` was run; tests only read the clone."""
    if not (RELEASE_VENV / ".complete").exists():
        pytest.skip("make test installs .venv-release")
    return session_folder("release", fill)


@pytest.fixture
def dist(clone: Path) -> Path:
    """The folder that `make dist` filled."""
    return clone / "dist"


@pytest.fixture
def metadata(dist: Path) -> email.message.Message:
    """The metadata of the wheel."""
    with zipfile.ZipFile(*dist.glob("*.whl")) as wheel:
        (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
        return email.message_from_bytes(wheel.read(name))


def test_a_release_is_an_sdist_a_wheel_and_an_sbom(dist: Path) -> None:
    name = f"eurosat-{eurosat.__version__}"
    assert files_in(dist) == {f"{name}.tar.gz", f"{name}-py3-none-any.whl", "eurosat.cdx.json"}


def test_the_sdist_has_the_files_of_git_and_no_others(dist: Path, clone: Path) -> None:
    with tarfile.open(*dist.glob("*.tar.gz")) as sdist:
        files = {member.name.partition("/")[2] for member in sdist if member.isfile()}
    assert files == {*git(clone, "ls-files").splitlines(), "PKG-INFO"}
    assert not files & set(IGNORED)


def test_the_wheel_has_every_file_of_the_package(dist: Path, clone: Path) -> None:
    with zipfile.ZipFile(*dist.glob("*.whl")) as wheel:
        files = set(wheel.namelist())
    assert "eurosat/py.typed" in files
    assert set(git(clone, "ls-files", "eurosat").splitlines()) <= files


def test_a_file_that_git_does_not_know_is_refused(clone: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(clone, tmp_path / "clone")
    (copy / "eurosat/forgotten.py").write_text("")
    done = make_dist(copy)
    assert done.returncode != 0
    assert "> eurosat/forgotten.py" in done.stdout
    assert "the sdist differs from git's files" in done.stderr
    assert not list((copy / "dist").glob("*.cdx.json"))


def test_the_metadata_tell_what_the_package_promises(metadata: email.message.Message) -> None:
    assert metadata["Version"] == eurosat.__version__
    assert metadata["License-Expression"] == "MIT"
    assert metadata["License-File"] == "LICENSE"
    classifiers = set(metadata.get_all("Classifier", []))
    minor = int(metadata["Requires-Python"].removeprefix(">=3."))
    versions = {f"Programming Language :: Python :: 3.{number}" for number in range(minor, 15)}
    assert versions | {"Typing :: Typed"} <= classifiers
    assert not any("License" in classifier for classifier in classifiers)


def test_the_sbom_names_every_pin_with_its_hashes_and_no_host(dist: Path) -> None:
    text = (dist / "eurosat.cdx.json").read_text("utf-8")
    sbom = json.loads(text)
    found = {
        f"{package['name']}=={package['version']}": {
            entry["content"] for entry in package["externalReferences"][0]["hashes"]
        }
        for package in sbom["components"]
    }
    lock = (LOCKS / "train.txt").read_text("utf-8")
    wanted = {
        entry.split()[0]: set(re.findall(r"sha256:(\w+)", entry))
        for entry in re.split(r"\n(?=\S)", lock)
        if not entry.startswith("#")
    }
    assert found == wanted
    assert set(re.findall(r"\w+://[^\"]+", text)) == {sbom["$schema"]}
    assert str(REPOSITORY) not in text
    root = sbom["metadata"]["component"]
    assert (root["name"], root["version"]) == ("eurosat", eurosat.__version__)
    (direct,) = (entry for entry in sbom["dependencies"] if entry["ref"] == root["bom-ref"])
    assert len(direct["dependsOn"]) == len(wanted)
