"""The shell commands of the pages, run in order in one project as a reader would type them."""

import os
import re
import shutil
import sys
from pathlib import Path

import pytest
import yaml
from PIL import Image

from eurosat.data.synthetic import synthetic_patch
from tests.conftest import REPOSITORY, geotiff, wandb_without_account
from tests.docs.conftest import QUICK, with_run
from tests.docs.pages import BLOCKS
from tests.pipeline import TINY_PARAMS, Checkout, run_pipeline_once
from tests.serving.conftest import free_port
from tests.session_folder import SessionFolder

LONG_WALKS = [
    ("README.md",),  # runs most of the pipeline again; .ci/run runs the quickstart
    ("docs/howto/install.md",),  # trains, and runs a whole pipeline
]
WALKS = [
    ("docs/tutorial.md",),
    ("docs/howto/alerts.md",),
    ("docs/howto/drift.md",),
    ("docs/howto/export.md",),
    ("docs/howto/log.md",),
    ("docs/howto/pipeline.md",),
    # The gate compares with the model that the other two pages put into production.
    ("docs/howto/registry.md", "docs/howto/gate.md", "docs/howto/automate.md"),
    ("docs/howto/serve.md",),
]
"""Pages whose commands run one after the other. The long walks take minutes each."""

_EUROSAT = """\
#!{python}
# `eurosat` with options that take seconds in place of minutes.
import sys
from eurosat.cli import main
if __name__ == "__main__":
    verb = sys.argv[1]
    code = main([*sys.argv[1:], *{quick}.get(verb, [])])
    if verb == "init" and code == 0:
        with open(f"{{sys.argv[2]}}/params.yaml", "w") as file:
            file.write({params!r})
    sys.exit(code)
"""


def test_every_page_with_shell_commands_is_walked() -> None:
    pages = {str(block.page) for block in BLOCKS if block.in_shell}
    pages.remove("docs/howto/monitor.md")  # test_monitor.py runs its commands
    assert sorted(page for walk in [*WALKS, *LONG_WALKS] for page in walk) == sorted(pages)


@pytest.fixture
def shell(template: Path, session_folder: SessionFolder, tmp_path: Path) -> Checkout:
    """A project whose pipeline has run, with a remote, an origin, and all files of the pages."""
    folder = tmp_path / "project"
    shutil.copytree(run_pipeline_once(session_folder)[0], folder)
    shutil.copytree(template, folder, dirs_exist_ok=True)
    shutil.copytree(REPOSITORY / "docs/images", folder / "docs/images")
    (best,) = (folder / "outputs/fast").glob("*/checkpoints/best-epoch14.ckpt")
    shutil.copytree(folder / "outputs/fast", folder / "outputs/quickstart")
    for path in folder.glob("candidate.*"):
        shutil.copy(path, best.with_name(f"best-epoch14-openvino-int8{path.suffix}"))
    shutil.copy(folder / "pictures/0.jpg", folder / "image.jpg")
    Image.open(folder / "image.jpg").resize((200, 150)).save(folder / "scene.png")
    (folder / "scene.tif").write_bytes(geotiff(synthetic_patch("Forest", 7, 0)))
    url = f"http://localhost:{(port := free_port())}"
    quick = QUICK | {
        "fit": [*QUICK["fit"], "--data.source=synthetic", "--data.synthetic_images=120"],
        "classify": [f"--url={url}"],
    }
    command = folder / ".venv/bin/eurosat"
    command.parent.mkdir(parents=True)
    params = yaml.safe_dump(TINY_PARAMS)
    command.write_text(_EUROSAT.format(python=sys.executable, quick=quick, params=params))
    command.chmod(0o755)
    path = (str(command.parent), str(Path(sys.executable).parent), os.environ["PATH"])
    environment = wandb_without_account(tmp_path) | {"PATH": os.pathsep.join(path)}
    checkout = Checkout(folder, environment | {"PORT": str(port)})
    checkout.run("git", "init", "--quiet", "--bare", "--initial-branch=main", "../origin.git")
    checkout.run("git", "remote", "add", "origin", "../origin.git")
    checkout.run("dvc", "remote", "modify", "--local", "storage", "url", str(tmp_path / "remote"))
    # The results of the pipeline are not committed yet.
    checkout.run("git", "reset", "--quiet", "--soft", "HEAD~1")
    return checkout


def script(page: str, port: str) -> str:
    """The commands of a page; a service runs in the background while the commands go on."""
    text = "\n".join(block.text for block in BLOCKS if str(block.page) == page and block.in_shell)
    text = with_run(text).replace("\\\n", " ").replace("localhost:8000", f"localhost:{port}")
    text = text.replace("--port 8000", f"--port {port}")
    health = f"curl --silent --fail --output /dev/null localhost:{port}/health"
    ready = f"until {health}; do kill -0 $!; sleep 0.2; done"
    text, served = re.subn(
        r"^(\S*eurosat serve [^#\n]*).*$", rf"stop\n\1 &\n{ready}", text, flags=re.M
    )
    assert served == text.count("eurosat serve")
    return text


@pytest.mark.process
@pytest.mark.parametrize(
    "walk",
    [*WALKS, *(pytest.param(walk, marks=pytest.mark.long) for walk in LONG_WALKS)],
    ids=lambda walk: Path(walk[0]).stem,
)
def test_the_commands_of_a_page_run_in_order(walk: tuple[str, ...], shell: Checkout) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    stop = 'stop() { kill $(jobs -p) 2>/dev/null || true; wait; }; trap "stop" EXIT'
    pages = "\n".join(script(page, shell.environment["PORT"]) for page in walk)
    shell.run("bash", "-euxo", "pipefail", "-c", f"{stop}\n{pages}")
