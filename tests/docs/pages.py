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

_BLOCK = re.compile(r"(?:<!-- ([^>]*) -->\n)?```(?:sh|console|bash)\n(.*?)^```", re.S | re.M)


@dataclass(frozen=True)
class Block:
    """A block of shell commands in a page.

    Attributes:
        page: Path of the page in the repository.
        line: Number of the block's first line, counted from 1.
        text: The commands.
        needs: What the commands need, of `NEEDS`; empty if a test or CI runs the commands.
        quickstart: Whether the block is the README's quickstart, which CI runs.
    """

    page: Path
    line: int
    text: str
    needs: tuple[str, ...] = ()
    quickstart: bool = False

    @property
    def in_shell(self) -> bool:
        """Whether a shell has to run the commands: other programs than `eurosat`, or services."""
        starts = ("eurosat serve", "eurosat classify", "eurosat init", "eurosat promote")
        return not (self.needs or self.quickstart) and any(
            command.startswith(starts)
            or "registry:" in command
            or "$(" in command
            or not command.startswith(("eurosat ", "jq "))
            for command in self.commands
        )

    @property
    def in_process(self) -> bool:
        """Whether the test's process can run the commands."""
        return not (self.needs or self.quickstart or self.in_shell)

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
        mark, text = found[1] or "", found[2]
        needs = mark.removeprefix("needs: ").split(", ") if mark.startswith("needs: ") else []
        blocks.append(
            Block(
                page=path.relative_to(REPOSITORY),
                line=content[: found.start(2)].count("\n") + 1,
                text=text,
                needs=tuple(needs),
                quickstart=mark == "quickstart",
            )
        )
    return blocks


BLOCKS = [block for path in PAGES for block in blocks_of(path)]
"""All blocks of shell commands."""
