"""Write one self-contained HTML page about a finished run, from the files in the run's folder."""

import base64
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from eurosat.evaluation.colours import class_colours
from eurosat.evaluation.intervals import wilson_interval
from eurosat.evaluation.page import render_page
from eurosat.evaluation.profile_table import bottleneck_lines, phase_cells
from eurosat.evaluation.run_figures import draw_run_figures
from eurosat.evaluation.run_files import read_object, read_predictions
from eurosat.files import write_text
from eurosat.metrics import MISSING, finite, metric_named, values_of
from eurosat.run_card import RunCard, RunPart, read_run_card

# Captions explain how to read each figure, by file name, in the order of the page. The figures in
# WIDE take the full width of the page.
CAPTIONS = {
    "learning_curves": "Training is orange, validation is blue, and the dotted line marks the best"
    " epoch. Training accuracy is measured on augmented images during the epoch, so it may be lower"
    " than validation accuracy.",
    "confusion_matrix": "Each row is one true class. Numbers off the diagonal are wrong"
    " predictions. A darker cell is a larger fraction of its row.",
    "reliability_diagram": "A blue mark below the diagonal shows overconfidence, and a mark above"
    " the diagonal shows underconfidence. A mark of few images is uncertain; the bars below show"
    " the number of images.",
    "confident_mistakes": "The wrong predictions with the highest confidence. Look for wrong"
    " labels, mixed patches and classes that look alike.",
}
WIDE = {"learning_curves", "confident_mistakes"}


@dataclass(frozen=True)
class _Run:
    """Contents of a run folder; the content of a missing file is empty."""

    directory: Path
    output: Path
    card: RunCard
    metrics: Mapping[str, Any]
    profile: Mapping[str, Any]
    predictions: list[dict[str, str]]


def write_report(run_directory: Path, output: Path | None = None) -> Path:
    """Draw the figures and ``report.html`` of a run, from the files that its folder holds.

    The page needs no network and no script: the page contains its figures and styles, and its links
    are relative. If a file is missing, the page lacks only the sections that need the file.

    Args:
        run_directory: The run's folder, with any of ``run.json``, ``metrics.json``,
            ``profile.json``, ``predictions.csv``, ``metrics.csv``, ``mistakes.npz``,
            ``config.yaml`` and ``checkpoints/``.
        output: Folder for ``report.html`` and ``figures/``; the run's folder if not given. The
            page also shows other PNG files in ``figures/``.

    Returns:
        Path of the page, which appears whole or not at all.

    Raises:
        ReportError: A file is damaged.
        RunCardError: ``run.json`` is damaged, or of a newer layout.
    """
    output = output or run_directory
    draw_run_figures(run_directory, output / "figures")
    return write_page(run_directory, output)


def write_page(run_directory: Path, output: Path) -> Path:
    """Write ``report.html`` with the existing figures, and draw no figures.

    Args:
        run_directory: The run's folder.
        output: Folder for ``report.html``, with any PNG files in ``figures/``.

    Returns:
        Path of the page, which appears whole or not at all.

    Raises:
        ReportError: A file is damaged.
        RunCardError: ``run.json`` is damaged, or of a newer layout.
    """
    run = _Run(
        run_directory,
        output,
        read_run_card(run_directory) or RunCard(),
        read_object(run_directory / "metrics.json"),
        read_object(run_directory / "profile.json"),
        read_predictions(run_directory / "predictions.csv"),
    )
    title = run.card.experiment or run_directory.resolve().name
    facts = () if run.card == RunCard() else (run.card.started, run.card.status)
    sections = (_headline, _per_class, _figures, _profile, _run_card, _config, _links)
    html = render_page(
        title,
        ", ".join(["EuroSAT land-use classification", *filter(None, facts)]),
        (section(run) for section in sections),
        synthetic=bool(run.card.synthetic),
    )
    path = output / "report.html"
    write_text(path, html)
    return path


