"""The page that every report is: one self-contained HTML file in one style."""

from collections.abc import Iterable
from html import escape
from importlib.resources import files
from string import Template

BANNER = (
    '<p class="banner">Synthetic data: these numbers show that the program works and say nothing'
    " about land use.</p>"
)


def render_page(title: str, subtitle: str, sections: Iterable[str], *, synthetic: bool) -> str:
    """One self-contained page in the style of all reports.

    Args:
        title: Heading, plain text.
        subtitle: The line below it, plain text.
        sections: HTML; empty ones are left out.
        synthetic: Whether to say in a banner that the data are synthetic.
    """
    page = Template(files(__package__).joinpath("page.html").read_text("utf-8"))
    return page.substitute(
        title=escape(title),
        subtitle=escape(subtitle),
        banner=BANNER if synthetic else "",
        sections="\n".join(filter(None, sections)),
    )
