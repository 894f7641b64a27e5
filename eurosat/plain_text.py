"""Text of other people's files, such as a class name or a file's name, that is safe to print."""


def plain(text: str) -> str:
    r"""Escape what is not printable, so that a text stays on its line and steers no terminal.

    Control characters, the escape sequences that begin with them, and marks that turn the direction
    of a line become escapes such as ``\x1b``. The two joiners of Persian and Indic scripts stay.
    """
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() or c in _JOINERS else c.encode("unicode_escape").decode() for c in text
    )


_JOINERS = "\u200c\u200d"
