"""Weight files: their names, their fit and their normalisation."""

from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import timm
import torch

from eurosat.cli import main
from eurosat.errors import CheckpointError
from eurosat.models.classifier import EuroSATClassifier
from tests.conftest import SMALL_MODEL, TINY, Run

pytestmark = pytest.mark.slow  # builds large models


@pytest.fixture(scope="module")
def teacher() -> Any:
    return timm.create_model("resnet10t", num_classes=1000)


@pytest.fixture
def saved(tmp_path: Path) -> Any:
    """Save an object as a weight file, and give the file's path."""

    def save(content: Any) -> str:
        torch.save(content, tmp_path / "weights.pth")
        return str(tmp_path / "weights.pth")

    return save


@pytest.mark.parametrize(
    ("prefix", "container"),
    [
        ("", None),
        ("module.", "state_dict"),
        ("model.", None),
        ("backbone.", "model"),
        ("module.model.", None),
        ("visual.trunk.", "weights"),
        ("module.encoder_q.", "state_dict"),
        ("", "model_state"),
    ],
)
def test_weights_are_loaded_under_any_known_prefix(
    prefix: str, container: str | None, teacher: Any, saved: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    tensors = {f"{prefix}{name}": value for name, value in teacher.state_dict().items()}
    path = saved({container: tensors} if container else tensors)
    model = EuroSATClassifier(backbone="resnet10t", pretrained=path)
    given, loaded = teacher.state_dict(), model.backbone.state_dict()
    body = [name for name in given if not name.startswith("fc.") and "num_batches" not in name]
    assert all(torch.equal(loaded[name], given[name]) for name in body)
    assert f"loaded {len(body)} of {len(body)} tensors of the body from {path}" in caplog.text
    assert model.backbone.fc.out_features == 10
    assert model.preprocess.mean.flatten().tolist() == pytest.approx([123.675, 116.28, 103.53])
    assert model.hparams["pretrained"] is False  # a checkpoint must load without the file
    assert "state_dict" not in model.backbone.pretrained_cfg


def test_a_file_of_as_many_classes_gives_its_body_only(saved: Any) -> None:
    teacher = timm.create_model("resnet10t", num_classes=10)
    model = EuroSATClassifier(backbone="resnet10t", pretrained=saved(teacher.state_dict()))
    assert torch.equal(model.backbone.layer1[0].conv1.weight, teacher.layer1[0].conv1.weight)
    assert not torch.equal(model.backbone.fc.weight, teacher.fc.weight)


@pytest.mark.parametrize(
    ("backbone", "arguments", "reason"),
    [
        ("resnet34", {}, "which resnet18 lacks"),
        ("resnet10t", {}, "do not fit resnet18"),
        ("resnet50", {}, "size mismatch for layer1.0.conv1.weight"),
        ("convnext_atto", {}, "0 of 100 tensors of the body were found"),
        ("patchnet", {}, "0 of 100 tensors of the body were found"),
        ("resnet18", {"num_classes": 3, "keep": "fc."}, "0 of 100 tensors of the body"),
    ],
)
def test_weights_of_another_architecture_are_refused(
    backbone: str, arguments: dict[str, Any], reason: str, saved: Any
) -> None:
    keep = arguments.pop("keep", "")
    tensors = timm.create_model(backbone, **arguments).state_dict()
    path = saved({name: value for name, value in tensors.items() if name.startswith(keep)})
    with pytest.raises(CheckpointError, match=r"choose the --model\.backbone") as refusal:
        EuroSATClassifier(backbone="resnet18", pretrained=path)
    assert reason in str(refusal.value)
    assert "\n" not in str(refusal.value)


def zeros(tensors: dict[str, Any]) -> dict[str, Any]:
    return {name: torch.zeros_like(value) for name, value in tensors.items()}


def prefixed(prefix: str, tensors: dict[str, Any]) -> dict[str, Any]:
    return {f"{prefix}.{name}": value for name, value in tensors.items()}


@pytest.mark.parametrize(
    ("content", "taken"),
    [
        (lambda own: {"student": zeros(own), "teacher": own, "epoch": 3}, "teacher."),
        (lambda own: {"state_dict_ema": own, "state_dict": zeros(own)}, "state_dict_ema."),
        (
            lambda own: prefixed("encoder_k", zeros(own)) | prefixed("module.encoder_q", own),
            "module.encoder_q.",
        ),
        (
            lambda own: {
                "state_dict": prefixed("net", own),
                "average": prefixed("net", zeros(own)),
            },
            "state_dict.net.",
        ),
    ],
    ids=["DINO", "timm", "MoCo", "Lightning"],
)
def test_of_several_networks_the_one_to_evaluate_is_taken(
    content: Any, taken: str, teacher: Any, saved: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    path = saved(content(teacher.state_dict()))
    model = EuroSATClassifier(backbone="resnet10t", pretrained=path)
    assert torch.equal(model.backbone.layer1[0].conv1.weight, teacher.layer1[0].conv1.weight)
    assert f"of the networks in {path}, {taken} is taken" in caplog.text


def test_several_networks_without_a_choice_are_refused(teacher: Any, saved: Any) -> None:
    own = teacher.state_dict()
    path = saved(prefixed("model", own) | prefixed("backbone", zeros(own)))
    with pytest.raises(CheckpointError, match=r"several networks \(model\., backbone\.\): save"):
        EuroSATClassifier(backbone="resnet10t", pretrained=path)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda value: value * float("nan"), r"holds numbers that are not finite \(conv1.0.weight"),
        (lambda value: value.to(torch.int8), r"conv1.0.weight is of torch.int8, not of floating"),
        (lambda value: value.repeat(1, 4, 1, 1), r"\(24, 12, 3, 3\).*as many --data.bands"),
    ],
    ids=["diverged", "quantised", "12 channels"],
)
def test_numbers_that_no_training_can_start_from_are_refused(
    change: Any, reason: str, teacher: Any, saved: Any
) -> None:
    own = teacher.state_dict()
    path = saved(own | {"conv1.0.weight": change(own["conv1.0.weight"])})
    with pytest.raises(CheckpointError, match=reason):
        EuroSATClassifier(backbone="resnet10t", pretrained=path)


