"""What goes wrong before the machine runs, as lines for the person who starts it."""

from __future__ import annotations

from collections.abc import Sequence


class ConfigurationErrors(Exception):
    """The configuration or the command line cannot be used. Exit code 2.

    Attributes:
        lines: one for each mistake: the key, the value, where it came from, what is allowed. No secrets.
    """

    def __init__(self, lines: Sequence[str]) -> None:
        self.lines = tuple(_printable(line) for line in lines)
        super().__init__("\n".join(self.lines))


def _printable(line: str) -> str:
    """What a terminal would obey is written out."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)


class StartError(Exception):
    """A command cannot do its work: a port is taken, a file cannot be opened, a broker refuses. Exit code 1.

    Attributes:
        line: what, where, and what would help; one line, no secrets.
    """

    def __init__(self, line: str) -> None:
        super().__init__(line)
        self.line = line
