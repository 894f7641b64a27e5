"""`eurosat gate` from files to report and exit code."""

import io
import json
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from eurosat.cli import main
from eurosat.gate import compare, evaluate
from eurosat.gate import corruptions as registry
from eurosat.gate.corruption import Corruption
from eurosat.gate.corruptions import corruptions, register_corruption
from eurosat.gate.figures import accuracy_by_severity, corrupted_examples
from eurosat.gate.measurement import Measurement
from eurosat.gate.report import SYNTHETIC_NOTE
from eurosat.inference.backend import Model, Patches, Probabilities
from eurosat.inference.card import ModelCard
from eurosat.inference.runtime import open_model
from eurosat.labels import CLASSES
from tests.conftest import REPOSITORY, Run
from tests.gate.conftest import QUICK, changed

ANY_ANSWERS = [
    f"--{name}_margin=.inf"
    for name in ("accuracy", "class", "calibration", "robustness", "corruption")
]
PATIENT = "--max_latency_ratio=.inf"  # a few calls beside other tests measure no speed


def gate(candidate: Path, baseline: Path, output: Path, *options: str) -> tuple[int, Any]:
    """Exit code and gate.json."""
    arguments = [str(candidate), f"--against={baseline}", f"--output={output}"]
    code = main(["gate", *arguments, *QUICK, PATIENT, *options])
    return code, json.loads((output / "gate.json").read_text())


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The error of a comparison that cannot be made, which leaves nothing."""
    assert main(["gate", *map(str, arguments), *QUICK, "--output=refused"]) == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    assert not Path("refused").exists()
    return error.rpartition("eurosat gate: error: ")[2]


def edit(path: Path, change: Callable[[Any], None]) -> None:
    """Change a JSON file."""
    content = json.loads(path.read_text("utf-8"))
    change(content)
    path.write_text(json.dumps(content), "utf-8")


def test_a_model_passes_against_itself(
    good: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, found = gate(good.best, good.best, tmp_path / "out", "--severities=[1, 5]")
    assert code == 0
    shown = capsys.readouterr().out
    assert "Gate passed" in shown
    assert str(tmp_path / "out" / "gate.html") in shown
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "gate.html",
        "gate.md",
        "gate.json",
    }
    assert found["passed"] is True
    assert [check["name"].partition(", ")[0] for check in found["checks"][:2]] == [
        "accuracy",
        "recall",
    ]
    for check in found["checks"]:
        assert check["passed"]
        if check["unit"] == "share":
            assert check["change"] == 0
            assert check["interval"][0] < 0 < check["interval"][1]
        if check["name"] in ("accuracy", "accuracy, corrupted"):
            assert check["rule"] == "the same file"
    metrics = good.json("metrics.json")
    candidate = found["candidate"]
    assert candidate["accuracy"] == pytest.approx(metrics["accuracy"])
    assert candidate["calibration_error"] == pytest.approx(metrics["ece"], abs=1e-4)
    assert candidate["log_loss"] == pytest.approx(metrics["loss"], abs=1e-4)
    assert candidate["recall"] == pytest.approx(metrics["per_class"])
    assert candidate["bytes"] == good.best.stat().st_size
    assert candidate["images_per_second"] > 0
    assert found["images"] == good.json("run.json")["split"]["test"]
    assert found["severities"] == [1, 5]
    assert list(candidate["corrupted"]) == [corruption.name for corruption in corruptions()]
    assert all(len(shares) == 2 for shares in candidate["corrupted"].values())
    assert found["amounts"]["jpeg"] == [90, 10]


def test_a_worse_model_fails_with_a_report_and_a_better_one_passes(
    good: Run, bad: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    code, found = gate(bad.best, good.best, output)
    assert code == 1
    assert "NO" in capsys.readouterr().out
    assert found["passed"] is False
    failed = {check["name"].partition(", ")[0] for check in found["checks"] if not check["passed"]}
    assert {"accuracy", "recall"} <= failed
    assert found["only_baseline_correct"] > found["only_candidate_correct"]
    report = (output / "gate.md").read_text()
    assert re.match(r"# Gate failed: \d of 8 checks\n", report)
    assert "| NO |" in report
    assert '<tr class="failed">' in (output / "gate.html").read_text()
    code, found = gate(good.best, bad.best, output)
    assert code == 0
    assert found["passed"] is True
    assert "Gate passed" in (output / "gate.md").read_text()


def test_margins_and_ratios_decide(good: Run, bad: Run, tmp_path: Path) -> None:
    code, found = gate(bad.best, good.best, tmp_path / "out", *ANY_ANSWERS)
    assert code == 0
    assert found["checks"][0]["allowed"] is None
    recorded = json.loads((REPOSITORY / "tests/fixtures/layout-1/gate.json").read_text())
    assert recorded.keys() <= found.keys()  # scripts read the names of the first layout
    for which in ("candidate", "baseline"):
        assert recorded[which].keys() <= found[which].keys()
    for kind in ("checks", "classes", "corruptions"):
        assert recorded[kind][0].keys() <= found[kind][0].keys()
    code, found = gate(good.best, good.best, tmp_path / "out", "--max_size_ratio=0.99")
    assert code == 1
    assert [check["name"] for check in found["checks"] if not check["passed"]] == ["size"]


def test_the_reports_say_the_same(good: Run, bad: Run, tmp_path: Path) -> None:
    output = tmp_path / "out"
    _, found = gate(bad.best, good.best, output, "--severities=[2, 4]")
    markdown, html = ((output / f"gate.{ending}").read_text() for ending in ("md", "html"))
    texts = [f"{found[which]['accuracy']:.2%}" for which in ("candidate", "baseline")]
    texts += [f"{share:.2%}" for share in found["candidate"]["corrupted"]["haze"]]
    texts += [f"{share:.2%}" for share in found["baseline"]["corrupted"]["band_shift"]]
    texts += [*CLASSES, "severity 2", "severity 4", "band shift", "JPEG", "Brier score", "log loss"]
    texts += [found["candidate"]["version"], found["candidate"]["checkpoint"]]
    for change in [*found["classes"], *found["corruptions"]]:
        low, high = (100 * end for end in change["interval"])
        texts.append(f"{100 * change['change']:+.2f} points ({low:+.2f} to {high:+.2f})")
    for text in texts:
        assert text in markdown
        assert text in html
    assert SYNTHETIC_NOTE in markdown
    assert '<p class="banner">Synthetic data' in html
    assert html.count("data:image/png;base64,") == 2
    assert "<script" not in html
    assert not re.search(r"https?://", html)
    for line in re.findall(r"^\|.*\|$", markdown, re.MULTILINE):
        assert line.count("|") in (4, 7, 5)  # whole tables


def test_a_new_corruption_is_in_every_report(
    good: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "_CORRUPTIONS", list(corruptions()))
    register_corruption(
        Corruption(
            "dead_rows",
            "dead <rows>",
            "rows without signal",
            (1, 4, 16, 32, 64),
            lambda pixels, amount, channels, generator: np.where(
                np.arange(pixels.shape[1])[:, None, None] < amount, 0, pixels
            ),
        )
    )
    output = tmp_path / "out"
    code, found = gate(good.best, good.best, output, "--severities=[1, 5]")
    assert code == 0
    # Without any signal all images are alike: the model takes them for one class.
    assert found["candidate"]["corrupted"]["dead_rows"][1] == pytest.approx(0.1, abs=0.02)
    assert found["amounts"]["dead_rows"] == [1, 64]
    assert found["corruptions"][-1]["name"] == "dead <rows>"
    assert len(found["corruptions"]) == len(corruptions())
    assert "| dead <rows> | rows without signal | 1 | 64 |" in (output / "gate.md").read_text()
    html = (output / "gate.html").read_text()
    assert html.count("dead &lt;rows&gt;</th>") == 4
    assert html.count("data:image/png;base64,") == 2


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2, 5, 6, 7, 9])
def test_figures_have_a_panel_for_each_corruption(count: int) -> None:
    change = corruptions()[3].change
    chosen = [
        Corruption(f"blur_{i}", f"Blur {i}", "pixels", (1, 2, 3, 4, 5), change)
        for i in range(count)
    ]
    fractions = {corruption.name: [0.8, 0.5] for corruption in chosen}
    found = Measurement({"accuracy": 0.9}, {}, 1, 1, 1, 1, 0.65, fractions)
    drawn = accuracy_by_severity(found, found, chosen, [5, 2])
    assert [axes.get_title() for axes in drawn.axes] == [f"Blur {i}" for i in range(count)]
    for axes in drawn.axes:
        assert [line.get_ydata().tolist() for line in axes.lines] == [[0.9, 0.5, 0.8]] * 2
    examples = corrupted_examples(np.zeros((1, 64, 64, 3), np.uint8), chosen, [2, 5])
    assert len(examples.axes) == 3 * count
    for figure in (drawn, examples):
        width, height = figure.get_size_inches()
        assert width <= 12
        assert height <= 2.8 * count
        figure.savefig(io.BytesIO(), format="png", dpi=20)


def test_exported_files_need_no_run_folder(
    good: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    store_root: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for format, name in (("onnx", "deep/folder/model.onnx"), ("openvino", "other/model.xml")):
        assert main(["export", str(good.best), f"--format={format}", f"--output={name}"]) == 0
    onnx, openvino = Path("deep/folder/model.onnx"), Path("other/model.xml")
    code, found = gate(onnx, openvino, Path("out"), f"--root={store_root}")
    assert code == 1
    shown = capsys.readouterr().out
    report = Path("out/gate.md").read_text("utf-8")
    for text in (shown, report):
        assert "accuracy: 90 test images are too few to tell" in text
        assert "--accuracy_margin, from 4.1 on" in text
    roomy = ("--accuracy_margin=4.1", "--robustness_margin=8")
    code, found = gate(onnx, openvino, Path("out"), f"--root={store_root}", *roomy)
    assert code == 0
    assert found["candidate"]["accuracy"] == found["baseline"]["accuracy"]
    weights = openvino.with_suffix(".bin").stat().st_size
    assert found["baseline"]["bytes"] == openvino.stat().st_size + weights
    assert found["baseline"]["format"] == "openvino"


def test_a_record_without_fractions_still_finds_its_test_images(
    own_copy: Run, good: Run, tmp_path: Path, store_root: Path
) -> None:
    assert good.json("run.json")["split"]["fractions"] == [0.6, 0.1, 0.3]
    (own_copy.folder / "config.yaml").unlink()
    edit(own_copy.folder / "run.json", lambda run: run["split"].pop("fractions"))
    code, found = gate(own_copy.best, own_copy.best, tmp_path / "out", f"--root={store_root}")
    assert code == 0
    assert found["candidate"]["accuracy"] == pytest.approx(good.json("metrics.json")["accuracy"])


def test_bands_and_some_of_them_are_compared_on_the_same_images(
    run: Callable[..., Run], tmp_path: Path
) -> None:
    short = ("--trainer.limit_train_batches=2", "--trainer.precision=32-true")
    every, two = (
        run("fit", f"--data.bands={bands}", *short) for bands in ("all", '["B08", "B03"]')
    )
    code, found = gate(two.best, every.best, tmp_path / "out", *ANY_ANSWERS)
    assert code == 0
    assert found["candidate"]["bands"] == ["B08", "B03"]
    for which, fitted in (("candidate", two), ("baseline", every)):
        metrics = fitted.json("metrics.json")
        assert found[which]["accuracy"] == pytest.approx(metrics["accuracy"])
        assert found[which]["log_loss"] == pytest.approx(metrics["loss"], rel=1e-3)


def test_lists_of_files_are_asked_for(
    run: Callable[..., Run],
    rgb_archive: Path,
    patches: dict[str, Any],
    tmp_path: Path,
    store_root: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    lists = tmp_path / "lists"
    lists.mkdir()
    for number, part in enumerate(("train", "val", "test"), start=1):
        stems = [f"{stem}.jpg" for stem in patches if stem.endswith(f"_{number}")]
        (lists / f"eurosat-{part}.txt").write_text("\n".join(stems))
    data = (f"--data.source={rgb_archive}", "--data.split=files", f"--data.split_files={lists}")
    trained = run("fit", *data)
    (trained.folder / "config.yaml").unlink()
    pair = (trained.best, f"--against={trained.best}", f"--root={store_root}")
    assert "the source of its run's data is unknown" in refused(capsys, *pair)
    assert "give --source" in refused(capsys, *pair)
    error = refused(capsys, *pair, f"--source={rgb_archive}")
    assert "lists of file names made the split" in error
    assert "--split_files" in error
    others = shutil.copytree(lists, tmp_path / "others")
    (others / "eurosat-val.txt").rename(others / "spare")
    (others / "eurosat-test.txt").rename(others / "eurosat-val.txt")
    (others / "spare").rename(others / "eurosat-test.txt")
    options = (f"--source={rgb_archive}", f"--split_files={others}")
    assert "and the run's lists with --split_files" in refused(capsys, *pair, *options)
    code, found = gate(
        trained.best,
        trained.best,
        tmp_path / "out",
        f"--root={store_root}",
        f"--source={rgb_archive}",
        f"--split_files={lists}",
    )
    assert code == 0
    assert found["images"] == 10
    assert found["synthetic"] is False
    assert "Synthetic" not in (tmp_path / "out" / "gate.html").read_text()


def test_models_of_other_classes_data_or_split_are_not_compared(
    good: Run, trained: Run, own_copy: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    error = refused(capsys, trained.best, f"--against={good.best}")
    assert "their data differ" in error
    for run in (good, trained):
        fingerprint = run.json("run.json")["data"]["fingerprint"]
        assert f"synthetic with fingerprint {fingerprint[:12]}" in error
    pair = (good.best, f"--against={own_copy.best}")
    edit(own_copy.folder / "run.json", lambda run: run["split"].update(fingerprint="0" * 64))
    error = refused(capsys, *pair)
    assert "their splits differ" in error
    assert "stratified with fingerprint 000000000000" in error
    checkpoint = torch.load(own_copy.best, weights_only=True)
    checkpoint["hyper_parameters"]["classes"][0] = "Orchard"
    torch.save(checkpoint, own_copy.best)
    error = refused(capsys, *pair)
    assert "their classes differ" in error
    assert "Orchard" in error


def test_a_model_must_say_what_it_was_tested_on(
    good: Run, own_copy: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    (own_copy.folder / "run.json").unlink()
    error = refused(capsys, good.best, f"--against={own_copy.best}")
    assert f"{own_copy.best} does not say which images" in error
    assert "run.json" in error


def test_other_images_than_the_models_were_tested_on_are_refused(
    good: Run, own_copy: Run, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    config = own_copy.folder / "config.yaml"
    content = yaml.safe_load(config.read_text())
    pair = (own_copy.best, f"--against={good.best}", f"--root={tmp_path}")
    for setting, differing in (("split_seed", "the split"), ("synthetic_images", "the images and")):
        changed = {"data": content["data"] | {setting: 200}}
        config.write_text(yaml.safe_dump(changed))
        for options in ((), ("--source=synthetic",)):  # not even if they are chosen
            error = refused(capsys, *pair, *options)
            assert f"{differing}" in error
            assert f"found at synthetic differ from the run of {own_copy.best}" in error
    assert "no data at nowhere.zip" in refused(capsys, *pair, "--source=nowhere.zip")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--accuracy_margin=-1"], "--accuracy_margin must be 0 or more, got -1"),
        (["--max_size_ratio=.nan"], "--max_size_ratio must be 0 or more, got nan"),
        (["--severities=[]"], "--severities must be some of [1, 2, 3, 4, 5]"),
        (["--severities=[1, 6]"], "each once, got [1, 6]"),
        (["--severities=[2, 2]"], "each once, got [2, 2]"),
        (["--threads=0"], "--threads must be 1 or more, got 0"),
    ],
)
def test_numbers_out_of_range(
    options: list[str], message: str, good: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["gate", str(good.best), f"--against={good.best}", "--output=refused", *options]
    assert main(arguments) == 2
    assert message in capsys.readouterr().err
    assert not Path("refused").exists()


def test_files_that_are_no_models(
    good: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "model.onnx"
    text.write_text("not a model")
    assert "there is no model file nowhere.onnx" in refused(
        capsys, "nowhere.onnx", f"--against={good.best}"
    )
    assert "not an ONNX model" in refused(capsys, good.best, f"--against={text}")
    assert "must hold one model file" in refused(capsys, good.folder, f"--against={good.best}")


def test_a_model_without_answers_leaves_the_last_report_as_it_is(
    good: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = changed(good, tmp_path / "broken", lambda weights: weights + float("inf"))
    assert "the probabilities of a patch are negative or sum to nan" in refused(
        capsys, broken.best, f"--against={good.best}"
    )
    output = tmp_path / "out"
    output.mkdir()
    (output / "gate.json").write_text("the last one")
    arguments = ["gate", str(broken.best), f"--against={good.best}", f"--output={output}"]
    assert main([*arguments, *QUICK]) == 2
    assert [path.name for path in output.iterdir()] == ["gate.json"]
    assert (output / "gate.json").read_text() == "the last one"


def test_a_place_that_cannot_be_written_to(
    good: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    arguments = ["gate", str(good.best), f"--against={good.best}"]
    assert main([*arguments, f"--output={tmp_path / 'file'}", *QUICK]) == 2
    assert "cannot be written" in capsys.readouterr().err


def test_images_that_cannot_be_read_are_not_taken_for_a_report_that_cannot_be_written(
    good: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(*_: object) -> None:
        raise OSError("the disk is gone")

    monkeypatch.setattr(compare, "answer", unreadable)
    arguments = ["gate", str(good.best), f"--against={good.best}", f"--output={tmp_path / 'out'}"]
    with pytest.raises(OSError, match="the disk is gone"):
        main([*arguments, *QUICK])
    assert not (tmp_path / "out").exists()


@dataclass(frozen=True)
class Slowed:
    """A model that takes 50 ms longer for each call."""

    model: Model

    @property
    def card(self) -> ModelCard:
        return self.model.card

    def predict(self, patches: Patches) -> Probabilities:
        time.sleep(0.05)
        return self.model.predict(patches)


@pytest.mark.parametrize("slower", ["candidate", "baseline"])
def test_the_slower_model_is_the_slower_one_in_the_report(
    slower: str, good: Run, own_copy: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"candidate": own_copy.best, "baseline": good.best}

    def open_slowed(path: Path, **settings: Any) -> Model:
        model = open_model(path, **settings)
        return Slowed(model) if path == files[slower] else model

    monkeypatch.setattr(evaluate, "open_model", open_slowed)
    monkeypatch.setattr(evaluate, "_TURNS", 3)
    _, found = gate(*files.values(), tmp_path / "out")
    for check in found["checks"]:
        if check["name"].startswith("time of"):
            assert (check["change"] > 1) == (slower == "candidate")
            assert check["change"] == check["candidate"] / check["baseline"]
            assert check[slower] > 50


def test_help_names_every_threshold(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["gate", "--help"])
    shown = capsys.readouterr().out
    for name in ("accuracy_margin", "class_margin", "calibration_margin", "max_latency_ratio"):
        assert f"--{name}" in shown
    for name in (
        "max_size_ratio",
        "robustness_margin",
        "corruption_margin",
        "severities",
        "against",
        "split_files",
    ):
        assert f"--{name}" in shown
    with pytest.raises(SystemExit, match="2"):
        main(["gate", "model.onnx"])
    assert "--against" in capsys.readouterr().err
