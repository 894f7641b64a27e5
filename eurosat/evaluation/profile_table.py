"""Show a profile to people: a table of the phases, and advice against the bottleneck."""

from collections.abc import Mapping
from typing import Any


def show(profile: Mapping[str, Any]) -> None:
    """Print a profile as a table, and the advice against the profile's bottleneck.

    Args:
        profile: Content of ``profile.json``.
    """
    import rich
    from rich import box
    from rich.table import Table

    table = Table(
        title=f"Profile of {profile['steps']} steps, {profile['images_per_second']:,.0f} images/s",
        title_justify="left",
        box=box.SIMPLE_HEAD,
    )
    table.add_column("phase")
    for name in ("fraction", "seconds", "median ms/step", "p95 ms/step"):
        table.add_column(name, justify="right")
    for name, phase in profile["phases"].items():
        slow = "bold" if name in profile["bottleneck"]["phases"] else ""
        table.add_row(name, *phase_cells(phase), style=slow)
    console = rich.get_console()  # A progress bar that is still visible uses the same console.
    console.print(table)
    heading, *advice = bottleneck_lines(profile)
    for line in (heading, *(f"  - {line}" for line in advice)):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def phase_cells(phase: Mapping[str, float | None]) -> list[str]:
    """Format fraction, seconds, median and 95th percentile of a phase as text."""
    median, p95 = (
        "" if value is None else f"{value:.2f}" for value in (phase["median_ms"], phase["p95_ms"])
    )
    return [f"{phase['share']:.1%}", f"{phase['seconds']:.2f}", median, p95]


def bottleneck_lines(profile: Mapping[str, Any]) -> list[str]:
    """Give a line that names the bottleneck, then one line per piece of advice."""
    bottleneck = profile["bottleneck"]
    name = " and ".join(bottleneck["phases"])
    return [
        f"Bottleneck: {name} ({bottleneck['share']:.0%} of the time). Changes to try, and to "
        "measure with --profile:",
        *bottleneck["advice"],
    ]
