"""A checkpoint is data: it imports nothing, fetches nothing, and builds no more than it holds."""

import inspect
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from timm.models import build_model_with_cfg

from eurosat.cli import main
from eurosat.errors import CheckpointError, EuroSATError, ModelFileError
from eurosat.inference import open_model
from eurosat.models.backbones import build_backbone
from eurosat.models.classifier import EuroSATClassifier
from eurosat.training.resume import find_resumption
from eurosat.training.trainer import AtomicCheckpointIO
from tests.inference.conftest import LAYOUT_1
from tests.inference.test_files import Bomb

ADDRESS = "http://127.0.0.1:9/weights.bin"

Craft = Callable[..., Path]


@pytest.fixture
def craft(tmp_path: Path) -> Craft:
    """Change a checkpoint's hyperparameters and its weights."""

    def change(hyperparameters: dict[str, Any], weights: dict[str, Any] | None = None) -> Path:
        content = torch.load(LAYOUT_1 / "best-epoch00.ckpt", weights_only=True)
        content["hyper_parameters"] |= hyperparameters
        content["state_dict"] |= weights or {}
        path = tmp_path / "hostile.ckpt"
        torch.save(content, path)
        return path

    return change


HYPERPARAMETERS: dict[str, dict[str, Any]] = {
    "instantiator": {"_instantiator": "trap.Trap"},
    "class": {"_class_path": "trap.Trap"},
    "instantiated class": {
        "_instantiator": "lightning.pytorch.cli.instantiate_module",
        "_class_path": "trap.Trap",
    },
    "optimizer": {"optimizer": {"class_path": "trap.Trap"}},
    "schedule": {"lr_scheduler": {"class_path": "trap.Trap"}},
    "unknown": {"anything": 1},
    "compile": {"compile": True},
    "pretrained": {"pretrained": True},
    "pretrained file": {"pretrained": "/etc/passwd"},
    "hub": {"backbone": "hf-hub:owner/name", "backbone_args": None},
    "old hub": {"backbone": "hf_hub:owner/name", "backbone_args": None},
    "hub after a name": {"backbone": "resnet18.hf-hub:owner/name", "backbone_args": None},
    "folder": {"backbone": "local-dir:/etc", "backbone_args": None},
    "folder after a name": {"backbone": "resnet18.a/../../etc", "backbone_args": None},
    "number for a name": {"backbone": 18},
    "url": {"backbone_args": {"pretrained_cfg": {"url": ADDRESS}}},
    "tag": {"backbone_args": {"pretrained_cfg": "a1_in1k"}},
    "overlay": {"backbone_args": {"pretrained_cfg_overlay": {"hf_hub_id": "owner/name"}}},
    "source": {"backbone_args": {"pretrained_model_args": {"source": ADDRESS}}},
    "pretrained argument": {"backbone_args": {"pretrained": True}},
    "checkpoint path": {"backbone_args": {"checkpoint_path": "/etc/passwd"}},
    "cache": {"backbone_args": {"cache_dir": "/etc"}},
    "nested": {"backbone_args": {"widths": [[8, 16]]}},
    "mapping": {"backbone_args": {"widths": {"class_path": "trap.Trap"}}},
    "wide": {"backbone_args": {"stem_width": 10**9}},
    "rather wide": {"backbone_args": {"stem_width": 8, "widths": [8, 60_000]}},
    "deep": {"backbone_args": {"widths": [1] * 100_000}},
    "rather deep": {"backbone_args": {"widths": [1] * 1000}},
    "deep transformer": {"backbone": "vit_tiny_patch16_224", "backbone_args": {"depth": 60_000}},
    "large transformer": {
        "backbone": "vit_tiny_patch16_224",
        "backbone_args": {"img_size": 60_000},
    },
    "large backbone": {"backbone": "vit_giant_patch14_224", "backbone_args": None},
    "patch": {"patch_size": 10**9},
    "rather large patch": {"patch_size": 50_000},
    "no patch": {"patch_size": -64},
    "many classes": {"classes": [str(number) for number in range(20_000)]},
    "no classes": {"classes": []},
    "steering class": {"classes": [*"abcdefghi", "\x1b[2J"]},
    "turning class": {"classes": [*"abcdefghi", "\u202egnp.exe"]},
    "lines": {"classes": [*"abcdefghi", "a\nb"]},
    "bands": {"bands": ["B99"]},
    "bands of another kind": {"bands": {"class_path": "trap.Trap"}},
}


@pytest.mark.usefixtures("bounded")
@pytest.mark.parametrize("name", HYPERPARAMETERS)
def test_a_checkpoint_chooses_a_backbone_and_plain_numbers_only(
    name: str, craft: Craft, reached: list[Any], imported: Path
) -> None:
    path = craft(HYPERPARAMETERS[name])
    with pytest.raises(ModelFileError, match=r"hostile\.ckpt"):
        open_model(path, threads=1)
    assert not reached
    assert not imported.exists()


