"""``eurosat init``, from the wheel that users install."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

from eurosat.cli import main
from tests.conftest import CONFIGS, REPOSITORY, SMALL_MODEL, TINY, files_in
from tests.pipeline import Checkout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this repository."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Environment variables with which the wheel's package comes before this repository's.

    Dependencies are those of the environment that the tests run in.
    """
    site = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*command, "--target", str(site), str(wheel)], check=True)
    path = (str(site / "bin"), str(Path(sys.executable).parent), os.environ["PATH"])
    return {"PYTHONPATH": str(site), "PATH": os.pathsep.join(path)}


@pytest.fixture
def project(installed: dict[str, str], tmp_path: Path) -> Checkout:
    """A project laid out by the wheel's own command."""
    said = Checkout(tmp_path, installed).run("eurosat", "init", "my project")
    assert "cd 'my project'" in said
    assert "eurosat fit --config configs/quickstart.yaml" in said
    return Checkout(tmp_path / "my project", installed)


def all_files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_the_wheel_has_everything_that_is_no_code(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    package = REPOSITORY / "eurosat"
    other = [path for path in package.rglob("*") if path.suffix in (".html", ".css", ".js", ".svg")]
    assert len(other) >= 8
    wanted = {str(path.relative_to(REPOSITORY)) for path in other}
    shipped = CONFIGS.rglob("*.yaml")
    wanted |= {f"eurosat/project/configs/{path.relative_to(CONFIGS)}" for path in shipped}
    assert wanted <= set(names)
    assert all(name.startswith(("eurosat/", "eurosat-")) for name in names)


def test_the_wheel_alone_lays_out_a_project_and_trains_in_it(project: Checkout) -> None:
    where = project.run("python", "-c", "import eurosat; print(eurosat.__file__)")
    assert where.startswith(project.environment["PYTHONPATH"])
    options = [option for option in (*TINY, *SMALL_MODEL) if "source" not in option]
    project.run("eurosat", "fit", "--config", "configs/quickstart.yaml", *options, "--report=true")
    (run,) = (project.folder / "outputs/quickstart").iterdir()
    assert {"report.html", "metrics.json"} <= files_in(run)


def test_the_pipeline_of_a_project_depends_on_the_installed_version(project: Checkout) -> None:
    settings = yaml.safe_load((project.folder / "dvc.yaml").read_text())
    assert settings["stages"].keys() == {
        "version",
        "prepare",
        "train",
        "evaluate",
        "report",
        "export",
    }
    made = {
        out if isinstance(out, str) else next(iter(out))
        for stage in settings["stages"].values()
        for out in stage.get("outs", []) + stage.get("metrics", [])
    }
    for name, stage in settings["stages"].items():
        if name != "version":
            assert "pipeline/eurosat.txt" in stage["deps"]
            assert all(dep in made or (project.folder / dep).exists() for dep in stage["deps"])

    project.run("git", "init", "--quiet", "--initial-branch=main")
    project.set_params({"data": {"source": "synthetic", "synthetic_images": 120}})
    project.commit("Start")
    assert project.ran(project.run("dvc", "repro", "prepare")) == ["version", "prepare"]
    assert (project.folder / "pipeline/eurosat.txt").read_text().startswith("eurosat ")
    assert project.ran(project.run("dvc", "repro", "prepare")) == ["version"]
    assert "pipeline/eurosat.txt" in project.run("git", "add", "--all", "--dry-run")
    # As if another version had been installed.
    code = project.folder.parent / "newer/eurosat"
    code.parent.mkdir()
    code.symlink_to(Path(project.environment["PYTHONPATH"]) / "eurosat")
    (code.parent / "sitecustomize.py").write_text("import eurosat; eurosat.__version__ = '99'")
    newer = Checkout(project.folder, project.environment | {"PYTHONPATH": str(code.parent)})
    assert newer.ran(newer.run("dvc", "repro", "prepare")) == ["version", "prepare"]


def test_a_clone_lays_out_the_same_project(
    project: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert main(["init", "."]) == 0
    assert all_files(Path()) == all_files(project.folder)
    assert all_files(Path("configs")) == all_files(CONFIGS)


@pytest.mark.parametrize("taken", ["notes.txt", ".hidden", "configs/mine.yaml"])
def test_a_folder_that_is_not_empty_is_refused(
    taken: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / taken
    path.parent.mkdir(exist_ok=True)
    path.write_text("mine")
    assert main(["init", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert f"{tmp_path} is not empty and holds {taken.split('/')[0]}" in error
    assert "give a new or an empty folder" in error
    assert all_files(tmp_path) == {taken: b"mine"}


def test_a_place_that_can_hold_no_folder_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("mine")
    for place in ("file", "file/below"):
        assert main(["init", str(tmp_path / place)]) == 2
        assert f"{tmp_path / place}" in capsys.readouterr().err
    assert all_files(tmp_path) == {"file": b"mine"}


def test_a_project_is_laid_out_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full after a few files."""
    from eurosat.tools import init

    def files() -> object:
        yield "params.yaml", b"data: {}"
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(init, "_project_files", files)
    assert main(["init", str(tmp_path / "new")]) == 2
    assert main(["init", str(tmp_path)]) == 2
    assert files_in(tmp_path) == set()
