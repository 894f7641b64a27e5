"""The patch size comes from the data, and holds from training to the service."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from eurosat.cli import main
from eurosat.data.datamodule import EuroSATDataModule
from eurosat.errors import PatchSizeError
from eurosat.inference import open_model
from eurosat.models import EuroSATClassifier
from eurosat.pixels import resize
from tests.conftest import CONFIGS, LENIENT, SMALL_MODEL, Run, geotiff, jpeg
from tests.serving.conftest import StartService

pytestmark = pytest.mark.training

FIXTURE = Path(__file__).parents[1] / "fixtures" / "layout-1"
QUICK = (
    "--data.split_fractions=[0.4, 0.3, 0.3]",
    "--trainer.accelerator=cpu",
    "--trainer.devices=1",
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
)

FAST = (f"--config={CONFIGS / 'fast.yaml'}",)  # whose augmentations move pixels

Patches = dict[str, np.ndarray[Any, Any]]


def class_folders(root: Path, patches: Patches, size: int, *, bands: bool = False) -> Path:
    """One folder of images a class, of any size."""
    for stem, patch in patches.items():
        file = root / stem.split("_")[0] / (f"{stem}.tif" if bands else f"{stem}.jpg")
        file.parent.mkdir(parents=True, exist_ok=True)
        resized = resize(patch, size)
        file.write_bytes(geotiff(resized) if bands else jpeg(resized))
    return root


def train(folder: Path, source: Path, *options: str, config: tuple[str, ...] = ()) -> Run:
    arguments = [
        *config,
        *QUICK,
        *SMALL_MODEL,
        f"--data.source={source}",
        f"--data.root={folder}/data",
    ]
    arguments += [f"--run_directory={folder}/run", *options]
    assert main(["fit", *arguments]) == 0
    return Run(folder / "run")


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory, patches: Patches) -> Run:
    """A run on patches of 50x50 pixels."""
    folder = tmp_path_factory.mktemp("odd")
    return train(folder, class_folders(folder / "source", patches, 50))


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory, patches: Patches) -> Run:
    """A run on patches of 128x128 pixels and four bands."""
    folder = tmp_path_factory.mktemp("large")
    source = class_folders(folder / "source", patches, 128, bands=True)
    return train(folder, source, "--data.bands=[B02, B03, B04, B08]", config=FAST)


def export(run: Run, format: str, output: Path) -> Path:
    arguments = [f"--format={format}", f"--output={output}", *LENIENT]
    assert main(["export", str(run.best), *arguments]) == 0
    return output


@pytest.mark.parametrize(("name", "shape"), [("odd", (3, 50, 50)), ("large", (4, 128, 128))])
def test_every_file_takes_patches_of_the_datas_size(
    name: str, shape: tuple[int, int, int], request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    run: Run = request.getfixturevalue(name)
    files = [run.best]
    for format, ending in (("onnx", ".onnx"), ("openvino", ".xml"), ("onnx-int8", "-int8.onnx")):
        files.append(export(run, format, tmp_path / f"model{ending}"))
    for file in files:
        model = open_model(file, threads=1)
        assert model.card.shape == shape
        answer = model.predict(np.zeros((3, *shape), model.card.dtype))
        assert answer.shape == (3, 10)
    gate = [str(files[1]), f"--against={run.best}", f"--output={tmp_path / 'gate'}"]
    main(["gate", *gate, "--severities=[3]", "--threads=1", "--max_latency_ratio=.inf"])
    assert json.loads((tmp_path / "gate" / "gate.json").read_text())["images"] == 10


def test_predict_resizes_to_the_models_size_and_says_so(
    odd: Run, patches: Patches, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = class_folders(tmp_path / "images", patches, 50)
    (images / "other.jpg").write_bytes(jpeg(patches["Forest_1"]))  # 64x64
    arguments = [*QUICK[1:], f"--ckpt_path={odd.best}", f"--data.images={images}"]
    assert main(["predict", *arguments, f"--predictions.path={tmp_path / 'found.csv'}"]) == 0
    said = capsys.readouterr().err
    assert "1 of 31 images had another size than the model's patches of 50x50 pixels" in said
    assert "were resized, such as" in said
    assert "other.jpg" in said
    with (tmp_path / "found.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 31


def test_the_service_answers_in_the_models_size(
    odd: Run, patches: Patches, start_service: StartService, tmp_path: Path
) -> None:
    service = start_service(model=export(odd, "onnx", tmp_path / "model.onnx"))
    assert service.get("/info").json()["model"]["patch_size"] == 50
    own = jpeg(resize(patches["Forest_1"], 50))
    assert service.predict(own).status_code == 200
    tiled = service.predict(jpeg(resize(patches["Forest_1"], 100)), params={"tiles": True}).json()
    assert [(tile["x"], tile["y"]) for tile in tiled["tiles"]] == [
        (0, 0),
        (50, 0),
        (0, 50),
        (50, 50),
    ]
    answer = service.post("/explain", files={"file": ("a.jpg", own)}).json()
    assert np.shape(answer["saliency"]) == (8, 8)
    (inputs,) = service.get("/v2/models/eurosat").json()["inputs"]
    assert inputs["shape"] == [-1, 3, 50, 50]


@pytest.mark.parametrize("verb", ["test", "validate", "fit"])
def test_a_checkpoint_refuses_data_of_another_size(
    verb: str, odd: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], store_root: Path
) -> None:
    arguments = [*QUICK, f"--ckpt_path={odd.best}", f"--run_directory={tmp_path / 'run'}"]
    arguments += ["--data.source=synthetic", "--data.synthetic_images=120"]
    arguments += [*SMALL_MODEL] if verb == "fit" else []
    assert main([verb, *arguments, f"--data.root={store_root}"]) == 2
    error = capsys.readouterr().err
    assert "the data have patches of 64x64 pixels, and the model takes 50x50" in error
    assert "Traceback" not in error.rpartition(f"eurosat {verb}: error:")[2]


def test_a_checkpoint_refuses_other_images_for_its_export(
    odd: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], store_root: Path
) -> None:
    arguments = ["--source=synthetic", f"--root={store_root}", f"--output={tmp_path / 'a.onnx'}"]
    assert main(["export", str(odd.best), *arguments]) == 2
    assert "have 64x64 pixels, and" in capsys.readouterr().err
    assert not list(tmp_path.glob("*.onnx"))


def test_a_checkpoint_without_a_size_takes_64(tmp_path: Path, odd: Run) -> None:
    (file,) = (FIXTURE / "run" / "checkpoints").glob("*.ckpt")
    assert "patch_size" not in torch.load(file, weights_only=True)["hyper_parameters"]
    assert EuroSATClassifier.load_from_checkpoint(file).patch_size == 64
    assert open_model(file).card.shape == (3, 64, 64)
    assert EuroSATClassifier.load_from_checkpoint(odd.best).patch_size == 50
    model = EuroSATClassifier(patch_size=50)
    with pytest.raises(PatchSizeError, match="50x50 pixels, and the model takes 64x64"):
        model.on_load_checkpoint(torch.load(file, weights_only=True))


def test_a_backbone_that_takes_one_size_says_so_before_it_trains(
    patches: Patches, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = class_folders(tmp_path / "source", patches, 32)
    arguments = [f"--data.source={source}", f"--data.root={tmp_path / 'data'}", *QUICK]
    arguments += [f"--run_directory={tmp_path / 'run'}", "--model.backbone=vit_tiny_patch16_224"]
    arguments += ['--model.backbone_args={"depth": 1}']
    assert main(["fit", *arguments]) == 2
    error = capsys.readouterr().err.rpartition("eurosat fit: error: ")[2]
    assert "backbone vit_tiny_patch16_224 cannot take the data's patches of 32x32 pixels" in error
    assert "{img_size: 32}" in error


def test_patches_that_are_not_square_are_refused(
    patches: Patches, tmp_path: Path, run: Callable[..., Run]
) -> None:
    folder = tmp_path / "source" / "Forest"
    folder.mkdir(parents=True)
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30)).save(buffer, "PNG")
    (folder / "a.png").write_bytes(buffer.getvalue())
    data = EuroSATDataModule(source=str(folder.parent), root=str(tmp_path / "data"))
    with pytest.raises(Exception, match=r"a.png has 40x30 pixels, and patches must be square"):
        data.prepare_data()
    assert not list((tmp_path / "data").glob("*/store.json"))
