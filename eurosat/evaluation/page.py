"""The HTML page of every report: one self-contained file in one style."""

from collections.abc import Iterable
from html import escape
from importlib.resources import files
from string import Template

BANNER = (
    '<p class="banner">Synthetic data: the numbers on this page show that the program works,'
    " and say nothing about real land use.</p>"
)


def render_page(title: str, subtitle: str, sections: Iterable[str], *, synthetic: bool) -> str:
    """Render a self-contained page in the style of all reports.

    Args:
        title: Heading, plain text.
        subtitle: Line below the heading, plain text.
        sections: HTML of the sections; empty sections are left out.
        synthetic: Whether a banner says that the data are synthetic.
    """
    page = Template(files(__package__).joinpath("page.html").read_text("utf-8"))
    return page.substitute(
        title=escape(title),
        subtitle=escape(subtitle),
        banner=BANNER if synthetic else "",
        sections="\n".join(filter(None, sections)),
    )
