"""Settings are checked at the door: a mistake ends with a sentence and exit code 2."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from eurosat.cli import main
from eurosat.models import EuroSATClassifier
from eurosat.run_card import read_run_card
from tests.conftest import SMALL_MODEL, TINY, write_zip
from tests.training.random_settings import draw_options, option_types

PLATEAU = "--model.lr_scheduler=torch.optim.lr_scheduler.ReduceLROnPlateau"
STOPPING = ("--trainer.callbacks=EarlyStopping", "--trainer.callbacks.monitor=val/loss")
PRUNING = (
    "--trainer.callbacks=lightning.pytorch.callbacks.ModelPruning",
    *("--trainer.callbacks.pruning_fn=l1_unstructured", "--trainer.callbacks.amount=0.5"),
)
RESNET = "--model.backbone=resnet10t"
NO_VALIDATION = "--trainer.limit_val_batches=0"
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
        *("--trainer.accumulate_grad_batches=0", "--trainer.gradient_clip_val=-1"),
        *("--trainer.check_val_every_n_epoch=0", "--trainer.num_nodes=0"),
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
        (("--trainer.limit_train_batches=0",), "leaves nothing to fit"),
        (("--data.classes=[Forest]",), "all training images are of the class Forest"),
        (("--data.synthetic_images=100000000000",), "would fill the disk: pass at most"),
        (("--model.mixup_alpha=Infinity",), "which has no infinite parameters"),
        (("--trainer.strategy=fsdp",), "fsdp"),
        (("--trainer.strategy=deepspeed",), "deepspeed"),
        (("--trainer.val_check_interval=50",), "less than or equal to the number of the training"),
        (("--checkpoint.filename={}",), "Empty attribute in format string"),
        (("--model.optimizer=torch.optim.SparseAdam",), "does not support dense gradients"),
        (('--model.backbone_args={"num_classes": 5}',), "must not set num_classes, because the"),
        (('--model.backbone_args={"in_chans": 4}',), "must not set in_chans, because the"),
        ((RESNET, '--model.backbone_args={"features_only": true}'), "must not set features_only"),
        (PRUNING, "RuntimeError: view size is not compatible"),
        (("--trainer.val_check_interval=0",), "is no interval: pass a number of batches"),
        (("--checkpoint.save_top_k=0",), "keeps no checkpoint to test"),
        (("--checkpoint.filename=last",), "would replace the best checkpoint"),
        (("--checkpoint.monitor=test/loss",), "monitors test/loss, which the training does not"),
        (("--checkpoint.every_n_epochs=5",), "no checkpoint was due in this training"),
        (("--trainer.max_epochs=0",), "nothing was trained, so there is no checkpoint"),
        ((PLATEAU, NO_VALIDATION), "ReduceLROnPlateau monitors val/loss, and --trainer.limit_val"),
        ((*STOPPING, NO_VALIDATION), "EarlyStopping monitors val/loss, and --trainer.limit_val"),
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


@pytest.mark.parametrize("verb", ["fit", "prepare"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("data:\n  verify: false # für\n".encode("latin-1"), "is not encoded in UTF-8 (invalid"),
        (b"verify: false\nroot: a\nverify: true\n", "the setting verify stands twice"),
        (b"data: {verify: false,\n  verify: true}\n", "the setting verify stands twice"),
    ],
    ids=["Latin-1", "twice", "twice within"],
)
def test_a_configuration_says_everything_once_and_in_utf8(
    verb: str, content: bytes, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.yaml").write_bytes(content)
    assert code_of(verb, f"--config={tmp_path / 'a.yaml'}") == 2
    assert message in capsys.readouterr().err


@pytest.mark.training
def test_batches_may_be_larger_than_the_data_and_the_test_may_have_none(
    store_root: Path, tmp_path: Path
) -> None:
    arguments = [*TINY, *SMALL_MODEL, f"--data.root={store_root}", f"--run_directory={tmp_path}"]
    arguments += [f"--data.batch_size={10**20}", "--trainer.limit_test_batches=0", "--resume=auto"]
    assert code_of("fit", *arguments) == 0
    assert not (tmp_path / "metrics.json").exists()
    written = (tmp_path / "run.json").read_text()
    assert code_of("fit", *arguments) == 0  # the run is finished
    assert (tmp_path / "run.json").read_text() == written


@pytest.mark.training
def test_a_run_may_have_no_seed(store_root: Path, tmp_path: Path) -> None:
    arguments = [*TINY, *SMALL_MODEL, f"--data.root={store_root}", f"--run_directory={tmp_path}"]
    assert code_of("fit", *arguments, "--seed_everything=false") == 0
    card = read_run_card(tmp_path)
    assert card is not None
    assert card.seed is None


def linear() -> torch.nn.Module:
    return torch.nn.Linear(2, 2)


@pytest.mark.parametrize("verb", ["fit", "test", "predict"])
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "it is a folder"),
        (b"a text", "it is damaged, or of another format than torch's"),
        ("a zip", "it is damaged, or of another format than torch's"),
        (linear, "it holds objects of Python, which are never loaded"),
        (lambda: torch.zeros(2), "ValueError: the file holds no mapping"),
        (lambda: {"state_dict": {"w": torch.zeros(2)}}, "it has no hyper_parameters"),
        (
            lambda: {"state_dict": {}, "hyper_parameters": {"hidden_size": 3}},
            "ValidationError: Object contains unknown field `hidden_size`",
        ),
    ],
    ids=["folder", "text", "zip", "module", "tensor", "weights", "another project's"],
)
def test_what_is_no_checkpoint_is_named(
    verb: str,
    content: Any,
    reason: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "a.ckpt"
    if content is None:
        path.mkdir()
    elif content == "a zip":
        write_zip(path, {"a.txt": b"a"})
    elif isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content(), path)
    assert code_of(verb, f"--ckpt_path={path}", f"--output_root={tmp_path}") == 2
    last_line = capsys.readouterr().err.splitlines()[-1]
    assert last_line == (
        f"eurosat {verb}: error: {path} is not a checkpoint of this project ({reason}): give a "
        ".ckpt file of a run"
    )


@pytest.mark.training
def test_a_checkpoint_holds_plain_numbers(store_root: Path, tmp_path: Path) -> None:
    """A checkpoint is loaded as weights only, which refuses the parser's types of numbers."""
    arguments = [*TINY, *SMALL_MODEL, f"--data.root={store_root}", f"--output_root={tmp_path}"]
    numbers = ("--model.patch_size=64", "--data.split_seed=5", "--model.ema_decay=0.5")
    numbers += ("--model.label_smoothing=0.1", "--model.mixup_alpha=0.2", "--data.num_workers=0")
    assert code_of("fit", *arguments, *numbers) == 0
    for path in tmp_path.glob("*/*/checkpoints/*.ckpt"):
        assert torch.load(path, weights_only=True)["EuroSATDataModule"]["settings"]