@pytest.mark.long
def test_a_layer_that_only_helped_the_training_is_a_head(saved: Any) -> None:
    other = timm.create_model("volo_d1_224", num_classes=7)
    model = EuroSATClassifier("volo_d1_224", saved(other.state_dict()))
    assert torch.equal(model.backbone.norm.weight, other.norm.weight)


@pytest.mark.parametrize("name", ["a.bin", "a.safetensors"])
def test_the_content_says_the_format(name: str, teacher: Any, tmp_path: Path) -> None:
    own = teacher.state_dict()
    if name == "a.bin":
        safetensors.torch.save_file(own, tmp_path / name)
    else:
        torch.save(own, tmp_path / name)
    model = EuroSATClassifier(backbone="resnet10t", pretrained=str(tmp_path / name))
    assert torch.equal(model.backbone.conv1[0].weight, own["conv1.0.weight"])


def test_a_whole_module_is_not_loaded(saved: Any) -> None:
    with pytest.raises(CheckpointError, match=r"it holds objects of Python, which are never"):
        EuroSATClassifier(pretrained=saved(torch.nn.Linear(2, 2)))


@pytest.mark.parametrize("content", [{}, {"state_dict": {}}, [1], {"epoch": 3}, b"junk", None])
def test_a_file_without_weights_is_refused(content: Any, saved: Any, tmp_path: Path) -> None:
    path = str(tmp_path / "nowhere.pth") if content is None else saved(content)
    if content == b"junk":
        Path(path).write_bytes(content)
    with pytest.raises(CheckpointError, match=r"cannot be loaded from|no weight file"):
        EuroSATClassifier(pretrained=path)


def test_published_weights_need_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match=r"--model.pretrained <weights file>"):
        EuroSATClassifier(pretrained=True)


def warm(run: Run, **settings: Any) -> EuroSATClassifier:
    arguments = {"stem_width": 8, "widths": [8, 16]}
    return EuroSATClassifier("patchnet", str(run.best), backbone_args=arguments, **settings)


def test_a_run_is_a_start_for_other_classes(trained: Run) -> None:
    first = EuroSATClassifier.load_from_checkpoint(trained.best, map_location="cpu")
    model = warm(trained, classes=("forest", "other"))
    for name, value in first.backbone.state_dict().items():
        if not name.startswith("head."):
            assert torch.equal(model.backbone.state_dict()[name], value)
    assert model.backbone.head.out_features == 2
    assert torch.equal(model.preprocess.mean, first.preprocess.mean)
    assert torch.equal(model.preprocess.std, first.preprocess.std)


def test_a_run_keeps_the_normalisation_of_its_own_start(trained: Run, tmp_path: Path) -> None:
    content = torch.load(trained.best, weights_only=True)
    content["state_dict"]["preprocess.mean"] += 7
    torch.save(content, tmp_path / "other.ckpt")
    arguments = {"stem_width": 8, "widths": [8, 16]}
    model = EuroSATClassifier("patchnet", str(tmp_path / "other.ckpt"), backbone_args=arguments)
    assert torch.equal(model.preprocess.mean, content["state_dict"]["preprocess.mean"])


def test_of_a_run_with_an_average_the_average_is_taken(trained: Run, tmp_path: Path) -> None:
    content = torch.load(trained.best, weights_only=True)
    content["current_model_state"] = zeros(content["state_dict"])
    torch.save(content, tmp_path / "average.ckpt")
    arguments = {"stem_width": 8, "widths": [8, 16]}
    model = EuroSATClassifier("patchnet", str(tmp_path / "average.ckpt"), backbone_args=arguments)
    name = "stem.0.weight"
    assert torch.equal(model.backbone.state_dict()[name], content["state_dict"][f"backbone.{name}"])
    assert torch.equal(model.preprocess.std, content["state_dict"]["preprocess.std"])


def test_the_weights_of_a_run_need_its_bands(trained: Run, tmp_path: Path) -> None:
    content = torch.load(trained.best, weights_only=True)
    torch.save(content["state_dict"], tmp_path / "weights.pth")
    with pytest.raises(CheckpointError, match=r"hyper_parameters.*pass .* a .ckpt file of a run"):
        EuroSATClassifier("patchnet", str(tmp_path / "weights.pth"))


def test_a_run_of_other_bands_is_refused(trained: Run) -> None:
    with pytest.raises(CheckpointError, match=r"for the bands rgb, and this model takes B04"):
        warm(trained, bands=["B04", "B03", "B02"])


def test_the_command_line_ends_with_a_sentence(
    trained: Run, store_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["fit", *TINY, *SMALL_MODEL, f"--data.root={store_root}"]
    arguments += [f"--output_root={tmp_path}", '--model.backbone_args={"widths": [8, 8]}']
    assert main([*arguments, f"--model.pretrained={trained.best}"]) == 2
    assert "do not fit patchnet" in capsys.readouterr().err