@pytest.mark.parametrize("verb", ["predict", "test", "validate", "fit"])
@pytest.mark.parametrize("name", ["class", "optimizer", "pretrained", "url", "deep"])
def test_the_trainer_verbs_refuse_what_the_service_refuses(
    verb: str,
    name: str,
    craft: Craft,
    reached: list[Any],
    imported: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = [f"--ckpt_path={craft(HYPERPARAMETERS[name])}", "--data.source=synthetic"]
    assert main([verb, *arguments]) == 2
    assert "is not a checkpoint of this project" in capsys.readouterr().err
    assert not reached
    assert not imported.exists()


def test_the_module_opens_its_checkpoints_in_the_same_way(craft: Craft, imported: Path) -> None:
    with pytest.raises(CheckpointError, match="unknown field `_class_path`"):
        EuroSATClassifier.load_from_checkpoint(craft({"_class_path": "trap.Trap"}))
    assert not imported.exists()


@pytest.mark.parametrize("quoted", ["backbone", "class"])
def test_an_error_that_quotes_a_file_steers_no_terminal(
    quoted: str, craft: Craft, capsys: pytest.CaptureFixture[str]
) -> None:
    hostile = "\x1b[2J\u202eresnet18\r"
    name = {"backbone": {"backbone": hostile}, "class": {"classes": [hostile]}}[quoted]
    assert main(["serve", str(craft(name))]) == 2
    shown = capsys.readouterr().err
    assert r"\x1b[2J\u202eresnet18\r" in shown
    assert shown.rstrip("\n").isprintable()


WEIGHTS: dict[str, Callable[[torch.Tensor], Any]] = {
    "endless": lambda weight: torch.zeros(1).expand(2**40),
    "endless view": lambda weight: weight[:1, :1, :1, :1].expand(2**20, 3, 64, 64),
    "of another shape": lambda weight: weight[:4].clone(),
    "not a tensor": lambda weight: "weight",
    "without numbers": lambda weight: weight.to("meta"),
    "sparse": lambda weight: torch.sparse_coo_tensor([[0]], [1.0], (2**40,)),
    "not finite": lambda weight: weight * torch.inf,
}


@pytest.mark.usefixtures("bounded")
@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_are_as_large_as_their_file_and_finite(name: str, craft: Craft) -> None:
    key = "backbone.stem.0.weight"
    weight = torch.load(LAYOUT_1 / "best-epoch00.ckpt", weights_only=True)["state_dict"][key]
    with pytest.raises(ModelFileError, match=r"hostile\.ckpt"):
        open_model(craft({}, {key: WEIGHTS[name](weight)}), threads=1)


@pytest.mark.usefixtures("bounded")
def test_a_compressed_checkpoint_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "checkpoints" / "last.ckpt"
    path.parent.mkdir()
    with (
        zipfile.ZipFile(LAYOUT_1 / "best-epoch00.ckpt") as original,
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        for entry in original.infolist():
            archive.writestr(entry.filename, original.read(entry))
        archive.writestr("best-epoch00/data/bomb", b"\0" * 2**26)
    with pytest.raises(ModelFileError, match="compressed"):
        open_model(path)
    with pytest.raises(CheckpointError, match="compressed"):
        find_resumption(tmp_path)


def test_the_trainer_loads_files_only_and_weights_only(
    tmp_path: Path, reached: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkpoint names the best checkpoint, which a fit without a new epoch loads and tests."""
    with pytest.raises(CheckpointError, match="is no file: download the checkpoint first"):
        AtomicCheckpointIO().load_checkpoint(ADDRESS)
    assert not reached
    marker = tmp_path / "boom"
    torch.save({"state_dict": Bomb(marker)}, tmp_path / "bomb.ckpt")
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    with pytest.raises(Exception, match="Weights only"):
        AtomicCheckpointIO().load_checkpoint(tmp_path / "bomb.ckpt")
    assert not marker.exists()


def test_an_argument_that_loads_weights_is_refused_with_the_option_for_it() -> None:
    with pytest.raises(EuroSATError, match=r"checkpoint_path would: .* pass --model\.pretrained"):
        build_backbone("patchnet", False, 3, 10, {"checkpoint_path": "weights.bin"})


def test_the_attack_by_an_address_is_live(reached: list[Any]) -> None:
    with pytest.raises(OSError, match="no connection"):
        timm.create_model("resnet18", pretrained=True, pretrained_cfg={"url": ADDRESS})
    assert reached


def test_every_argument_by_which_timm_loads_weights_is_known() -> None:
    """A newer timm with a further argument fails this test, and not the safety of a service."""
    known = {"model_name", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "kwargs"}
    known |= {"checkpoint_path", "cache_dir", "scriptable", "exportable", "no_jit"}
    assert set(inspect.signature(timm.create_model).parameters) <= known
    known |= {"model_cls", "variant", "model_cfg", "feature_cfg", "kwargs_filter"}
    known |= {"pretrained_strict", "pretrained_filter_fn", "pretrained_model_args"}
    assert set(inspect.signature(build_model_with_cfg).parameters) <= known
