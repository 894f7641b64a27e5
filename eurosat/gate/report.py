"""Write the report of a comparison as terminal text, Markdown, HTML and JSON."""

import base64
import io
from collections.abc import Callable, Iterable, Sequence
from html import escape
from pathlib import Path

from matplotlib.figure import Figure

from eurosat.evaluation.page import render_page
from eurosat.files import write_json
from eurosat.gate import figures
from eurosat.gate.checks import Check, GroupChange
from eurosat.gate.measurement import Measurement, relative_corruption_error
from eurosat.gate.verdict import Verdict
from eurosat.metrics import metrics

Row = Sequence[str]

CHECK_HEADINGS = ("check", "candidate", "baseline", "change (interval)", "allowed", "passed")

NOTES = (
    "A change of an accuracy or an error is the candidate's value minus the baseline's on the same "
    "images, with a 95 % interval: the score interval of paired fractions (Tango, 1998), or for "
    "the calibration error a basic bootstrap over paired images. The intervals of classes and of "
    "corruptions are widened for their number (Bonferroni), and the class and the corruption with "
    "the largest loss are shown. A change of a time or a size is a ratio."
)
CORRUPTION_NOTE = (
    "Accuracy on the same test images after corruption. Expect such accuracies when weather, "
    "sensor or processing make images differ from the training images."
)
SYNTHETIC_NOTE = (
    "Synthetic data: these numbers show that the program works and say nothing about land use."
)


def write_report(verdict: Verdict, folder: Path) -> None:
    """Write ``gate.json``, ``gate.md`` and ``gate.html`` into a folder."""
    write_json(folder / "gate.json", verdict.as_dict())
    (folder / "gate.md").write_text(_markdown(verdict), "utf-8", newline="\n")
    (folder / "gate.html").write_text(_html(verdict), "utf-8", newline="\n")