def _headline(run: _Run) -> str:
    if not run.metrics:
        return '<p class="soft">No test has been run: <code>metrics.json</code> is missing.</p>'
    accuracy, count = finite(run.metrics.get("accuracy")), len(run.predictions)
    interval, note = "", ""
    if accuracy is not None and count:
        low, high = wilson_interval(accuracy, count)
        interval = f"<small>95% interval {low:.2%} to {high:.2%}</small>"
        note = (
            f'<p class="soft">Wilson interval for {count:,} test images taken as independent;'
            " neighbouring patches are alike, so the true uncertainty is larger.</p>"
        )
    cells = []
    for name, value in values_of(run.metrics).items():
        metric = metric_named(name)
        if name == "accuracy":
            cells.append(("Test accuracy", metric.text(value) + interval))
        else:
            cells.append((escape(metric.title), metric.text(value)))
    cards = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in cells)
    if run.metrics.get("other_data"):
        note += (
            "<p>The checkpoint was trained on other images or on another split, so test images may"
            " be images that it was trained on.</p>"
        )
    return f'<dl class="cards">{cards}</dl>{note}'


def _per_class(run: _Run) -> str:
    accuracies: Mapping[str, Any] = run.metrics.get("per_class") or {}
    if not accuracies:
        return ""
    colours = class_colours(list(accuracies))
    images = Counter(row["label"] for row in run.predictions)
    pairs = Counter((row["label"], row["predicted"]) for row in run.predictions)
    worst: dict[str, str] = {}
    for (label, predicted), count in pairs.most_common():
        if label != predicted:
            worst.setdefault(label, f"{escape(predicted)} ({count:,})")
    rows = []
    for name in sorted(accuracies, key=lambda name: finite(accuracies[name]) or 0.0):
        width = 100 * (finite(accuracies[name]) or 0.0)
        bar = f'<div><span style="width:{width:.2f}%;background:{colours[name]}"></span></div>'
        rows.append(
            f'<tr><th scope="row">{escape(name)}</th><td class="bar">{bar}</td>'
            f'<td class="number">{_percent(accuracies[name])}</td>'
            f'<td class="number">{f"{images[name]:,}" if run.predictions else MISSING}</td>'
            f"<td>{worst.get(name, 'none' if run.predictions else MISSING)}</td></tr>"
        )
    head = (
        '<th>Class</th><th class="bar"></th><th class="number">Accuracy</th>'
        '<th class="number">Images</th><th>Most often taken for</th>'
    )
    return (
        "<h2>Classes, weakest first</h2>"
        f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    )


def _figures(run: _Run) -> str:
    order = list(CAPTIONS)
    paths = sorted(
        (run.output / "figures").glob("[!.]*.png"),
        key=lambda path: (order.index(path.stem) if path.stem in order else len(order), path.name),
    )
    items = []
    for path in paths:
        data = base64.b64encode(path.read_bytes()).decode("ascii")
        name = escape(path.stem.replace("_", " "))
        wide = "" if path.stem in CAPTIONS.keys() - WIDE else ' class="wide"'
        caption = CAPTIONS.get(path.stem, name.capitalize())
        items.append(
            f'<figure{wide}><img alt="{name}" src="data:image/png;base64,{data}">'
            f"<figcaption>{caption}</figcaption></figure>"
        )
    return f'<h2>Figures</h2><div class="figures">{"".join(items)}</div>' if items else ""


def _profile(run: _Run) -> str:
    if not run.profile:
        return ""
    profile = run.profile
    names = ("Fraction", "Seconds", "Median ms/step", "95 % ms/step")
    head = "<th>Phase</th>" + "".join(f'<th class="number">{name}</th>' for name in names)
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th>'
        + "".join(f'<td class="number">{cell}</td>' for cell in phase_cells(phase))
        + "</tr>"
        for name, phase in profile["phases"].items()
    )
    heading, *advice = bottleneck_lines(profile)
    items = "".join(f"<li>{escape(line)}</li>" for line in advice)
    return (
        "<h2>Where the time of the training went</h2>"
        f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
        f"<p>{escape(heading)}</p><ul>{items}</ul>"
        f'<p class="soft">{profile["steps"]:,} steps at {profile["images_per_second"]:,.0f}'
        f" images/s, after {profile['warm_up']['steps']} that took"
        f" {profile['warm_up']['seconds']:.1f} s to warm up.</p>"
    )


