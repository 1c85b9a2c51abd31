"""`external-mtas`: what is taken, and what is refused with one clear line."""

from __future__ import annotations

import pytest

import settings

GOOD = {
    "203.0.113.7=socks://192.0.2.1:1080": ("203.0.113.7", "socks", "", "192.0.2.1", 1080),
    "203.0.113.7=http://192.0.2.5@192.0.2.1:3128": ("203.0.113.7", "http", "192.0.2.5", "192.0.2.1", 3128),
    "2001:db8::7=proxy://[2001:db8::1]:25": ("2001:db8::7", "proxy", "", "2001:db8::1", 25),
    "203.0.113.8=nat://192.0.2.2": ("203.0.113.8", "nat", "192.0.2.2", "", 0),
}


@pytest.mark.parametrize(("text", "way"), GOOD.items())
def test_a_way_out_is_read_and_shown_as_it_is_written(text: str, way: tuple[str, str, str, str, int]) -> None:
    """Each protocol; several with commas."""
    loaded = settings.load(["--external-mtas", f"{text}, 203.0.113.99=nat://192.0.2.9"], {}, None)
    assert tuple(loaded.external_mtas[0]) == way and str(loaded.external_mtas[0]) == text
    assert len(loaded.external_mtas) == 2


@pytest.mark.parametrize(
    "text", ["x", "203.0.113.7=ftp://192.0.2.1:1", "203.0.113.7=socks://192.0.2.1", "203.0.113.7=nat://192.0.2.1:25",
             "203.0.113.7=socks://proxy.example:1080", "203.0.113=http://192.0.2.1:1", "203.0.113.7=http://1.2.3.4:70000"]
)  # fmt: skip
def test_what_is_no_way_out_is_refused(text: str) -> None:
    """With what is allowed."""
    with pytest.raises(settings.ConfigurationErrors, match=r"external-mtas.*socks://192.0.2.1:1080"):
        settings.load(["--external-mtas", text], {}, None)
