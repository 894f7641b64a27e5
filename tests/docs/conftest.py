"""The folder that the commands in the pages run in, and the options that make them quick."""

import re
import shutil
from pathlib import Path

import pytest

from eurosat.cli import main
from eurosat.data.synthetic import synthetic_patch
from eurosat.labels import CLASSES
from tests.conftest import REPOSITORY, SMALL_MODEL, TINY, geotiff, jpeg, write_zip
from tests.session_folder import SessionFolder

QUICK = {
    "fit": [
        *(option for option in TINY if not option.startswith(("--data.source", "--data.synth"))),
        *SMALL_MODEL,
        "--model.pretrained=false",
        "--trainer.strategy=auto",
        "--trainer.num_nodes=1",
    ],
    "export": [
        "--max_accuracy_loss=100",
        "--calibration_images=20",
        "--images=10",
        "--overwrite=true",
    ],
    # On ten images no loss can be excluded, and timings vary.
    "gate": ["--accuracy_margin=100", "--robustness_margin=100", "--max_latency_ratio=.inf"],
    "predict": ["--trainer.accelerator=cpu", "--trainer.devices=1"],
}
"""Options for seconds in place of minutes, by verb."""


def with_run(command: str) -> str:
    """A command with the name of a run folder in place of the placeholder."""
    command = re.sub(r"<time[^>]*>", "20261101-000000", command)
    return command.replace(".../", "outputs/fast/20261101-000000/checkpoints/")


@pytest.fixture(scope="session")
def template(session_folder: SessionFolder) -> Path:
    """A folder that has what the commands of the pages name."""

    def fill(folder: Path) -> None:
        patches = {
            f"{name}/{name}_{number}": synthetic_patch(name, 7, number)
            for name in CLASSES
            for number in range(1, 11)
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
