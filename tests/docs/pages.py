"""The commands in the pages of the documentation."""

import re
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import REPOSITORY

GENERATED = frozenset({"commands", "errors", "http-api", "metrics", "python-api"})
"""Pages of docs/reference/ that `make docs` writes from the code."""

PAGES = [
    REPOSITORY / "README.md",
    REPOSITORY / "CONTRIBUTING.md",
    *sorted(
        path
        for path in (REPOSITORY / "docs").rglob("*.md")
        if path.stem not in GENERATED and "_build" not in path.parts
    ),
]
"""The pages that people write."""

NEEDS = frozenset(
    {"account", "cloud", "cluster", "container engine", "GPU", "hours", "network", "Windows"}
)
"""What a command may need that a test does not have."""

_BLOCK = re.compile(
    r"(?:<!-- (needs|run by): ([^>]*) -->\n)?```(sh|console|bash)\n(.*?)^```", re.S | re.M
)


@dataclass(frozen=True)
class Block:
    """A block of shell commands in a page.

    Attributes:
        page: Path of the page in the repository.
        line: Number of the block's first line, counted from 1.
        text: The commands.
        needs: What the commands need, of `NEEDS`; empty if a test runs the commands.
        run_by: The file of the tests that run the commands; None if test_commands.py runs them.
    """

    page: Path
    line: int
    text: str
    needs: tuple[str, ...] = ()
    run_by: Path | None = None

    @property
    def commands(self) -> list[str]:
        """The commands, one a line, without comments."""
        joined = self.text.replace("\\\n", " ")
        lines = (re.sub(r"(^|\s)#.*", "", line) for line in joined.splitlines())
        return [" ".join(line.split()) for line in lines if line.strip()]

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks_of(path: Path) -> list[Block]:
    """List the blocks of shell commands in a page."""
    content, blocks = path.read_text("utf-8"), []
    for found in _BLOCK.finditer(content):
        mark, value, _, text = found.groups()
        blocks.append(
            Block(
                page=path.relative_to(REPOSITORY),
                line=content[: found.start(4)].count("\n") + 1,
                text=text,
                needs=tuple(value.split(", ")) if mark == "needs" else (),
                run_by=REPOSITORY / value if mark == "run by" else None,
            )
        )
    return blocks


BLOCKS = [block for path in PAGES for block in blocks_of(path)]
"""All blocks of shell commands."""