NOT_RUN = {
    *("data.source", "data.root", "model.pretrained"),  # which read other data than the test's
    *("data.num_workers", "model.compile"),  # which take long
    *("trainer.devices", "trainer.num_nodes"),  # which start processes, or wait for machines
}
SHORT = (
    *(f"--trainer.limit_{stage}_batches=1" for stage in ("train", "val", "test")),
    *("--trainer.num_sanity_val_steps=1", "--model.optimizer=torch.optim.SGD"),
)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, 300, 30))
def test_random_settings_are_parsed_or_refused(
    first: int, capsys: pytest.CaptureFixture[str]
) -> None:
    types = option_types()
    drawn = {seed: draw_options(types, seed, wrong=0.1) for seed in range(first, first + 30)}
    codes = {seed: code_of("fit", *options, "--print_config") for seed, options in drawn.items()}
    assert {seed: code for seed, code in codes.items() if code not in (0, 2)} == {}
    assert set(codes.values()) == {0, 2}
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.training
@pytest.mark.parametrize(
    "seed", [*range(8), *(pytest.param(n, marks=pytest.mark.long) for n in range(8, 300))]
)
def test_random_settings_run_or_are_refused(
    seed: int,
    store_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    class EnoughError(Exception):
        """The settings train longer than a test may take."""

    def step(module: EuroSATClassifier, batch: Any, batch_idx: int) -> Any:
        steps.append(batch_idx)
        if len(steps) > 4:
            raise EnoughError
        return training_step(module, batch, batch_idx)

    steps: list[int] = []
    training_step = EuroSATClassifier.training_step
    monkeypatch.setattr(EuroSATClassifier, "training_step", step)
    monkeypatch.chdir(tmp_path)  # some words are taken for paths
    types = {name: kind for name, kind in option_types().items() if name not in NOT_RUN}
    options = draw_options(types, seed, wrong=0.0)
    with suppress(EnoughError):
        code = code_of("fit", *TINY, *SMALL_MODEL, f"--data.root={store_root}", *SHORT, *options)
        assert code in (0, 2), (options, capsys.readouterr().err)
