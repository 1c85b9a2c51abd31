"""Whatever the configuration holds: it loads, or there is one line for each mistake."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

import settings
from settings.config.keys import FIELDS

KEYS = st.sampled_from([name.replace("_", "-") for name in FIELDS])
LINES = st.one_of(
    st.text(), st.builds("{}:{}".format, KEYS, st.text()), st.builds("{}: {}".format, KEYS, st.integers())
)
SHORT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


def outcome(argv: list[str], environ: dict[str, str], file: Path | None) -> None:
    try:
        settings.load(argv, environ, file)
    except settings.ConfigurationErrors as errors:
        assert errors.lines
        assert all(line and line.isprintable() for line in errors.lines), errors.lines


@given(st.one_of(st.binary(), st.lists(LINES).map("\n".join).map(lambda text: text.encode(errors="surrogatepass"))))
def test_any_file_loads_or_gives_lines(content: bytes) -> None:
    """Never a traceback; a line never holds what could play tricks on a terminal."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        outcome([], {}, Path(file.name))


@given(st.lists(st.one_of(SHORT, KEYS.map("--{}".format), st.builds("--{}={}".format, KEYS, SHORT))))
def test_any_command_line_loads_or_gives_lines(argv: list[str]) -> None:
    """The same for arguments."""
    outcome(argv, {}, None)


@given(st.dictionaries(st.one_of(SHORT, KEYS).map(lambda key: f"MAILRACE_{key}".replace("-", "_").upper()), SHORT))
def test_any_environment_loads_or_gives_lines(environ: dict[str, str]) -> None:
    """The same for variables."""
    outcome([], environ, None)
