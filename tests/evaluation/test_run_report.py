"""The report of a run is complete, escaped, and survives a run that is not."""

import base64
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest

from eurosat.cli import main
from eurosat.evaluation.colours import COLOURS
from eurosat.evaluation.mistakes import Mistakes
from eurosat.evaluation.run_report import write_page, write_report

PNG = b"\x89PNG not a real picture"
VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """Collects links and sources, and checks that tags are nested."""

    def __init__(self, html):
        super().__init__()
        self.urls, self.open, self.tags = [], [], []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.urls += [value for name, value in attrs if name in {"src", "href"}]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture
def run_folder(tmp_path):
    """A run's folder, without a report."""
    return write_run(tmp_path)


@pytest.fixture(scope="module")
def reported(tmp_path_factory):
    """A run's folder with its report, which takes seconds to draw; tests change copies."""
    folder = write_run(tmp_path_factory.mktemp("reported"))
    write_report(folder)
    return folder


def write_run(root):
    folder = root / "outputs" / "trial" / "2026-01-02T03-04-05"
    (folder / "figures").mkdir(parents=True)
    (folder / "checkpoints").mkdir()
    (folder / "figures" / "zebra.png").write_bytes(PNG + b"zebra")
    (folder / "checkpoints" / "epoch=1 best.ckpt").touch()
    (folder / "metrics.csv").write_text(
        "epoch,step,train/loss,val/loss,val/accuracy\n0,9,,0.9,0.5\n0,9,1.5,,\n"
    )
    (folder / "config.yaml").write_text("backbone: <script>alert('$title')</script>\n")
    predictions = [("Forest", "Forest")] * 6 + [("Forest", "River")] * 2 + [("River", "River")] * 2
    (folder / "predictions.csv").write_text(
        "file,label,predicted,confidence,Forest,River\n"
        + "".join(f"{label}.jpg,{label},{predicted},1,1,0\n" for label, predicted in predictions)
    )
    metrics = {"accuracy": 0.8, "accuracy_macro": 0.875, "f1_macro": None, "ece": 0.0123}
    per_class = {"River": 1.0, "Forest": 0.75, "Marsh & <fen>": None}
    (folder / "metrics.json").write_text(
        json.dumps(metrics | {"loss": float("nan"), "per_class": per_class})
    )
    card = {
        "command": "eurosat fit --a <b> && true",
        "experiment": "trial <1>",
        "status": "failed: ValueError('<x>')",
        "git": {"revision": "abc123", "dirty": True},
        "packages": {"torch": "2.8.0", "absent": None},
        "hardware": {"cpu": "a <cpu>", "memory_gib": 4.0},
        "data": {
            "source": "synthetic",
            "bands": ["B04", "B03"],
            "classes": ["Forest", "River"],
            "images": 10,
            "fingerprint": "data-print",
        },
        "split": {
            "kind": "files",
            "fingerprint": "split-print",
            "train": 0,
            "val": 0,
            "test": 10,
        },
        "monitor": "val/accuracy",
        "mode": "max",
        "wall_seconds": 3723.4,
        "train_seconds": 3600.0,
        "images_per_second": 1234.5,
        "synthetic": True,
    }
    (folder / "run.json").write_text(json.dumps(card))
    Mistakes(
        pictures=np.full((2, 8, 8, 3), 200, dtype=np.uint8),
        files=np.array(["Forest/1.jpg", "Forest/2.jpg"]),
        labels=np.array(["Forest", "Forest"]),
        predicted=np.array(["River", "River"]),
        confidence=np.array([1.0, 1.0]),
    ).write(folder)
    return folder


def text_of(html):
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html.split("</style>")[1]))


def test_headline(run_folder):
    text = text_of(write_page(run_folder, run_folder).read_text())
    assert "Test accuracy 80.00% 95% interval 49.02% to 94.33%" in text
    assert "10 test images" in text
    assert "Macro accuracy 87.50%" in text
    assert "Macro F1 n/a" in text
    assert "Calibration error 0.0123" in text
    assert "Loss n/a" in text


def test_page_is_self_contained_and_well_formed(reported):
    page = Page((reported / "report.html").read_text())
    sources = [url for url in page.urls if url.startswith("data:image/png;base64,")]
    pictures = [base64.b64decode(url.partition(",")[2]) for url in sources]
    names = ("learning_curves", "confusion_matrix", "reliability_diagram", "confident_mistakes")
    drawn = [(reported / "figures" / f"{name}.png").read_bytes() for name in names]
    assert pictures == [*drawn, PNG + b"zebra"]
    links = [url for url in page.urls if url not in sources]
    assert "checkpoints/epoch%3D1%20best.ckpt" in links
    assert {"metrics.csv", "predictions.csv", "config.yaml"} < set(links)
    assert not any(re.match(r"[a-z]+:|/", link) for link in links)
    assert not {"script", "link", "iframe"} & set(page.tags)


