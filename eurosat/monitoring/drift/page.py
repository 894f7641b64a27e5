"""The page and the JSON file of an assessment."""

from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from eurosat.evaluation.page import render_page
from eurosat.files import write_json, write_text
from eurosat.metrics import MISSING
from eurosat.monitoring.drift import pictures
from eurosat.monitoring.drift.assessment import Assessment, utc
from eurosat.monitoring.drift.detectable import POWER
from eurosat.monitoring.drift.families import (
    ALPHA,
    EFFECT_FLOOR,
    FAMILIES,
    FAMILY_ALPHA,
    Family,
    Test,
)
from eurosat.monitoring.drift.windows import Window

if TYPE_CHECKING:
    from eurosat.monitoring.reference import Reference

_TITLES = {
    "statistics": "Input statistics",
    "probabilities": "Probabilities",
    "classes": "Predicted classes",
    "embeddings": "Embeddings",
}
_ROWS = 30
"""Most windows in the table of windows."""


def write_assessment(assessment: Assessment, reference: "Reference", output: Path) -> Path:
    """Write ``drift.html`` and ``drift.json``.

    Args:
        assessment: The assessment.
        reference: The reference of the assessment.
        output: Folder for both files, which replace older files.

    Returns:
        Path of the page.
    """
    write_json(output / "drift.json", assessment.to_json())
    page = output / "drift.html"
    write_text(page, render_assessment(assessment, reference))
    return page


def render_assessment(assessment: Assessment, reference: "Reference") -> str:
    """Render the page: one HTML file that contains its pictures and needs no network."""
    sections = [_headline(assessment), _notes(assessment)]
    if assessment.windows:
        window = assessment.windows[-1]
        sections += [
            _moved(assessment, window, reference),
            _families(window),
            _accuracy(window),
            _timeline(assessment),
            _detectable(assessment),
        ]
    return render_page(
        "Drift",
        f"Traffic of {assessment.model_version}, compared with the validation images of the model",
        sections,
        synthetic=False,
    )


def _headline(assessment: Assessment) -> str:
    cells = [("Verdict", escape(assessment.verdict)), ("Windows", f"{len(assessment.windows):,}")]
    cells.append(("Images in the newest window", f"{len(assessment.sample.images):,}"))
    if assessment.windows:
        window = assessment.windows[-1]
        if window.flagged is not None:
            cells.append(("Unlike the reference", f"{window.flagged:.1%}"))
        value = window.accuracy.value
        shown = MISSING if value is None else f"{value:.1%}"
        cells.append(("Estimated accuracy", shown))
    cards = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in cells)
    warn = ' class="warn"' if assessment.verdict in ("drift", "alarm") else ""
    return (
        f'<p{warn}><strong>{escape(assessment.sentence)}</strong></p><dl class="cards">{cards}</dl>'
    )


def _notes(assessment: Assessment) -> str:
    items = "".join(f"<li>{escape(note)}</li>" for note in assessment.notes)
    return f"<h2>What to know about these images</h2><ul>{items}</ul>" if items else ""


def _moved(assessment: Assessment, window: Window, reference: "Reference") -> str:
    """Show the distributions that moved; without drift, those with the smallest p-values."""
    images = assessment.sample.images
    by_name = {family.name: family for family in window.families}
    columns = (
        (by_name["statistics"], reference.statistics, images.statistics, ""),
        (
            by_name["probabilities"],
            reference.probabilities,
            images.probabilities,
            "Probability of ",
        ),
    )
    figures = []
    for family, before, after, prefix in columns:
        names = [test.name for test in family.tests]
        shown = family.moved
        if not window.drift:
            shown = tuple(sorted(family.tests, key=lambda test: test.p_value)[:2])
        for test in shown[:6]:
            column = names.index(test.name)
            figures.append(
                _figure(
                    pictures.histogram(before[:, column], after[:, column]),
                    f"{prefix}{test.name}: {_outcome(test)}",
                )
            )
    classes = by_name["classes"].tests
    chart = pictures.bars(
        [test.name for test in classes],
        [test.before or 0.0 for test in classes],
        [test.after or 0.0 for test in classes],
    )
    figures.append(_figure(chart, "Fractions of the predicted classes."))
    # Few images of a busy service have an embedding; those that wait for a test are shown, too.
    known = assessment.sample.embeddings
    points = pictures.scatter(reference.embeddings, known)
    if points:
        caption = "The first two of the embedding's whitened coordinates"
        figures.append(_figure(points, f"{caption}; {len(known):,} embeddings are new."))
    title = "What moved" if window.drift else "Nothing moved; the largest differences"
    return (
        f"<h2>{title}</h2>"
        '<p class="soft">Blue is the reference, orange is the newest window, from '
        f"{_time(window.start)} to {_time(window.end)} UTC.</p>"
        f'<div class="figures pairs">{"".join(figures)}</div>'
    )


def _figure(picture: str, caption: str) -> str:
    return f"<figure>{picture}<figcaption>{escape(caption)}</figcaption></figure>"


def _table(head: str, rows: str) -> str:
    """Build a table that scrolls on a narrow screen."""
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _time(seconds: float) -> str:
    """Write a time in UTC for people."""
    return utc(seconds)[:19].replace("T", " ")


