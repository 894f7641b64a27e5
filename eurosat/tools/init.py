"""``eurosat init``: create a project outside of a clone of this repository."""

import importlib.resources
import shlex
import tomllib
from collections.abc import Iterator
from importlib.resources.abc import Traversable
from pathlib import Path

import yaml

from eurosat.errors import ProjectError
from eurosat.files import atomic_write_folder

_IN_THE_WHEEL = "eurosat/project"
"""Folder of the wheel that holds a project's files."""

_VERSION_FILE = "pipeline/eurosat.txt"
_VERSION_STAGE = f"""\
  version:
    desc: Write the installed version of eurosat, on which all other stages depend
    cmd: python -m eurosat --version > {_VERSION_FILE}
    always_changed: true
    outs:
      - {_VERSION_FILE}:
          cache: false

"""


def init(folder: Path) -> None:
    """Create a project in a new or empty folder.

    The project contains params.yaml, dvc.yaml with the pipeline, DVC's settings, the specs for
    Vertex AI, and all of eurosat's configurations, sweeps and studies. Run `eurosat fit`, `eurosat
    sweep`, `eurosat study` and `dvc repro` in the project's folder. `dvc repro` needs a git
    repository in the folder.

    Args:
        folder: Folder of the project, which must be empty or not exist yet.
    """
    _refuse_unless_empty(folder)
    try:
        with atomic_write_folder(folder) as partial:
            for name, content in _project_files():
                path = partial / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            pipeline = partial / "dvc.yaml"
            top = {path.name for path in partial.iterdir()}
            text = _without_code(pipeline.read_text("utf-8"), top)
            pipeline.write_text(text, "utf-8", newline="\n")
    except OSError as error:
        raise ProjectError(
            f"a project cannot be written to {folder} ({error.strerror}): choose another folder"
        ) from error
    print(f"The project in {folder} is ready. Next:")
    if folder.resolve() != Path.cwd():
        print(f"  cd {shlex.quote(str(folder))}")
    print("  eurosat fit --config configs/quickstart.yaml   # train on synthetic patches, offline")
    print("DVC needs a git repository around the pipeline:")
    print("  git init && git add . && git commit -m Start")
    print("  dvc repro                                      # run the stages of the pipeline")


def _refuse_unless_empty(folder: Path) -> None:
    """Raise ProjectError if the folder is not empty, is a file, or cannot be read."""
    try:
        held = sorted(path.name for path in folder.iterdir())
    except FileNotFoundError:
        return
    except OSError as error:
        raise ProjectError(
            f"{folder} cannot be a project's folder ({error.strerror}): choose another folder"
        ) from error
    if held:
        names = ", ".join(held[:3]) + (", ..." if len(held) > 3 else "")
        raise ProjectError(
            f"the folder {folder} is not empty and holds {names}: give a new or an empty folder"
        )


def _project_files() -> Iterator[tuple[str, bytes]]:
    """Give the paths and the contents of a project's files.

    A wheel holds the files inside the package. In a clone, the table `force-include` in
    pyproject.toml maps the repository's files to the wheel's files.
    """
    package = importlib.resources.files("eurosat")
    packaged = package / _IN_THE_WHEEL.rpartition("/")[2]
    if packaged.is_dir():
        yield from _files_below(packaged, "")
        return
    clone = Path(str(package)).parent
    settings = tomllib.loads((clone / "pyproject.toml").read_text("utf-8"))
    table = settings["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    for source, target in table.items():
        yield from _files_below(clone / source, target.removeprefix(f"{_IN_THE_WHEEL}/"))


def _files_below(start: Traversable, name: str) -> Iterator[tuple[str, bytes]]:
    """Give a file, or all files of a folder, with their paths in the project."""
    if start.is_file():
        yield name, start.read_bytes()
        return
    for entry in start.iterdir():
        yield from _files_below(entry, f"{name}/{entry.name}".removeprefix("/"))


def _without_code(pipeline: str, top: set[str]) -> str:
    """Make the stages of a pipeline depend on the installed version instead of on source files.

    Args:
        pipeline: Text of this repository's dvc.yaml.
        top: Names at the top of the project. A dependency that starts with another name is a source
            file of this repository.
    """
    stages = yaml.safe_load(pipeline)["stages"].values()
    dependencies = [name for stage in stages for name in stage.get("deps", [])]
    code = {name for name in dependencies if name.split("/")[0] not in top}
    body = pipeline[pipeline.index("stages:\n") :].splitlines()
    kept = [line for line in body if line.strip().removeprefix("- ") not in code]
    text = "\n".join(kept) + "\n"
    text = text.replace("stages:\n", f"stages:\n{_VERSION_STAGE}", 1)
    text = text.replace("    deps:\n", f"    deps:\n      - {_VERSION_FILE}\n")
    return (
        "# The pipeline makes a model file from data. `dvc repro` runs the stages whose files or\n"
        "# settings in params.yaml have changed. A new version of eurosat runs all stages again.\n"
        f"{text}"
    )