def test_everything_is_escaped(run_folder):
    with (run_folder / "predictions.csv").open("a") as file:
        file.write("a.jpg,Marsh & <fen>,<bog>,1,1,0\n")
    html = write_page(run_folder, run_folder).read_text()
    for raw, escaped in (
        ("<script>", "&lt;script&gt;alert(&#x27;$title&#x27;)"),
        ("<1>", "<h1>trial &lt;1&gt;</h1>"),
        ("<b>", "--a &lt;b&gt; &amp;&amp; true"),
        ("<fen>", "Marsh &amp; &lt;fen&gt;"),
        ("<bog>", "&lt;bog&gt; (1)"),
        ("<cpu>", "a &lt;cpu&gt;"),
        ("<x>", "&lt;x&gt;"),
    ):
        assert raw not in html
        assert escaped in html


def test_classes_come_weakest_first_with_their_confusions(run_folder):
    html = write_page(run_folder, run_folder).read_text()
    rows = [text_of(f"</style>{row}").split() for row in re.findall("<tr>.*?</tr>", html)]
    forest, river = (
        rows.index(["Forest", "75.00%", "8", "River", "(2)"]),
        rows.index(["River", "100.00%", "2", "none"]),
    )
    assert forest < river
    assert f"width:75.00%;background:{COLOURS['Forest']}" in html


def test_run_card(run_folder):
    text = text_of(write_page(run_folder, run_folder).read_text())
    assert "abc123 with uncommitted changes" in text
    assert "bands: B04, B03" in text
    for fact in ("data-print", "split-print", "1:02:03", "1,234 images/s", "torch 2.8.0"):
        assert fact in text
    assert "absent" not in text


def test_the_parts_of_a_run_that_was_stopped_are_listed(run_folder):
    assert "Parts" not in text_of(write_page(run_folder, run_folder).read_text())
    card = json.loads((run_folder / "run.json").read_text())
    git = {"revision": "0123456789abcdef", "dirty": False}
    card["parts"] = [
        {"started": "2026-01-01", "status": "killed", "host": "one", "git": git, "epochs": 3},
        {"started": "2026-01-02", "status": "failed: <b>", "host": None, "epochs": None},
    ]
    (run_folder / "run.json").write_text(json.dumps(card))
    text = text_of(write_page(run_folder, run_folder).read_text())
    assert "2026-01-01 on one: killed after 3 epochs, revision 01234567" in text
    assert "2026-01-02: failed after 0 epochs" in text


@pytest.mark.parametrize("synthetic", [True, False])
def test_banner_only_on_synthetic_data(run_folder, synthetic):
    card = json.loads((run_folder / "run.json").read_text())
    (run_folder / "run.json").write_text(json.dumps(card | {"synthetic": synthetic}))
    assert ("Synthetic data:" in write_page(run_folder, run_folder).read_text()) is synthetic


@pytest.mark.slow
@pytest.mark.parametrize(
    ("missing", "lost"),
    [
        ("metrics.json", "Classes, weakest first"),
        ("predictions.csv", "95% interval"),
        ("metrics.csv", 'alt="learning curves"'),
        ("mistakes.npz", 'alt="confident mistakes"'),
        ("run.json", "Run card"),
        ("config.yaml", "Full configuration"),
        ("figures", 'alt="zebra"'),
        ("checkpoints", ".ckpt"),
    ],
)
def test_missing_part_costs_only_its_section(reported, tmp_path, missing, lost):
    whole = (reported / "report.html").read_text()
    run_folder = tmp_path / "run"
    shutil.copytree(reported, run_folder, ignore=shutil.ignore_patterns("*.png"))
    path = run_folder / missing
    if path.is_file():
        path.unlink()
    shutil.rmtree(path, ignore_errors=True)
    html = write_report(run_folder).read_text()
    Page(html)
    assert lost in whole
    assert lost not in html
    assert html.count("<h2>") >= whole.count("<h2>") - 1


def test_empty_run_folder_gives_a_page(tmp_path):
    html = write_report(tmp_path).read_text()
    Page(html)
    assert f"<h1>{tmp_path.name}</h1>" in html
    assert "No test has been run" in html
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


