"""Settings are checked at the door: a mistake ends with a sentence and exit code 2."""

import random
from pathlib import Path

import pytest
import torch

from eurosat.cli import main
from tests.conftest import SMALL_MODEL, TINY

ENDLESS = ("--trainer.max_epochs=-1", "--model.lr_scheduler=eurosat.models.WarmupCosine")


def code_of(*arguments: str) -> int:
    """The exit code of a command; argparse leaves by SystemExit."""
    try:
        return main(list(arguments))
    except SystemExit as ended:
        return int(ended.code or 0)


@pytest.mark.parametrize(
    "option",
    [
        *("--data.batch_size=0", "--data.batch_size=-3", "--data.batch_size=1.5"),
        *("--data.num_workers=-1", "--data.split_seed=-1", "--data.synthetic_images=0"),
        *("--model.label_smoothing=2", "--model.mixup_alpha=-1", "--model.cutmix_alpha=-0.1"),
        *("--model.mix_probability=1.1", "--model.ema_decay=2", "--model.patch_size=0"),
        *("--model.unfreeze_at_epoch=-1", "--trainer.max_epoch=3", "--data.batch=3", "--see=1"),
    ],
)
def test_the_parser_refuses_values_and_abbreviations(
    option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert code_of("fit", option, "--print_config") == 2
    error = capsys.readouterr().err
    assert option.removeprefix("--").partition("=")[0].rpartition(".")[2] in error
    assert "Traceback" not in error


def test_a_tool_takes_no_abbreviation_either(capsys: pytest.CaptureFixture[str]) -> None:
    assert code_of("prepare", "--sourc=synthetic") == 2
    assert "sourc" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--data.bands=[B99]",), "unknown band B99"),
        (("--data.bands=[B02, B02]",), "a band is named twice"),
        (("--trainer.barebones=true",), "turns off loggers and checkpoints"),
        (("--trainer.strategy=ddp_spawn",), "use --trainer.strategy ddp"),
        (("--trainer.strategy=nowhere",), "nowhere"),
        (("--trainer.limit_train_batches=-1",), "limit_train_batches"),
        (ENDLESS, "WarmupCosine needs one: set --trainer.max_epochs"),
        (
            ("--model.optimizer=torch.optim.SGD", "--model.optimizer.init_args.lr=-1"),
            "Invalid learning rate: -1",
        ),
    ],
)
@pytest.mark.training
def test_what_the_classes_refuse_is_a_sentence(
    options: tuple[str, ...],
    message: str,
    store_root: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = [*TINY, *SMALL_MODEL, f"--data.root={store_root}", f"--output_root={tmp_path}"]
    assert code_of("fit", *arguments, *options) == 2
    assert message in capsys.readouterr().err


@pytest.mark.training
def test_a_checkpoint_holds_plain_numbers(store_root: Path, tmp_path: Path) -> None:
    """A checkpoint is loaded as weights only, which refuses the parser's types of numbers."""
    arguments = [*TINY, *SMALL_MODEL, f"--data.root={store_root}", f"--output_root={tmp_path}"]
    numbers = ("--model.patch_size=64", "--data.split_seed=5", "--model.ema_decay=0.5")
    numbers += ("--model.label_smoothing=0.1", "--model.mixup_alpha=0.2", "--data.num_workers=0")
    assert code_of("fit", *arguments, *numbers) == 0
    for path in tmp_path.glob("*/*/checkpoints/*.ckpt"):
        assert torch.load(path, weights_only=True)["EuroSATDataModule"]["settings"]


VALUES = {
    "data.batch_size": ("0", "-1", "1", "7", "500", "null", "x"),
    "data.num_workers": ("-1", "0", "1.5"),
    "data.bands": ("rgb", "all", "[B04]", "[]", "[B99]", "[B04, B04]", "null", "3"),
    "data.split": ("stratified", "source", "files", "longitude", "other"),
    "data.split_fractions": ("[0.8, 0.1, 0.1]", "[1, 0, 0]", "[0.5, 0.5]", "[2, -1, 0]", "[a]"),
    "data.split_seed": ("-1", "0", "99999999999", "x"),
    "data.synthetic_images": ("-5", "0", "1", "30", "120"),
    "model.backbone": ("patchnet", "resnet10t", "nowhere", "null"),
    "model.label_smoothing": ("-0.1", "0", "1", "1.1"),
    "model.mixup_alpha": ("-1", "0", "0.3", "nan"),
    "model.cutmix_alpha": ("0", "1", "x"),
    "model.ema_decay": ("0", "0.9", "1", "1.5", "null"),
    "model.freeze_backbone": ("true", "false", "3"),
    "model.unfreeze_at_epoch": ("-1", "0", "2", "null"),
    "model.patch_size": ("0", "32", "64", "null"),
    "model.optimizer": ("torch.optim.SGD", "eurosat.models.Muon", "torch.nn.Linear", "null"),
    "model.lr_scheduler": (
        *("eurosat.models.WarmupCosine", "lightning.pytorch.cli.ReduceLROnPlateau"),
        *("torch.optim.lr_scheduler.ExponentialLR", "null"),
    ),
    "trainer.precision": ("auto", "32-true", "bf16-mixed", "8-bit"),
    "trainer.max_epochs": ("-1", "0", "1", "x"),
    "trainer.accumulate_grad_batches": ("0", "1", "3", "-1"),
    "trainer.gradient_clip_val": ("-1", "0", "0.5"),
    "trainer.val_check_interval": ("0", "0.5", "1", "2", "-1"),
    "trainer.limit_train_batches": ("0", "0.5", "2", "-1"),
    "trainer.overfit_batches": ("0", "1", "0.5", "-1"),
    "trainer.num_sanity_val_steps": ("-1", "0", "-2"),
    "checkpoint.monitor": ("val/loss", "val/ece", "val/none", "null"),
    "checkpoint.mode": ("auto", "min", "max", "best"),
    "checkpoint.save_top_k": ("-2", "-1", "0", "1"),
    "seed_everything": ("-1", "0", "true", "x"),
    "log_level": ("info", "loud"),
}
"""Values of settings, right and wrong, by setting."""


def draw(seed: int) -> list[str]:
    """Draw values of one to four settings."""
    generator = random.Random(seed)
    names = generator.sample(sorted(VALUES), generator.randint(1, 4))
    return [f"--{name}={generator.choice(VALUES[name])}" for name in names]


@pytest.mark.slow
def test_random_settings_are_parsed_or_refused(capsys: pytest.CaptureFixture[str]) -> None:
    codes = {seed: code_of("fit", *draw(seed), "--print_config") for seed in range(40)}
    assert {seed: code for seed, code in codes.items() if code not in (0, 2)} == {}
    assert set(codes.values()) == {0, 2}
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.training
@pytest.mark.parametrize("seed", range(16))
def test_random_settings_run_or_are_refused(
    seed: int, store_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [*TINY, *SMALL_MODEL, f"--data.root={store_root}", f"--output_root={tmp_path}"]
    code = code_of("fit", *arguments, "--trainer.fast_dev_run=true", *draw(1000 + seed))
    assert code in (0, 2), capsys.readouterr().err