def _run_card(run: _Run) -> str:
    card = run.card
    if card == RunCard():  # the run's folder has no run.json
        return ""
    revision = f"<code>{escape(card.git.revision if card.git else 'unknown')}</code>"
    if card.git and card.git.dirty:
        revision += ' <strong class="warn">with uncommitted changes</strong>'
    wall, rate, known = card.wall_seconds, card.images_per_second, card.to_json()
    facts = {
        "Command": f"<code>{escape(card.command or 'unknown')}</code>",
        "Git revision": revision,
        "Data": _facts(known["data"]),
        "Split": _facts(known["split"]),
        "Hardware": _facts(known["hardware"]),
        "Seed": MISSING if card.seed is None else str(card.seed),
        "Wall time": MISSING if wall is None else f"{timedelta(seconds=round(wall))} (h:min:s)",
        "Throughput": MISSING if rate is None else f"{rate:,.0f} images/s",
        "Best checkpoint": f"<code>{escape(card.best_checkpoint or MISSING)}</code>",
    }
    if len(card.parts) > 1:
        facts["Parts"] = _parts(card.parts)
    packages = {name: v for name, v in card.packages.items() if v}
    versions = _table((escape(name), escape(str(packages[name]))) for name in sorted(packages))
    details = f"<details><summary>{len(packages)} packages</summary>{versions}</details>"
    return f"<h2>Run card</h2>{_table(facts.items())}{details if packages else ''}"


def _parts(parts: Sequence[RunPart]) -> str:
    """Describe the parts of a run that was stopped and resumed, one line per part."""
    lines = []
    for part in parts:
        ended = f"{part.status.partition(':')[0]} after {part.epochs or 0} epochs"
        place = f" on {part.host}" if part.host else ""
        revision = f", revision {part.git.revision[:8]}" if part.git else ""
        lines.append(escape(f"{part.started or MISSING}{place}: {ended}{revision}"))
    return "<br>".join(lines)


def _config(run: _Run) -> str:
    path = run.directory / "config.yaml"
    if not path.is_file():
        return ""
    text = escape(path.read_text(encoding="utf-8"))
    return f"<details><summary>Full configuration</summary><pre>{text}</pre></details>"


def _links(run: _Run) -> str:
    names = (
        *("metrics.csv", "learning_curves.csv", "metrics.json", "predictions.csv", "mistakes.npz"),
        *("run.json", "run.jsonl", "config.yaml", "profile.json", "trace.json.gz"),
    )
    paths = [run.directory / name for name in names]
    paths += sorted((run.directory / "checkpoints").rglob("*.ckpt"))
    items = []
    for path in filter(Path.is_file, paths):
        name = path.relative_to(run.directory).as_posix()
        link = Path(os.path.relpath(path, run.output)).as_posix()
        items.append(f'<li><a href="{quote(link)}">{escape(name)}</a></li>')
    return f"<h2>Files</h2><ul>{''.join(items)}</ul>" if items else ""


def _table(rows: Iterable[tuple[str, str]]) -> str:
    """Render a table of names and values, which must be escaped HTML."""
    cells = "".join(f'<tr><th scope="row">{name}</th><td>{value}</td></tr>' for name, value in rows)
    return f'<table class="card">{cells}</table>'


def _facts(record: Mapping[str, Any] | None) -> str:
    def text(value: object) -> str:
        return ", ".join(map(str, value)) if isinstance(value, list) else str(value)

    known = ((key, value) for key, value in (record or {}).items() if value is not None)
    lines = (f"{key.replace('_', ' ')}: {text(value)}" for key, value in known)
    return "<br>".join(map(escape, lines)) or MISSING


def _percent(value: object) -> str:
    return MISSING if (number := finite(value)) is None else f"{number:.2%}"