@pytest.mark.slow
def test_the_verb_draws_the_report_anew(run_folder, tmp_path, capsys):
    assert main(["report", str(run_folder)]) == 0
    page = (run_folder / "report.html").read_bytes()
    assert f"report in {run_folder / 'report.html'}" in capsys.readouterr().out
    (run_folder / "report.html").unlink()
    shutil.rmtree(run_folder / "figures")
    before = {path.name for path in run_folder.iterdir()}
    assert main(["report", str(run_folder), f"--output={tmp_path / 'drawn'}"]) == 0
    assert {path.name for path in run_folder.iterdir()} == before
    place = tmp_path / "drawn" / run_folder.name
    assert {path.name for path in place.iterdir()} == {"figures", "report.html"}
    links = [url for url in Page((place / "report.html").read_text()).urls if "data:" not in url]
    assert {(place / unquote(link)).resolve() for link in links} == {
        *(
            run_folder / name
            for name in ("metrics.csv", "metrics.json", "predictions.csv", "mistakes.npz")
        ),
        *(
            run_folder / name
            for name in ("run.json", "config.yaml", "checkpoints/epoch=1 best.ckpt")
        ),
    }
    assert main(["report", str(run_folder)]) == 0
    again = (run_folder / "report.html").read_bytes()
    assert len(again) < len(page)  # the zebra is gone, and all else is as it was
    assert b"zebra" not in again


@pytest.mark.slow
def test_a_run_of_the_first_layout_has_a_report(tmp_path):
    recorded = Path(__file__).parents[1] / "fixtures" / "layout-1" / "run"
    html = write_report(recorded, tmp_path).read_text()
    Page(html)
    assert "Run card" in html
    drawn = {path.stem for path in (tmp_path / "figures").iterdir()}
    assert drawn == {"learning_curves", "confusion_matrix", "reliability_diagram"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("run.json", '{"status": "fin'),
        ("metrics.json", "[0.5]"),
        ("metrics.csv", "epoch,train/loss\n0,low\n"),
        ("predictions.csv", "file,label\na.jpg,Forest\n"),
        ("predictions.csv", "file,label,predicted,confidence,Forest\na.jpg,Forest,River,1,1\n"),
        ("mistakes.npz", "no archive"),
        ("profile.json", '{"phases": '),
    ],
)
def test_a_damaged_file_is_named_and_the_page_stays(name, content, reported, tmp_path, capsys):
    run_folder = tmp_path / "run"
    shutil.copytree(reported, run_folder)
    before = (run_folder / "report.html").read_bytes()
    (run_folder / name).write_text(content)
    assert main(["report", str(run_folder)]) == 2
    error = capsys.readouterr().err
    assert f"eurosat report: error: {run_folder / name} is damaged (" in error
    assert (run_folder / "report.html").read_bytes() == before


def test_a_folder_that_is_no_run_is_refused(run_folder, tmp_path, capsys):
    assert main(["report", str(run_folder), str(tmp_path)]) == 2
    assert f"{tmp_path} holds no run.json" in capsys.readouterr().err
    assert not (run_folder / "report.html").exists()


def test_a_folder_that_cannot_be_written_is_named_with_its_option(run_folder, tmp_path, capsys):
    (tmp_path / "file").touch()
    assert main(["report", str(run_folder), f"--output={tmp_path / 'file'}"]) == 2
    assert "cannot be written (Not a directory): choose another --output" in capsys.readouterr().err


def test_two_runs_of_one_name_do_not_share_a_place(run_folder, tmp_path, capsys):
    shutil.copytree(run_folder, tmp_path / "other" / run_folder.name)
    folders = [str(run_folder), str(tmp_path / "other" / run_folder.name)]
    assert main(["report", *folders, f"--output={tmp_path / 'drawn'}"]) == 2
    assert f"several runs have the name {run_folder.name}" in capsys.readouterr().err
    assert not (tmp_path / "drawn").exists()


@pytest.mark.slow
def test_a_report_drawn_anew_is_that_of_the_run(own_run):
    def drawn():
        paths = [own_run.folder / "report.html", *(own_run.folder / "figures").iterdir()]
        return {path.name: path.read_bytes() for path in paths}

    before = drawn()
    assert len(before) == 5
    shutil.rmtree(own_run.folder / "figures")
    (own_run.folder / "report.html").unlink()
    assert main(["report", str(own_run.folder)]) == 0
    assert drawn() == before
