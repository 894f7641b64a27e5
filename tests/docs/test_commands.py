"""The commands in the pages run on tiny data, or the page says what they need."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from eurosat.cli import main
from tests.conftest import REPOSITORY
from tests.docs.conftest import QUICK, with_run
from tests.docs.pages import BLOCKS, NEEDS, Block


def verb(command: str) -> str:
    """The word that names what a command does, such as `fit`, `repro`, `serving` or `curl`."""
    words = [word for word in shlex.split(command) if not re.match(r"[A-Z_]+=", word)]
    if words[0] == "python":
        return words[2].removeprefix("benchmarks.")
    subcommand = Path(words[0]).name in ("dvc", "eurosat", "git", "make", "pip")
    return words[1] if subcommand else words[0]


def test_every_block_is_found() -> None:
    fences = sum(
        len(re.findall(r"^```(?:sh|console|bash)$", (REPOSITORY / page).read_text("utf-8"), re.M))
        for page in {block.page for block in BLOCKS}
    )
    assert len(BLOCKS) == fences > 60


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.needs], ids=str)
def test_a_block_needs_what_no_test_has(block: Block) -> None:
    assert set(block.needs) <= NEEDS


@pytest.mark.parametrize("block", [block for block in BLOCKS if "make " in block.text], ids=str)
def test_make_has_the_targets(block: Block) -> None:
    targets = re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text("utf-8"), re.M)
    for command in block.commands:
        if command.startswith("make "):
            assert verb(command) in targets


@pytest.mark.parametrize(
    "command",
    sorted({c for block in BLOCKS for c in block.commands if c.startswith("python -m benchmarks")}),
)
def test_a_benchmark_has_the_options(command: str) -> None:
    sources = [REPOSITORY / f"benchmarks/{name}.py" for name in (verb(command), "common")]
    known = "".join(path.read_text("utf-8") for path in sources)
    for option in re.findall(r"--[a-z_]+", command):
        assert f'"{option}"' in known


@pytest.mark.training
@pytest.mark.parametrize("block", [block for block in BLOCKS if block.in_process], ids=str)
def test_the_commands_run(block: Block, project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in block.commands:
        if command.startswith("jq "):
            run_jq(command)
            continue
        name = verb(command)
        command = with_run(command)
        words = shlex.split(command)[1:]
        words = [match for word in words for match in (glob(word) or [word])]
        extra = [*QUICK.get(name, [])]
        if name == "fit":
            extra.append(f"--data.root={project}/data")
            if "--ckpt_path" in words:  # a training goes on with its own images
                extra.append(f"--data.source={project}/EuroSAT_RGB.zip")
            elif not any(word.startswith("--data.source") for word in words):
                extra += ["--data.source=synthetic", "--data.synthetic_images=120"]
        try:
            code = main([*words, *extra])
        except SystemExit as ended:  # --print_config
            code = int(ended.code or 0)
        assert code == 0, capsys.readouterr().err


def glob(word: str) -> list[str]:
    """What a shell makes of a word with a star."""
    return sorted(map(str, Path().glob(word))) if "*" in word else []


def run_jq(command: str) -> None:
    if shutil.which("jq") is None:
        pytest.skip("jq is not installed")
    subprocess.run(shlex.split(with_run(command)), check=True)
