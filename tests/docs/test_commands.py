"""The commands in the pages run on tiny data, or the page says what they need."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from eurosat.cli import main
from eurosat.data.synthetic import synthetic_patch
from eurosat.labels import CLASSES
from tests.conftest import REPOSITORY, SMALL_MODEL, TINY, geotiff, jpeg, write_zip
from tests.docs.pages import BLOCKS, NEEDS, Block
from tests.session_folder import SessionFolder

RUN_HERE = [
    block for block in BLOCKS if not block.needs and not block.run_by and "make " not in block.text
]
"""Blocks of `eurosat` commands that this module runs."""

QUICK = {
    "fit": [
        *(option for option in TINY if not option.startswith(("--data.source", "--data.synth"))),
        *SMALL_MODEL,
        "--model.pretrained=false",
        "--trainer.strategy=auto",
        "--trainer.num_nodes=1",
    ],
    "export": ["--max_accuracy_loss=100", "--calibration_images=20", "--images=10"],
    # On ten images no loss can be excluded, and timings vary.
    "gate": ["--accuracy_margin=100", "--robustness_margin=100", "--max_latency_ratio=.inf"],
    "predict": ["--trainer.accelerator=cpu", "--trainer.devices=1"],
}
"""Options for seconds in place of minutes, by verb."""


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


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.run_by], ids=str)
def test_another_test_runs_the_commands(block: Block) -> None:
    """The named file has the verb of every command; of the README, CI runs the quickstart."""
    assert block.run_by is not None
    content = block.run_by.read_text("utf-8")
    if block.run_by.name == "README.md":
        content = content.partition("<!-- quickstart -->")[2].partition("<!-- end of")[0]
    for command in block.commands:
        assert verb(command) in content, command


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


@pytest.fixture(scope="session")
def template(session_folder: SessionFolder) -> Path:
    """A folder that has what the commands of the pages name."""

    def fill(folder: Path) -> None:
        patches = {
            f"{name}/{name}_{number}": synthetic_patch(name, 7, number)
            for name in CLASSES
            for number in range(10)
        }
        jpegs = {name: jpeg(patch) for name, patch in patches.items()}
        geotiffs = {
            name: geotiff(patch, longitude=number / 10)
            for number, (name, patch) in enumerate(patches.items())
        }
        for kind, ending, files in (("RGB", "jpg", jpegs), ("MS", "tif", geotiffs)):
            named = {f"EuroSAT_{kind}/{name}.{ending}": data for name, data in files.items()}
            write_zip(folder / f"EuroSAT_{kind}.zip", named)
        shutil.copytree(REPOSITORY / "configs", folder / "configs")
        for number, data in enumerate(jpegs.values()):
            for place in ("pictures", "my_patches/burnt" if number % 2 else "my_patches/intact"):
                (folder / place).mkdir(parents=True, exist_ok=True)
                (folder / place / f"{number}.jpg").write_bytes(data)
        run = folder / "outputs/fast/20261101-000000"
        source = [f"--data.source={folder}/EuroSAT_RGB.zip", f"--data.root={folder}/data"]
        assert main(["fit", *QUICK["fit"], *source, f"--run_directory={run}"]) == 0
        (best,) = (run / "checkpoints").glob("best*.ckpt")
        for epoch in (14, 17):
            shutil.copy(best, best.with_name(f"best-epoch{epoch}.ckpt"))
        output = folder / "candidate.xml"
        options = [*QUICK["export"], "--format=openvino", f"--output={output}"]
        assert main(["export", str(best), *options]) == 0
        for path in folder.glob("candidate.*"):
            shutil.copy(path, path.with_stem("in-use"))

    return session_folder("docs", fill)


@pytest.fixture
def project(
    template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wandb_settings: None
) -> Path:
    """A copy of the folder that the commands of a block may change."""
    folder = tmp_path / "project"
    shutil.copytree(template, folder)
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.training
@pytest.mark.parametrize("block", RUN_HERE, ids=str)
def test_the_commands_run(block: Block, project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in block.commands:
        if command.startswith("jq "):
            run_jq(command)
            continue
        name = verb(command)
        assert shlex.split(command)[0] == "eurosat", (
            f"no test runs '{command}': mark the block with <!-- needs: ... --> or "
            "<!-- run by: tests/... -->"
        )
        command = with_run(command)
        words = shlex.split(command)[1:]
        words = [match for word in words for match in (glob(word) or [word])]
        extra = [*QUICK.get(name, [])]
        if name == "fit":
            extra.append(f"--data.root={project}/data")
            if not any(word.startswith("--data.source") for word in words):
                extra += ["--data.source=synthetic", "--data.synthetic_images=120"]
        try:
            code = main([*words, *extra])
        except SystemExit as ended:  # --print_config
            code = int(ended.code or 0)
        assert code == 0, capsys.readouterr().err


def glob(word: str) -> list[str]:
    """What a shell makes of a word with a star."""
    return sorted(map(str, Path().glob(word))) if "*" in word else []


def with_run(command: str) -> str:
    """A command with the name of a run folder in place of the placeholder."""
    command = re.sub(r"<time[^>]*>", "20261101-000000", command)
    return command.replace(".../", "outputs/fast/20261101-000000/checkpoints/")


def run_jq(command: str) -> None:
    if shutil.which("jq") is None:
        pytest.skip("jq is not installed")
    subprocess.run(shlex.split(with_run(command)), check=True)