def _outcome(test: Test) -> str:
    found = "moved" if test.moved else "no significant change"
    medians = ""
    if test.before is not None and test.after is not None:
        medians = f", median {test.before:.3g} before and {test.after:.3g} now"
    return f"{found}, {test.effect:.2f} standard deviations{medians}."


def _families(window: Window) -> str:
    rows = "".join(_family_row(family) for family in window.families)
    head = (
        '<th>Family</th><th class="number">p-value</th><th class="number">Largest change</th>'
        "<th>Moved</th>"
    )
    return (
        "<h2>The tests of the newest window</h2>"
        f"{_table(head, rows)}"
        '<p class="soft">P-values are corrected for the number of tests in the family. A change '
        f"counts if its p-value is below {FAMILY_ALPHA} ({ALPHA} for all {len(FAMILIES)} families) "
        f"and if it is at least {EFFECT_FLOOR} standard deviations, which Cohen calls small.</p>"
    )


def _family_row(family: Family) -> str:
    if family.p_value is None:
        return (
            f'<tr><th scope="row">{_TITLES[family.name]}</th>'
            f'<td colspan="3">Not tested: {escape(family.reason)}.</td></tr>'
        )
    largest = max(test.effect for test in family.tests)
    moved = ", ".join(escape(test.name) for test in family.moved) or "nothing"
    css = ' class="failed"' if family.drift else ""
    return (
        f'<tr{css}><th scope="row">{_TITLES[family.name]}</th>'
        f'<td class="number">{family.p_value:.2g}</td>'
        f'<td class="number">{largest:.2f} SD</td><td>{moved}</td></tr>'
    )


def _accuracy(window: Window) -> str:
    accuracy = window.accuracy
    if accuracy.value is None or accuracy.low is None or accuracy.high is None:
        text = f"The accuracy {escape(accuracy.reason)}."
    else:
        text = (
            f"The estimated accuracy is {accuracy.value:.1%} "
            f"({accuracy.low:.1%} to {accuracy.high:.1%}), from the confidence of the predictions."
        )
    rows = "".join(
        f'<tr><th scope="row">{escape(entry.name)}</th>'
        f'<td class="number">{entry.reference:.1%}</td><td class="number">{entry.value:.1%}</td>'
        f'<td class="number">{entry.low:.1%} to {entry.high:.1%}</td></tr>'
        for entry in window.fractions
    )
    head = (
        '<th>True class</th><th class="number">Reference</th><th class="number">Estimate</th>'
        '<th class="number">95 % interval</th>'
    )
    table = (
        f"{_table(head, rows)}"
        '<p class="soft">The estimates hold only if the images of each class look as in the '
        "reference: if other families than the predicted classes moved, do not rely on them.</p>"
        if rows
        else "<p>The fractions of the true classes cannot be estimated: the reference has no image "
        "of some class.</p>"
    )
    return f"<h2>Without labels</h2><p>{text}</p>{table}"


def _timeline(assessment: Assessment) -> str:
    windows = assessment.windows
    chart = pictures.timeline(
        [[family.p_value for family in window.families] for window in windows],
        [_TITLES[name] for name in FAMILIES],
        FAMILY_ALPHA,
    )
    rows = "".join(_window_row(window) for window in windows[-_ROWS:])
    head = '<th>From (UTC)</th><th>To</th><th class="number">Images</th><th>Drift of</th>'
    left_out = len(windows) - _ROWS
    more = f" The {left_out:,} windows before are in drift.json." if left_out > 0 else ""
    return (
        '<h2>Windows</h2><div class="figures">'
        f"<figure>{chart}<figcaption>P-values, smaller ones above; a mark above the "
        f"dashed line is significant.{more}</figcaption></figure></div>"
        f"{_table(head, rows)}"
    )


def _window_row(window: Window) -> str:
    css = ' class="failed"' if window.drift else ""
    moved = ", ".join(_TITLES[family.name] for family in window.families if family.drift)
    return (
        f'<tr{css}><th scope="row">{_time(window.start)}</th><td>{_time(window.end)}</td>'
        f'<td class="number">{window.pictures:,}</td><td>{moved or "quiet"}</td></tr>'
    )


def _detectable(assessment: Assessment) -> str:
    found = assessment.detectable
    if found is None:
        return ""
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th>'
        f'<td class="number">{"no fall is found" if low is None else f"{low:.1%}"}</td>'
        f'<td class="number">{high:.1%}</td></tr>'
        for name, (low, high) in found.classes.items()
    )
    head = (
        '<th>Predicted class</th><th class="number">A fall to</th><th class="number">A rise to</th>'
    )
    return (
        "<h2>The smallest change that is found</h2>"
        f"<p>With {found.pictures:,} images, nine of ten windows show a shift of one input "
        f"statistic by {found.shift:.2f} standard deviations, and the following fractions of a "
        "class. Smaller changes can pass unseen.</p>"
        f"{_table(head, rows)}"
        f'<p class="soft">Power {POWER:.0%}, the tests of this family alone.</p>'
    )