def summary(verdict: Verdict) -> str:
    """Format the checks as a table for a terminal, and the verdict below the table."""
    rows = [CHECK_HEADINGS, *map(_check_row, verdict.checks)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
    return "\n".join([*lines, "", *_advice(verdict), _subtitle(verdict), _title(verdict)])


def _title(verdict: Verdict) -> str:
    failed = sum(not check.passed for check in verdict.checks)
    if not failed:
        return "Gate passed"
    return f"Gate failed: {failed} of {len(verdict.checks)} checks"


def _advice(verdict: Verdict) -> list[str]:
    """Give the hints of the checks that failed because of too few images."""
    return [f"{check.name}: {check.note}." for check in verdict.checks if check.note]


def _bootstrap(verdict: Verdict) -> str:
    """List the intervals of a paired bootstrap, for comparison."""
    found = (
        f"{check.name} {_ends(check.bootstrap)} points"
        for check in verdict.checks
        if check.bootstrap is not None
    )
    return f"For comparison, 95 % intervals of a paired bootstrap: {'; '.join(found)}."


def _subtitle(verdict: Verdict) -> str:
    ours, theirs = (
        f"{contender.model_uri} (version {contender.card.version}, {contender.card.format})"
        for contender in (verdict.candidate, verdict.baseline)
    )
    return f"Candidate {ours} against {theirs}, on {verdict.images:,} test images"


def _check_row(check: Check) -> Row:
    return (
        check.name,
        _value(check, check.candidate),
        _value(check, check.baseline),
        _change(check),
        check.rule,
        "yes" if check.passed else "NO",
    )


def _value(check: Check, value: float) -> str:
    match check.unit:
        case "share":
            return _percent(value)
        case "error":
            return f"{value:.4f}"
        case "milliseconds":
            return f"{value:.2f} ms"
        case "bytes":
            return f"{value / 1e6:.2f} MB"


def _change(check: Check) -> str:
    match check.unit:
        case "share":
            assert check.interval is not None
            return _points(check.change, check.interval)
        case "error":
            assert check.interval is not None
            low, high = check.interval
            return f"{check.change:+.4f} ({low:+.4f} to {high:+.4f})"
        case "milliseconds" | "bytes":
            return f"{check.change:.2f} times"


def _percent(value: float) -> str:
    return f"{value:.2%}"


def _points(change: float, interval: tuple[float, float]) -> str:
    return f"{100 * change:+.2f} points ({_ends(interval)})"


def _ends(interval: tuple[float, float]) -> str:
    """Format the ends of an interval of fractions, in percentage points."""
    low, high = (100 * end for end in interval)
    return f"{low:+.2f} to {high:+.2f}"


def _group_rows(changes: Sequence[GroupChange]) -> list[Row]:
    """Give one row per class or corruption, with the largest loss first."""

    def row(change: GroupChange) -> Row:
        return (
            change.name,
            f"{change.images:,}",
            _percent(change.candidate),
            _percent(change.baseline),
            _points(change.change, change.interval),
            "yes" if change.passed else "NO",
        )

    return [row(change) for change in sorted(changes, key=lambda change: change.change)]


def _group_headings(kind: str) -> Row:
    return (kind, "images", "candidate", "baseline", "change (interval)", "passed")


def _corruption_rows(verdict: Verdict, found: Measurement) -> list[Row]:
    rows: list[Row] = []
    for corruption in verdict.applied:
        fractions = found.corrupted[corruption.name]
        mean = sum(fractions) / len(fractions)
        rows.append((corruption.title, *map(_percent, fractions), _percent(mean)))
    return rows


def _corruption_headings(verdict: Verdict) -> Row:
    return ("corruption", *(f"severity {number}" for number in verdict.severities), "mean")


def _amount_rows(verdict: Verdict) -> list[Row]:
    return [
        (
            corruption.title,
            corruption.meaning,
            *(f"{corruption.amount(severity):g}" for severity in verdict.severities),
        )
        for corruption in verdict.applied
    ]


def _amount_headings(verdict: Verdict) -> Row:
    return ("corruption", "amount", *(f"severity {number}" for number in verdict.severities))


def _robustness(verdict: Verdict) -> str:
    """Describe the robustness of the candidate in one or two sentences."""
    ours, theirs = verdict.figures
    worst = min(verdict.corruptions, key=lambda change: change.candidate)
    text = (
        f"The candidate recognises {_percent(ours.accuracy)} of the clean images and "
        f"{_percent(ours.corrupted_accuracy)} of the corrupted images (baseline "
        f"{_percent(theirs.accuracy)} and {_percent(theirs.corrupted_accuracy)}); it suffers most "
        f"from {worst.name} ({_percent(worst.candidate)} on average)."
    )
    relative = relative_corruption_error(ours, theirs)
    if relative is not None:
        text += f" Its mean corruption error relative to the baseline's is {relative:.2f}."
    return text


def _other_rows(verdict: Verdict) -> list[Row]:
    """Give the rows of the figures that no check compares."""
    lines: list[tuple[str, Callable[[Measurement], str]]] = [
        ("images/s in batches of 64", lambda found: f"{found.images_per_second:,.0f}"),
    ]
    rows: list[Row] = [
        ("correct where the other is wrong", *(f"{count:,} images" for count in verdict.only))
    ]
    rows += [(name, *map(text, verdict.figures)) for name, text in lines]
    rows += [
        (metric.title, *(metric.text(found.scores[metric.name]) for found in verdict.figures))
        for metric in metrics()
        if metric.name not in CHECKED
    ]
    for name in ("version", "format", "backbone", "checkpoint"):
        cards = (verdict.candidate.card, verdict.baseline.card)
        rows.append((name, *(str(getattr(card, name)) for card in cards)))
    rows.append(("model URI", verdict.candidate.model_uri, verdict.baseline.model_uri))
    return rows


OTHER_HEADINGS = ("", "candidate", "baseline")
CHECKED = ("accuracy", "ece")
"""Metrics that a check compares."""
LOSS_NOTE = "The loss is the log loss: the mean of minus log(probability of the true class)."


def _markdown(verdict: Verdict) -> str:
    """Render the report for a pull request."""
    ours, theirs = verdict.figures
    headings = _corruption_headings(verdict)
    parts = [
        f"# {_title(verdict)}",
        _subtitle(verdict),
        f"**{SYNTHETIC_NOTE}**" if verdict.synthetic else "",
        _markdown_table(CHECK_HEADINGS, map(_check_row, verdict.checks)),
        *_advice(verdict),
        f"{NOTES} {_bootstrap(verdict)}",
        "## Robustness",
        _robustness(verdict),
        CORRUPTION_NOTE,
        "Over all severities, largest loss first:",
        _markdown_table(_group_headings("corruption"), _group_rows(verdict.corruptions)),
        "Candidate:",
        _markdown_table(headings, _corruption_rows(verdict, ours)),
        "Baseline:",
        _markdown_table(headings, _corruption_rows(verdict, theirs)),
        "Amounts:",
        _markdown_table(_amount_headings(verdict), _amount_rows(verdict)),
        "## Classes",
        _markdown_table(_group_headings("class"), _group_rows(verdict.classes)),
        "## Models",
        _markdown_table(OTHER_HEADINGS, _other_rows(verdict)),
        LOSS_NOTE,
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def _markdown_table(headings: Row, rows: Iterable[Row]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    cells = ([cell.replace("|", "\\|") for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def _html(verdict: Verdict) -> str:
    """Render the report for people: one page that contains its figures and no scripts."""
    ours, theirs = verdict.figures
    headings = _corruption_headings(verdict)
    sections = [
        _html_table(CHECK_HEADINGS, map(_check_row, verdict.checks)),
        *(f"<p>{escape(line)}</p>" for line in _advice(verdict)),
        _soft(f"{NOTES} {_bootstrap(verdict)}"),
        "<h2>Robustness</h2>",
        f"<p>{escape(_robustness(verdict))}</p>",
        _soft(CORRUPTION_NOTE),
        _figure(
            figures.accuracy_by_severity(ours, theirs, verdict.applied, verdict.severities),
            "Test accuracy against the severity of each corruption.",
        ),
        "<h3>Over all severities, largest loss first</h3>",
        _html_table(_group_headings("corruption"), _group_rows(verdict.corruptions)),
        "<h3>Candidate</h3>",
        _html_table(headings, _corruption_rows(verdict, ours)),
        "<h3>Baseline</h3>",
        _html_table(headings, _corruption_rows(verdict, theirs)),
        "<h2>What the corruptions do</h2>",
        _figure(
            figures.corrupted_examples(verdict.example, verdict.applied, verdict.severities),
            "One test patch under every corruption, severity rising to the right; the numbers are "
            "the amounts of the table below.",
        ),
        _html_table(_amount_headings(verdict), _amount_rows(verdict)),
        "<h2>Classes, largest loss first</h2>",
        _html_table(_group_headings("class"), _group_rows(verdict.classes)),
        "<h2>Models</h2>",
        _html_table(OTHER_HEADINGS, _other_rows(verdict), numbers=False),
        _soft(LOSS_NOTE),
    ]
    return render_page(_title(verdict), _subtitle(verdict), sections, synthetic=verdict.synthetic)


def _soft(text: str) -> str:
    return f'<p class="soft">{escape(text)}</p>'


def _html_table(headings: Row, rows: Iterable[Row], *, numbers: bool = True) -> str:
    """Render a table whose first column names the rows, with failed checks highlighted.

    Args:
        headings: Headings of the columns.
        rows: Cells as plain text.
        numbers: Whether the columns hold numbers, except for the first column and the columns
            "allowed" and "amount", which always hold words.
    """
    numeric = [numbers and heading not in ("allowed", "amount") for heading in headings]
    styles = ["", *(' class="number"' if column else "" for column in numeric[1:])]
    cells = zip(styles, headings, strict=True)
    head = "".join(f"<th{style}>{escape(heading)}</th>" for style, heading in cells)
    body = []
    for name, *values in rows:
        failed = ' class="failed"' if values[-1] == "NO" else ""
        data = "".join(
            f"<td{style}>{escape(value)}</td>"
            for style, value in zip(styles[1:], values, strict=True)
        )
        body.append(f'<tr{failed}><th scope="row">{escape(name)}</th>{data}</tr>')
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def _figure(figure: Figure, caption: str) -> str:
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=150, metadata={"Software": None})
    data = base64.b64encode(content.getvalue()).decode("ascii")
    return (
        f'<figure><img alt="{escape(caption)}" src="data:image/png;base64,{data}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )
