"""Shared fixtures: tiny data in every published layout, and runs on the tiny data."""

import io
import json
import os
import shutil
import signal
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from PIL import Image
from rasterio.transform import from_origin

from eurosat.bands import BANDS, GEOTIFF_ORDER, render_rgb
from eurosat.cli import main
from eurosat.data.synthetic import synthetic_patch
from eurosat.gate import evaluate
from eurosat.inference import formats
from eurosat.labels import CLASSES
from eurosat.operating_system import available_cores
from tests.kinds import mark, refuse_what_is_slow
from tests.session_folder import SessionFolder, fill_once

REPOSITORY = Path(__file__).parents[1]
CONFIGS = REPOSITORY / "configs"
SHARED_DATA = REPOSITORY.parent / "shared" / "data"
"""Real data of the project's developers; tests of the real data skip where the data is absent."""

TINY = (
    "--data.source=synthetic",
    "--data.synthetic_images=120",
    "--data.batch_size=16",
    "--trainer.accelerator=cpu",
    "--trainer.devices=1",
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
    "--report=false",
)
"""Options with which any experiment takes seconds; the report would take most of the time."""

SMALL_MODEL = (
    "--model.backbone=patchnet",
    '--model.backbone_args={"stem_width": 8, "widths": [8, 16]}',
    "--trainer.max_epochs=1",
)


@dataclass(frozen=True)
class Run:
    """A finished run of the command line."""

    folder: Path

    def json(self, name: str) -> Any:
        return json.loads((self.folder / name).read_text())

    @property
    def best(self) -> Path:
        (path,) = (self.folder / "checkpoints").glob("best*.ckpt")
        return path


def pytest_configure() -> None:
    """Divide the cores among pytest-xdist's processes, and restore the default signal handlers."""
    # A shell makes background processes ignore SIGINT, and nohup makes processes ignore SIGHUP.
    # Commands that a test starts would inherit the ignored signals.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    # gcsfs reads the variable when any test first imports gcsfs; the emulator lacks the feature.
    os.environ["GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT"] = "false"
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    if workers > 1:
        threads = max(1, available_cores() // workers)
        os.environ["OMP_NUM_THREADS"] = str(threads)
        torch.set_num_threads(threads)


@pytest.hookimpl(tryfirst=True)  # before pytest selects tests by their markers
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test with its kinds."""
    for item in items:
        mark(item)


@pytest.fixture(autouse=True)
def kept_fast(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail a fast test that trains a model or starts eurosat or DVC in a process."""
    if request.node.get_closest_marker("fast"):
        refuse_what_is_slow(monkeypatch)


@pytest.fixture(autouse=True)
def few_timed_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the model gate time a few calls, which take a tiny model most of a comparison."""
    monkeypatch.setattr(evaluate, "_TURNS", 1)
    monkeypatch.setattr(evaluate, "_CALLS", {1: 3, evaluate.BATCH: 1})


@pytest.fixture(autouse=True)
def same_threads() -> Iterator[None]:
    """Restore torch's number of threads, which serving a checkpoint changes and runs depend on."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def session_folder(tmp_path_factory: pytest.TempPathFactory) -> SessionFolder:
    """Fill a folder once per session, in the first pytest-xdist process that needs the folder."""
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent  # pytest-xdist makes a folder per process in the session's folder
    return partial(fill_once, root / "session")


@pytest.fixture(scope="session")
def store_root(session_folder: SessionFolder) -> Path:
    """The session's folder of decoded data; each store in the folder has a lock of its own."""
    return session_folder("stores", lambda folder: None)


@pytest.fixture
def run(tmp_path: Path, store_root: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Run]:
    """Run the command line on tiny data and return the run."""
    monkeypatch.chdir(tmp_path)

    def run_command(verb: str, *arguments: str, model: tuple[str, ...] = SMALL_MODEL) -> Run:
        before = set(tmp_path.glob("outputs/*/*"))
        code = main([verb, *TINY, f"--data.root={store_root}", *model, *arguments])
        assert code == 0
        (folder,) = set(tmp_path.glob("outputs/*/*")) - before
        return Run(folder)

    return run_command


@pytest.fixture(scope="session")
def train_once(session_folder: SessionFolder, store_root: Path) -> Callable[..., Run]:
    """Train the small model on tiny data, once per name and session."""

    def train(name: str, *options: str) -> Run:
        def fit(folder: Path) -> None:
            arguments = [*TINY, *SMALL_MODEL, f"--data.root={store_root}"]
            assert main(["fit", *arguments, f"--output_root={folder}", *options]) == 0

        (folder,) = session_folder(name, fit).glob("*/*")
        return Run(folder)

    return train


@pytest.fixture(scope="session")
def trained(train_once: Callable[..., Run]) -> Run:
    """A finished fit, shared by the tests that do not change the run's folder."""
    augmentation = '--data.augmentations=[{"class_path": "albumentations.D4"}]'
    options = ("--experiment=tiny", "--trainer.max_epochs=2", "--report=true")
    return train_once("trained", *options, augmentation)


def wandb_without_account(folder: Path) -> dict[str, str]:
    """Environment variables without a W&B account; W&B writes its files into ``folder``."""
    places = {f"WANDB_{kind}_DIR": str(folder / kind) for kind in ("DATA", "CACHE", "CONFIG")}
    return places | {"NETRC": str(folder / "netrc"), "WANDB_ERROR_REPORTING": "false"}


@pytest.fixture
def wandb_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Remove W&B's account and settings, and stop W&B's service at the end of the test."""
    wandb = pytest.importorskip("wandb")
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    for name, value in wandb_without_account(tmp_path / "wandb-home").items():
        monkeypatch.setenv(name, value)
    wandb.teardown()
    yield
    wandb.teardown()


@pytest.fixture(scope="session")
def patches() -> dict[str, np.ndarray[Any, Any]]:
    """Three synthetic 13-band patches per class, by file stem such as ``Forest_1``."""
    return {
        f"{name}_{number}": synthetic_patch(name, 7, number)
        for name in CLASSES
        for number in (1, 2, 3)
    }


def jpeg(patch: np.ndarray[Any, Any]) -> bytes:
    """Encode a 13-band patch as an RGB JPEG with the encoder settings of EuroSAT's files."""
    buffer = io.BytesIO()
    Image.fromarray(render_rgb(patch)).save(
        buffer, "JPEG", quality=100, subsampling=2, optimize=True
    )
    return buffer.getvalue()


def geotiff(patch: np.ndarray[Any, Any], longitude: float = 10.0) -> bytes:
    """Encode a 13-band patch as a GeoTIFF with the bands in the order of the published files."""
    names = [band.name for band in BANDS]
    ordered = patch[..., [names.index(name) for name in GEOTIFF_ORDER]]
    with rasterio.MemoryFile() as memory:
        with memory.open(
            driver="GTiff",
            width=patch.shape[1],
            height=patch.shape[0],
            count=13,
            dtype="uint16",
            crs="EPSG:4326",
            transform=from_origin(longitude, 50, 1e-4, 1e-4),
        ) as file:
            file.write(np.moveaxis(ordered, -1, 0))
        return bytes(memory.read())


def write_zip(path: Path, files: dict[str, bytes]) -> Path:
    """Write a zip archive of ``files``, contents by name, and return the archive's path."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


@pytest.fixture(scope="session")
def rgb_archive(
    tmp_path_factory: pytest.TempPathFactory, patches: dict[str, np.ndarray[Any, Any]]
) -> Path:
    """A small ``EuroSAT_RGB.zip`` in the published layout with 30 synthetic JPEGs."""
    files = {
        f"EuroSAT_RGB/{stem.split('_')[0]}/{stem}.jpg": jpeg(patch)
        for stem, patch in patches.items()
    }
    return write_zip(tmp_path_factory.mktemp("rgb") / "EuroSAT_RGB.zip", files)


@pytest.fixture(scope="session")
def ms_archive(
    tmp_path_factory: pytest.TempPathFactory, patches: dict[str, np.ndarray[Any, Any]]
) -> Path:
    """A small ``EuroSAT_MS.zip`` with 30 synthetic GeoTIFFs at increasing longitudes."""
    files = {
        f"EuroSAT_MS/{stem.split('_')[0]}/{stem}.tif": geotiff(patch, longitude=number / 2)
        for number, (stem, patch) in enumerate(patches.items())
    }
    return write_zip(tmp_path_factory.mktemp("ms") / "EuroSAT_MS.zip", files)


def shared_data(name: str) -> Path:
    """Return a path in the developers' real data; skip the test where the path is absent."""
    path = SHARED_DATA / name
    if not path.exists():
        pytest.skip(f"needs the real data {name}")
    return path


LENIENT = ("--max_accuracy_loss=20", "--calibration_images=40")
"""Options of an export: each of a tiny run's ten validation images is 10 points of accuracy."""


@pytest.fixture(scope="session")
def export_once(trained: Run, session_folder: SessionFolder) -> Callable[[str], Path]:
    """Export the tiny run's checkpoint, once per format and session."""

    def export(format: str) -> Path:
        name = f"eurosat{formats()[format].backend.suffix}"

        def fill(folder: Path) -> None:
            arguments = [f"--format={format}", f"--output={folder / name}", *LENIENT]
            assert main(["export", str(trained.best), *arguments]) == 0

        return session_folder(f"exported-{format}", fill) / name

    return export


@pytest.fixture(scope="session")
def exported(export_once: Callable[[str], Path]) -> dict[str, Path]:
    """The exported file of every format, by format."""
    return {format: export_once(format) for format in formats()}


@pytest.fixture
def own_run(trained: Run, tmp_path: Path) -> Run:
    """A copy of the tiny run that a test may change."""
    shutil.copytree(trained.folder, tmp_path / "run")
    return Run(tmp_path / "run")


@pytest.fixture
def random_patches() -> Callable[..., np.ndarray]:
    """Make random raw patches that no model has seen; the count is the seed."""

    def make(
        count: int, shape: tuple[int, ...] = (3, 64, 64), dtype: type = np.uint8
    ) -> np.ndarray:
        top = 256 if dtype is np.uint8 else 10_000
        return np.random.default_rng(count).integers(0, top, (count, *shape)).astype(dtype)

    return make


def files_in(folder: Path) -> set[str]:
    """Names of all files and folders in a folder, including hidden files."""
    return {path.name for path in folder.iterdir()}
