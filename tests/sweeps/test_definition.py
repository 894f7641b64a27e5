"""Sweeps' files, checked by ``eurosat sweep --check true`` before anything is registered."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from eurosat.cli import main
from tests.conftest import CONFIGS, REPOSITORY

SWEEPS = sorted(path.name for path in (CONFIGS / "sweeps").glob("*.yaml"))

pytest.importorskip("wandb")

pytestmark = pytest.mark.slow  # parses whole configurations of trainings


@pytest.fixture
def sweep_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Writes the random sweep with one parameter, changed by a function."""
    monkeypatch.chdir(REPOSITORY)  # the commands of sweeps name configurations from there

    def write(change: Callable[[dict[str, Any]], object]) -> str:
        definition = yaml.safe_load((CONFIGS / "sweeps" / "random.yaml").read_text())
        # Every value is parsed like a run's command line.
        definition["parameters"] = {"model.label_smoothing": {"values": [0.0, 0.1]}}
        change(definition)
        path = tmp_path / "sweep.yaml"
        path.write_text(yaml.safe_dump(definition))
        return str(path)

    return write


def parameter(name: str, **settings: Any) -> Callable[[dict[str, Any]], object]:
    return lambda sweep: sweep["parameters"].update({name: settings})


@pytest.mark.slow
@pytest.mark.parametrize("name", SWEEPS)
def test_every_sweep_is_accepted(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(REPOSITORY)
    assert main(["sweep", str(CONFIGS / "sweeps" / name), "--check=true"]) == 0
    shown = capsys.readouterr()
    assert "parameters, all accepted" in shown.out
    assert shown.err == ""


@pytest.mark.parametrize(
    ("change", "messages"),
    [
        (
            lambda sweep: sweep["metric"].update(name="val/acc"),
            ["no run logs the metric val/acc", "val/accuracy"],
        ),
        (
            # These sweeps leave the test part alone.
            lambda sweep: sweep["metric"].update(name="test/accuracy"),
            ["no run logs the metric test/accuracy"],
        ),
        (
            lambda sweep: (sweep.pop("metric"), sweep.update(method="bayes")),
            ["need a metric"],
        ),
        (
            parameter("model.label_smooting", value=0.1),
            ["no setting model.label_smooting", "model.label_smoothing"],
        ),
        (
            parameter("model.optimizer.init_args.learning_rate", value=0.1),
            ["no setting model.optimizer.init_args.learning_rate"],
        ),
        (
            parameter("nothing.of.the.kind", value=0.1),
            ["refuses --nothing.of.the.kind=0.1", "unrecognized arguments"],
        ),
        (
            parameter("trainer.max_epochs", values=[5, "many"]),
            ["refuses --trainer.max_epochs=many", "Expected a <class 'int'>"],
        ),
        (
            parameter("trainer.max_epochs", distribution="uniform", min=5, max=9),
            ["refuses --trainer.max_epochs=5.0"],
        ),
        (
            # YAML's null becomes the word None on the command line.
            parameter("model.label_smoothing", values=[0.1, None]),
            ["refuses --model.label_smoothing=None"],
        ),
        (
            parameter("model.label_smoothing", min="1e-3", max=0.1),
            ["model.label_smoothing needs a value", "YAML reads 1e-3 as a word"],
        ),
        (
            parameter("model", parameters={"label_smoothing": {"value": 0.1}}),
            ["model is nested"],
        ),
        (
            lambda sweep: (
                sweep["command"].append("${args_no_hyphens}") or sweep["command"].remove("${args}")
            ),
            ["the command has no ${args}"],
        ),
        (
            lambda sweep: sweep.update(command=["python", "train.py", "${args}"]),
            ["does not call 'eurosat fit'"],
        ),
        (
            lambda sweep: sweep["command"].insert(3, "--config=configs/nowhere.yaml"),
            ["refuses the command of", "configs/nowhere.yaml"],
        ),
        (lambda sweep: sweep.pop("parameters"), ["lacks parameters"]),
        (
            lambda sweep: sweep["command"].remove("--config=configs/logger/wandb.yaml"),
            ["do not report to W&B"],
        ),
        (parameter("trainer.logger", value=False), ["do not report to W&B"]),
        (parameter("trainer.limit_val_batches", values=[1.0, 0]), ["do not validate"]),
        (parameter("run_directory", value="outputs/sweep"), ["share one folder"]),
        (
            parameter("checkpoint.monitor", values=["val/accuracy", "val/acc"]),
            ["monitor val/acc, which no run logs"],
        ),
        (parameter("model.label_smoothing", min=0.2, max=0.1), ["min below max"]),
        (lambda sweep: sweep.update(method="baysian"), ["method cannot be baysian", "bayes"]),
        (lambda sweep: sweep["metric"].update(goal="maximise"), ["cannot be maximise"]),
        (
            lambda sweep: sweep.update(early_terminate={"type": "hyperbnd"}),
            ["cannot be hyperbnd: choose hyperband"],
        ),
        (
            lambda sweep: sweep["parameters"].update(
                {
                    "model.optimizer": {"values": ["torch.optim.SGD", "torch.optim.Adam"]},
                    "model.optimizer.init_args.momentum": {"values": [0.9, 0.95]},
                }
            ),
            ["refuses --model.optimizer=torch.optim.Adam", "momentum"],
        ),
    ],
)
def test_what_would_make_runs_fail_or_search_blindly_is_named(
    change: Callable[[dict[str, Any]], object],
    messages: list[str],
    sweep_file: Callable[..., str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = sweep_file(change)
    assert main(["sweep", path, "--check=true"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"eurosat sweep: error: {path}")
    for message in messages:
        assert message in error


def test_a_parameter_may_need_another(sweep_file: Callable[..., str]) -> None:
    def tune_momentum(sweep: dict[str, Any]) -> None:
        sweep["parameters"] = {
            "model.optimizer": {"value": "torch.optim.SGD"},
            "model.optimizer.init_args.lr": {"values": [0.1, 0.2]},
            "model.optimizer.init_args.momentum": {"values": [0.9, 0.95]},
        }

    assert main(["sweep", sweep_file(tune_momentum), "--check=true"]) == 0


@pytest.mark.parametrize(
    "metric", [{"name": "val/loss", "goal": "minimize"}, {"name": "val/accuracy"}]
)
def test_another_metric_than_checkpoints_watch_is_warned_of(
    metric: dict[str, str],
    sweep_file: Callable[..., str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = sweep_file(lambda sweep: sweep.update(metric=metric))
    assert main(["sweep", path, "--check=true"]) == 0
    warned = capsys.readouterr().err
    assert "but checkpoints keep the max of val/accuracy" in warned
    # W&B minimises where no goal is given.
    assert ("looks for the worst val/accuracy" in warned) == (metric["name"] == "val/accuracy")


@pytest.mark.parametrize("content", [None, "a: [", "just words", "\xff"])
def test_what_is_not_a_sweep_is_refused(
    content: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "sweep.yaml"
    if content is not None:
        path.write_text(content, encoding="latin-1")
    assert main(["sweep", str(path), "--check=true"]) == 2
    assert str(path) in capsys.readouterr().err
